//! `BatchCommands`: every id is answered, by a call of the same number.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinykv_proto::kvrpcpb as pb;
use tinykv_proto::tikvpb::batch_commands_request::Request;
use tinykv_proto::tikvpb::batch_commands_request::request::Cmd as Asked;
use tinykv_proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use tinykv_proto::tikvpb::{
    BatchCommandsEmptyRequest, BatchCommandsRequest, BatchCommandsResponse, UnservedRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Running, Setting, in_time};

/// A stream of calls.
struct Calls {
    requests: Option<mpsc::Sender<BatchCommandsRequest>>,
    answers: Streaming<BatchCommandsResponse>,
}

impl Calls {
    async fn open(running: &Running) -> Calls {
        let (requests, stream) = mpsc::channel(16);
        let answers = running
            .client
            .clone()
            .batch_commands(ReceiverStream::new(stream))
            .await
            .expect("opened")
            .into_inner();
        let requests = Some(requests);
        Calls { requests, answers }
    }

    async fn send(&self, calls: impl IntoIterator<Item = (u64, Option<Asked>)>) {
        let (ids, calls): (Vec<u64>, Vec<_>) = calls.into_iter().unzip();
        let message = BatchCommandsRequest {
            requests: calls.into_iter().map(|cmd| Request { cmd }).collect(),
            request_ids: ids,
        };
        let requests = self.requests.as_ref().expect("not ended");
        requests.send(message).await.expect("the stream is open");
    }

    /// The answers up to so many.
    async fn receive(&mut self, count: usize) -> BTreeMap<u64, Option<Answer>> {
        let mut all = BTreeMap::new();
        while all.len() < count {
            let message = self.answers.message().await.expect("no error");
            let message = message.expect("the stream goes on");
            assert_eq!(message.responses.len(), message.request_ids.len());
            for (id, response) in message.request_ids.into_iter().zip(message.responses) {
                assert!(all.insert(id, response.cmd).is_none(), "{id} twice");
            }
        }
        all
    }

    async fn end(mut self) -> Result<Option<BatchCommandsResponse>, Status> {
        self.requests = None;
        self.answers.message().await
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number:04}"))
}

fn put(running: &Running, number: u64, value: Bytes) -> Asked {
    Asked::RawPut(pb::RawPutRequest {
        context: running.context(b"k"),
        key: key(number),
        value,
        ..pb::RawPutRequest::default()
    })
}

fn get(running: &Running, number: u64) -> Asked {
    Asked::RawGet(pb::RawGetRequest {
        context: running.context(b"k"),
        key: key(number),
        ..pb::RawGetRequest::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_stream_is_answered() {
    in_time(async {
        let dir = tempfile::tempdir().expect("temp dir");
        let setting = Setting::new().await;
        let running = setting.start(dir.path()).await;
        many(&running).await;
        of_each_kind(&running).await;
        what_is_wrong(&running).await;
        a_client_that_goes_away(&running).await;
        health(&running).await;
        // A stream that its client never ends does not hold up the end of the store.
        let open = Calls::open(&running).await;
        running.end().await;
        drop(open);
        setting.end().await;
    })
    .await;
}

/// What clients ask after a call has failed.
async fn health(running: &Running) {
    let channel = Channel::from_shared(format!("http://{}", running.store.address));
    let channel = channel.expect("an address").connect_lazy();
    let request = HealthCheckRequest::default();
    let answer = HealthClient::new(channel).check(request).await;
    let status = answer.expect("answered").into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
}

async fn many(running: &Running) {
    let mut calls = Calls::open(running).await;
    for round in 0..4 {
        let numbers = round * 150..(round + 1) * 150;
        let value = |number: u64| Bytes::from(format!("value {number}"));
        calls
            .send(numbers.map(|number| (number, Some(put(running, number, value(number))))))
            .await;
    }
    for (id, answer) in calls.receive(600).await {
        let stored = Some(Answer::RawPut(pb::RawPutResponse::default()));
        assert_eq!(answer, stored, "put {id}");
    }
    calls
        .send((0..600).map(|number| (1000 + number, Some(get(running, number)))))
        .await;
    for (id, answer) in calls.receive(600).await {
        match answer {
            Some(Answer::RawGet(found)) => {
                assert_eq!(found.value, format!("value {}", id - 1000));
            }
            other => panic!("get {id} was answered by {other:?}"),
        }
    }
    assert_eq!(calls.end().await.expect("an orderly end"), None);
}

async fn of_each_kind(running: &Running) {
    let mut calls = Calls::open(running).await;
    let context = running.context(b"k");
    let pair = pb::KvPair {
        key: key(0),
        value: Bytes::from_static(b"new"),
        ..pb::KvPair::default()
    };
    let whole = pb::KeyRange {
        start_key: Bytes::from_static(b"k"),
        end_key: Bytes::from_static(b"l"),
    };
    calls
        .send([
            (1, Some(Asked::Get(UnservedRequest {}))),
            (2, Some(Asked::Coprocessor(UnservedRequest {}))),
            (3, None),
            (
                4,
                Some(Asked::Empty(BatchCommandsEmptyRequest {
                    test_id: 44,
                    delay_time: 1,
                })),
            ),
            (
                5,
                Some(Asked::RawBatchPut(pb::RawBatchPutRequest {
                    context: context.clone(),
                    pairs: vec![pair],
                    ..pb::RawBatchPutRequest::default()
                })),
            ),
            (
                6,
                Some(Asked::RawBatchScan(pb::RawBatchScanRequest {
                    context: context.clone(),
                    ranges: vec![whole.clone(), whole],
                    each_limit: 2,
                    ..pb::RawBatchScanRequest::default()
                })),
            ),
            (
                7,
                Some(Asked::RawDelete(pb::RawDeleteRequest {
                    context: None,
                    key: key(0),
                    ..pb::RawDeleteRequest::default()
                })),
            ),
        ])
        .await;
    let mut answers = calls.receive(7).await;
    let mut answer = |id| answers.remove(&id).expect("answered");
    let Some(Answer::Get(unserved)) = answer(1) else {
        panic!("another call than the one asked")
    };
    let sentence = unserved.region_error.expect("told").message;
    assert!(sentence.contains("transactions"), "{sentence}");
    let Some(Answer::Coprocessor(unserved)) = answer(2) else {
        panic!("another call than the one asked")
    };
    assert!(unserved.region_error.is_some());
    assert_eq!(answer(3), None, "an answer to a call of an unknown number");
    let Some(Answer::Empty(empty)) = answer(4) else {
        panic!("another call than the one asked")
    };
    assert_eq!(empty.test_id, 44);
    assert_eq!(
        answer(5),
        Some(Answer::RawBatchPut(pb::RawBatchPutResponse::default()))
    );
    let Some(Answer::RawBatchScan(scanned)) = answer(6) else {
        panic!("another call than the one asked")
    };
    assert_eq!(scanned.kvs.len(), 4);
    let Some(Answer::RawDelete(deleted)) = answer(7) else {
        panic!("another call than the one asked")
    };
    let error = deleted.region_error.expect("meant for nobody");
    assert!(error.store_not_match.is_some(), "{error:?}");
    assert_eq!(calls.end().await.expect("an orderly end"), None);
}

async fn what_is_wrong(running: &Running) {
    let mut calls = Calls::open(running).await;
    let message = BatchCommandsRequest {
        requests: vec![Request { cmd: None }],
        request_ids: vec![1, 2],
    };
    let requests = calls.requests.as_ref().expect("not ended");
    requests.send(message).await.expect("the stream is open");
    let status = calls.answers.message().await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "1 requests with 2 request ids; each request needs one id"
    );
    // Other streams are not concerned.
    assert_eq!(running.get("k0001").await.as_deref(), Some("value 1"));
}

/// Values of more bytes than may be under way; the client leaves in the middle of it.
async fn a_client_that_goes_away(running: &Running) {
    let mut calls = Calls::open(running).await;
    let value = Bytes::from(vec![7; 4 << 20]);
    for number in 0..6 {
        let large = put(running, number, value.clone());
        calls.send([(number, Some(large))]).await;
    }
    calls.receive(1).await;
    drop(calls);
    let mut again = Calls::open(running).await;
    again.send([(1, Some(get(running, 100)))]).await;
    assert_eq!(again.receive(1).await.len(), 1);
}
