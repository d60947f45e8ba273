//! What one stream for many calls is worth: calls a second at 64 at a time, on streams and each on
//! its own, against stores in this process that only keep a map.
//!
//! ```console
//! $ cargo run --release -p tinykv-client --example coalescing
//! ```

#[path = "../tests/raw_client/fake/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod fake;

use std::time::Duration;

use fake::Fake;
use tinykv_client::RawClient;
use tokio::time::Instant;

/// Calls at a time.
const CALLERS: usize = 64;

/// How long each is measured.
const TIME: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() {
    for _ in 0..3 {
        for knows_streams in [false, true] {
            let fake = Fake::start().await;
            fake.world().knows_streams = knows_streams;
            let client = fake.client(Duration::from_secs(10));
            client.put("k", "v").await.expect("the cluster is well");
            // The stream opens beside the calls.
            run(&client, TIME / 8).await;
            let (calls, took) = run(&client, TIME).await;
            let name = match knows_streams {
                true => "on one stream",
                false => "each on its own",
            };
            let rate = calls as f64 / took.as_secs_f64();
            println!("{name:<16} {rate:>9.0} calls a second");
        }
    }
}

/// Gets and puts, half and half, until the time is over; how many, and how long it took.
async fn run(client: &RawClient, time: Duration) -> (usize, Duration) {
    let began = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            let key = format!("key{caller}");
            let mut calls = 0;
            while began.elapsed() < time {
                client.put(key.clone(), "value").await.expect("all is well");
                client.get(key.clone()).await.expect("all is well");
                calls += 2;
            }
            calls
        });
    }
    let calls = callers.join_all().await.into_iter().sum();
    (calls, began.elapsed())
}
