//! One call of a stream of calls.

use std::time::Duration;

use tinykv_proto::tikvpb as pb;
use tinykv_proto::tikvpb::batch_commands_request::request::Cmd as Asked;
use tinykv_proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use tinykv_proto::{errorpb, kvrpcpb};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::super::{Calls, deadline};

/// Longest time a call that does nothing takes.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Carries out a raw call; what the store cannot read at all is told as a region error, because a
/// status would end the stream for all calls on it.
macro_rules! raw {
    ($calls:ident, $request:ident, $answer:ident, $response:ident) => {{
        let deadline = $calls.deadline_of($request.context.as_ref());
        let answered = $calls.$answer($request, deadline).await;
        answered.unwrap_or_else(|status| kvrpcpb::$response {
            region_error: Some(told(&status)),
            ..kvrpcpb::$response::default()
        })
    }};
}

impl Calls {
    /// Carries out one call; the answer has the same number. `None` for no call at all.
    pub(super) async fn carry_out(&self, asked: Asked) -> Option<Answer> {
        Some(match asked {
            Asked::RawGet(request) => {
                Answer::RawGet(raw!(self, request, answer_raw_get, RawGetResponse))
            }
            Asked::RawBatchGet(request) => Answer::RawBatchGet(raw!(
                self,
                request,
                answer_raw_batch_get,
                RawBatchGetResponse
            )),
            Asked::RawPut(request) => {
                Answer::RawPut(raw!(self, request, answer_raw_put, RawPutResponse))
            }
            Asked::RawBatchPut(request) => Answer::RawBatchPut(raw!(
                self,
                request,
                answer_raw_batch_put,
                RawBatchPutResponse
            )),
            Asked::RawDelete(request) => {
                Answer::RawDelete(raw!(self, request, answer_raw_delete, RawDeleteResponse))
            }
            Asked::RawBatchDelete(request) => Answer::RawBatchDelete(raw!(
                self,
                request,
                answer_raw_batch_delete,
                RawBatchDeleteResponse
            )),
            Asked::RawScan(request) => {
                Answer::RawScan(raw!(self, request, answer_raw_scan, RawScanResponse))
            }
            Asked::RawDeleteRange(request) => Answer::RawDeleteRange(raw!(
                self,
                request,
                answer_raw_delete_range,
                RawDeleteRangeResponse
            )),
            Asked::RawBatchScan(request) => Answer::RawBatchScan(raw!(
                self,
                request,
                answer_raw_batch_scan,
                RawBatchScanResponse
            )),
            Asked::Empty(request) => {
                let delay = Duration::from_millis(request.delay_time).min(DELAY_MAX);
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let test_id = request.test_id;
                Answer::Empty(pb::BatchCommandsEmptyResponse { test_id })
            }
            other => return unserved(&other),
        })
    }

    /// When the asker of one call of a stream stops waiting: its context says so, or nobody.
    fn deadline_of(&self, context: Option<&kvrpcpb::Context>) -> Duration {
        let execution_ms = context.map_or(0, |context| context.max_execution_duration_ms);
        self.deadline(deadline::patience(&MetadataMap::new(), execution_ms))
    }
}

fn told(status: &Status) -> errorpb::Error {
    errorpb::Error {
        message: status.message().to_owned(),
        ..errorpb::Error::default()
    }
}

/// The answer to a call that is not served, of the same number.
fn unserved(asked: &Asked) -> Option<Answer> {
    let region_error = Some(errorpb::Error {
        message: "this store serves raw calls; transactions and coprocessors are not served"
            .to_owned(),
        ..errorpb::Error::default()
    });
    let error = pb::UnservedResponse {
        region_error: region_error.clone(),
    };
    Some(match asked {
        Asked::Get(_) => Answer::Get(error),
        Asked::Scan(_) => Answer::Scan(error),
        Asked::Prewrite(_) => Answer::Prewrite(error),
        Asked::Commit(_) => Answer::Commit(error),
        Asked::Import(_) => Answer::Import(error),
        Asked::Cleanup(_) => Answer::Cleanup(error),
        Asked::BatchGet(_) => Answer::BatchGet(error),
        Asked::BatchRollback(_) => Answer::BatchRollback(error),
        Asked::ScanLock(_) => Answer::ScanLock(error),
        Asked::ResolveLock(_) => Answer::ResolveLock(error),
        Asked::Gc(_) => Answer::Gc(error),
        Asked::DeleteRange(_) => Answer::DeleteRange(error),
        Asked::Coprocessor(_) => {
            Answer::Coprocessor(pb::UnservedCoprocessorResponse { region_error })
        }
        Asked::PessimisticLock(_) => Answer::PessimisticLock(error),
        Asked::PessimisticRollback(_) => Answer::PessimisticRollback(error),
        Asked::CheckTxnStatus(_) => Answer::CheckTxnStatus(error),
        Asked::TxnHeartBeat(_) => Answer::TxnHeartBeat(error),
        Asked::CheckSecondaryLocks(_) => Answer::CheckSecondaryLocks(error),
        Asked::RawCoprocessor(_) => Answer::RawCoprocessor(error),
        Asked::FlashbackToVersion(_) => Answer::FlashbackToVersion(error),
        Asked::PrepareFlashbackToVersion(_) => Answer::PrepareFlashbackToVersion(error),
        Asked::Flush(_) => Answer::Flush(error),
        Asked::BufferBatchGet(_) => Answer::BufferBatchGet(error),
        Asked::GetHealthFeedback(_) => Answer::GetHealthFeedback(error),
        Asked::BroadcastTxnStatus(_) => Answer::BroadcastTxnStatus(error),
        Asked::RawGet(_)
        | Asked::RawBatchGet(_)
        | Asked::RawPut(_)
        | Asked::RawBatchPut(_)
        | Asked::RawDelete(_)
        | Asked::RawBatchDelete(_)
        | Asked::RawScan(_)
        | Asked::RawDeleteRange(_)
        | Asked::RawBatchScan(_)
        | Asked::Empty(_) => return None,
    })
}
