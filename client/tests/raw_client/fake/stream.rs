//! The fake's stores: many calls on one stream.

use futures::stream::unfold;
use tinykv_proto::tikvpb::batch_commands_request::request::Cmd as Asked;
use tinykv_proto::tikvpb::batch_commands_response::Response as Answered;
use tinykv_proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use tinykv_proto::tikvpb::tikv_server::Tikv;
use tinykv_proto::tikvpb::{
    BatchCommandsEmptyResponse, BatchCommandsRequest, BatchCommandsResponse,
};
use tokio::task::JoinSet;
use tonic::codegen::BoxStream;
use tonic::{Request, Status, Streaming};

use super::tikv::Node;

/// Marks requests that came on a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByStream;

/// A stream that is served. Each request is on its own; a status ends the stream.
struct Served {
    node: Node,
    requests: Streaming<BatchCommandsRequest>,
    calls: JoinSet<Result<BatchCommandsResponse, Status>>,
}

pub(super) fn answers(
    node: Node,
    requests: Streaming<BatchCommandsRequest>,
) -> BoxStream<BatchCommandsResponse> {
    let served = Served {
        node,
        requests,
        calls: JoinSet::new(),
    };
    Box::pin(unfold(served, |mut served| async move {
        served.next().await.map(|answer| (answer, served))
    }))
}

impl Served {
    async fn next(&mut self) -> Option<Result<BatchCommandsResponse, Status>> {
        loop {
            tokio::select! {
                biased;
                Some(answer) = self.calls.join_next() => {
                    return Some(answer.expect("calls do not panic"));
                }
                message = self.requests.message() => {
                    let Ok(Some(message)) = message else {
                        return None;
                    };
                    self.begin(message);
                }
            }
        }
    }

    fn begin(&mut self, message: BatchCommandsRequest) {
        self.node.world.lock().expect("no panic").messages += 1;
        for (id, request) in message.request_ids.into_iter().zip(message.requests) {
            let node = self.node.clone();
            self.calls.spawn(async move {
                let asked = request.cmd.expect("clients ask for something");
                let answer = serve(&node, asked).await?;
                Ok(BatchCommandsResponse {
                    request_ids: vec![id],
                    responses: vec![Answered { cmd: Some(answer) }],
                    ..BatchCommandsResponse::default()
                })
            });
        }
    }
}

async fn serve(node: &Node, asked: Asked) -> Result<Answer, Status> {
    macro_rules! serve {
        ($request:expr, $call:ident, $answer:ident) => {{
            let mut request = Request::new($request);
            request.extensions_mut().insert(ByStream);
            Answer::$answer(node.$call(request).await?.into_inner())
        }};
    }
    Ok(match asked {
        Asked::RawGet(it) => serve!(it, raw_get, RawGet),
        Asked::RawBatchGet(it) => serve!(it, raw_batch_get, RawBatchGet),
        Asked::RawPut(it) => serve!(it, raw_put, RawPut),
        Asked::RawBatchPut(it) => serve!(it, raw_batch_put, RawBatchPut),
        Asked::RawDelete(it) => serve!(it, raw_delete, RawDelete),
        Asked::RawBatchDelete(it) => serve!(it, raw_batch_delete, RawBatchDelete),
        Asked::RawScan(it) => serve!(it, raw_scan, RawScan),
        Asked::RawDeleteRange(it) => serve!(it, raw_delete_range, RawDeleteRange),
        Asked::Empty(it) => Answer::Empty(BatchCommandsEmptyResponse {
            test_id: it.test_id,
        }),
        _ => return Err(Status::unimplemented("not here")),
    })
}
