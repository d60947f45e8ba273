//! The stream of timestamps.

use futures::stream;
use tinykv_proto::pdpb;

use super::cluster::{Placement, directory};

/// Draws batches of these sizes over one stream; returns the versions of first and last of each.
pub(crate) async fn draw(placement: &Placement, counts: &[u32]) -> Vec<(u64, u64)> {
    let header = placement.header();
    let requests: Vec<pdpb::TsoRequest> = counts
        .iter()
        .map(|count| pdpb::TsoRequest {
            header: header.clone(),
            count: *count,
            dc_location: String::new(),
        })
        .collect();
    let mut client = placement.client().await;
    let answers = client.tso(stream::iter(requests)).await.expect("a stream");
    let mut answers = answers.into_inner();
    let mut drawn = Vec::new();
    for count in counts {
        let answer = answers
            .message()
            .await
            .expect("no error")
            .expect("one per request");
        assert_eq!(answer.count, *count);
        let timestamp = answer.timestamp.expect("a timestamp");
        let last = u64::try_from((timestamp.physical << 18) + timestamp.logical).expect("positive");
        drawn.push((last - u64::from(count - 1), last));
    }
    assert_eq!(
        answers.message().await.expect("no error"),
        None,
        "the stream ends with the requests"
    );
    drawn
}

#[tokio::test]
async fn batches_follow_each_other_without_overlap() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let counts = [1, 64, 1, 262_144, 262_144, 7, 200_000];
    let mut largest = 0;
    for round in 0..5 {
        for (first, last) in draw(&placement, &counts).await {
            assert!(first > largest, "round {round}: {first} after {largest}");
            largest = last;
        }
    }
    placement.stop().await;
}

#[tokio::test]
async fn streams_side_by_side_never_get_the_same() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    let counts = [3; 200];
    let (one, two, three) = tokio::join!(
        draw(&placement, &counts),
        draw(&placement, &counts),
        draw(&placement, &counts)
    );
    let mut all: Vec<(u64, u64)> = [one, two, three].concat();
    all.sort_unstable();
    for pair in all.windows(2) {
        assert!(pair[0].1 < pair[1].0, "{pair:?}");
    }
    placement.stop().await;
}

#[tokio::test]
async fn a_batch_of_nothing_is_refused() {
    let data = directory();
    let placement = Placement::start(data.path()).await;
    for count in [0, 262_145] {
        let request = pdpb::TsoRequest {
            header: placement.header(),
            count,
            ..Default::default()
        };
        let mut client = placement.client().await;
        let answers = client.tso(stream::iter([request])).await.expect("a stream");
        let status = answers.into_inner().message().await.expect_err("refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
    placement.stop().await;
}
