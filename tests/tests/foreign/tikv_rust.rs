//! `tikv-client` 0.4, TiKV's client for Rust, as it comes from crates.io.

use std::time::Duration;

use tikv_client::{BoundRange, Config, KvPair, RawClient};

use super::{cluster, key, within_limit};

const KEYS: u32 = 200;

#[test]
fn its_raw_calls_work_over_many_regions() {
    let cluster = cluster();
    within_limit(async {
        // Its own patience is two seconds, which a machine under load may need for one fsync.
        let config = Config::default().with_timeout(Duration::from_secs(30));
        let client = RawClient::new_with_config(cluster.placements(), config).await;
        let client = client.map_err(|error| error.to_string())?;
        let done = every_call(&client).await;
        done.map_err(|error| format!("{error}\n{}", cluster.logs()))
    });
}

async fn every_call(client: &RawClient) -> Result<(), tikv_client::Error> {
    one_key(client).await?;
    let pairs: Vec<KvPair> = (0..KEYS).map(pair).collect();
    client.batch_put(pairs.clone()).await?;
    let found = client.batch_get((0..KEYS).map(key)).await?;
    assert_eq!(sorted(found), pairs);

    let all: BoundRange = (key(0)..key(KEYS)).into();
    assert_eq!(client.scan(all.clone(), KEYS + 1).await?, pairs);
    assert_eq!(client.scan(all.clone(), 130).await?, pairs[..130]);
    let middle: BoundRange = (key(35)..key(45)).into();
    assert_eq!(client.scan(middle.clone(), 100).await?, pairs[35..45]);
    let keys = client.scan_keys(middle.clone(), 100).await?;
    let expected: Vec<tikv_client::Key> = (35..45).map(|number| key(number).into()).collect();
    assert_eq!(keys, expected);
    // This client puts the regions of a reverse scan in the wrong order: one region alone.
    let one_region: BoundRange = (key(20)..key(40)).into();
    let mut backwards = client.scan_reverse(one_region, 5).await?;
    backwards.reverse();
    assert_eq!(backwards, pairs[35..40]);
    let each: [BoundRange; 2] = [(key(0)..key(50)).into(), (key(50)..key(150)).into()];
    assert_eq!(client.batch_scan(each, 200).await?.len(), 150);

    client.batch_delete((0..10).map(key)).await?;
    client.delete_range(key(90)..key(130)).await?;
    let left = client.scan(all, KEYS + 1).await?;
    let expected = [&pairs[10..90], &pairs[130..]].concat();
    assert_eq!(left, expected);
    compare_and_swap(&client.with_atomic_for_cas()).await?;
    times_to_live(client).await
}

async fn one_key(client: &RawClient) -> Result<(), tikv_client::Error> {
    assert_eq!(client.get("k100".to_owned()).await?, None);
    client.put("k100".to_owned(), "one").await?;
    client.put("k100".to_owned(), "two").await?;
    assert_eq!(client.get("k100".to_owned()).await?, Some(b"two".to_vec()));
    client.delete("k100".to_owned()).await?;
    assert_eq!(client.get("k100".to_owned()).await?, None);
    // About the longest that it takes unless told otherwise.
    let long = vec![7; 4_000_000];
    client.put("k199".to_owned(), long.clone()).await?;
    assert_eq!(client.get("k199".to_owned()).await?, Some(long));
    Ok(())
}

async fn compare_and_swap(client: &RawClient) -> Result<(), tikv_client::Error> {
    let swap = async |expected: Option<&str>, new: &str| {
        let expected = expected.map(|text| text.as_bytes().to_vec());
        client
            .compare_and_swap("cas".to_owned(), expected, new.as_bytes().to_vec())
            .await
    };
    assert_eq!(swap(None, "1").await?, (None, true));
    assert_eq!(swap(None, "2").await?, (Some(b"1".to_vec()), false));
    assert_eq!(swap(Some("1"), "2").await?, (Some(b"1".to_vec()), true));
    assert_eq!(swap(Some("1"), "3").await?, (Some(b"2".to_vec()), false));
    Ok(())
}

async fn times_to_live(client: &RawClient) -> Result<(), tikv_client::Error> {
    client.put_with_ttl("ttl".to_owned(), "v", 1_000).await?;
    let left = client.get_key_ttl_secs("ttl".to_owned()).await?;
    assert!(
        left.is_some_and(|left| (900..=1_000).contains(&left)),
        "{left:?}"
    );
    client.put_with_ttl("short".to_owned(), "v", 1).await?;
    let mut look = tokio::time::interval(Duration::from_millis(50));
    while client.get("short".to_owned()).await?.is_some() {
        look.tick().await;
    }
    assert_eq!(client.get_key_ttl_secs("short".to_owned()).await?, None);
    Ok(())
}

fn pair(number: u32) -> KvPair {
    KvPair::new(key(number), format!("value {number}"))
}

fn sorted(mut pairs: Vec<KvPair>) -> Vec<KvPair> {
    pairs.sort_by(|a, b| a.key().cmp(b.key()));
    pairs
}
