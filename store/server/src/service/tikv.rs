//! `tikvpb.Tikv` over gRPC: TiKV's raw calls, one by one and many on a stream.

use std::time::Duration;

use tinykv_node::server::DECODE_BYTES_MAX;
use tinykv_proto::tikvpb::tikv_server::{Tikv, TikvServer};
use tinykv_proto::{kvrpcpb as pb, tikvpb};
use tonic::codec::CompressionEncoding;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::batch::Batch;
use super::{Calls, deadline};
use crate::limits;

pub(super) fn server(calls: Calls) -> TikvServer<Calls> {
    TikvServer::new(calls)
        .max_decoding_message_size(DECODE_BYTES_MAX)
        .max_encoding_message_size(limits::ANSWER_BYTES_MAX * 2)
        .accept_compressed(CompressionEncoding::Gzip)
}

/// Takes the message out and notes until when it is waited for.
pub(super) fn open<T>(
    calls: &Calls,
    request: Request<T>,
    context: fn(&T) -> Option<&pb::Context>,
) -> (T, Duration) {
    let execution_ms =
        context(request.get_ref()).map_or(0, |context| context.max_execution_duration_ms);
    let patience = deadline::patience(request.metadata(), execution_ms);
    (request.into_inner(), calls.deadline(patience))
}

#[tonic::async_trait]
impl Tikv for Calls {
    async fn raw_get(
        &self,
        request: Request<pb::RawGetRequest>,
    ) -> Result<Response<pb::RawGetResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_get(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_batch_get(
        &self,
        request: Request<pb::RawBatchGetRequest>,
    ) -> Result<Response<pb::RawBatchGetResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_batch_get(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_scan(
        &self,
        request: Request<pb::RawScanRequest>,
    ) -> Result<Response<pb::RawScanResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_scan(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_get_key_ttl(
        &self,
        request: Request<pb::RawGetKeyTtlRequest>,
    ) -> Result<Response<pb::RawGetKeyTtlResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_get_key_ttl(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_put(
        &self,
        request: Request<pb::RawPutRequest>,
    ) -> Result<Response<pb::RawPutResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_put(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_batch_put(
        &self,
        request: Request<pb::RawBatchPutRequest>,
    ) -> Result<Response<pb::RawBatchPutResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_batch_put(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_delete(
        &self,
        request: Request<pb::RawDeleteRequest>,
    ) -> Result<Response<pb::RawDeleteResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_delete(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_batch_delete(
        &self,
        request: Request<pb::RawBatchDeleteRequest>,
    ) -> Result<Response<pb::RawBatchDeleteResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_batch_delete(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_delete_range(
        &self,
        request: Request<pb::RawDeleteRangeRequest>,
    ) -> Result<Response<pb::RawDeleteRangeResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_delete_range(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_compare_and_swap(
        &self,
        request: Request<pb::RawCasRequest>,
    ) -> Result<Response<pb::RawCasResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_compare_and_swap(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_batch_scan(
        &self,
        request: Request<pb::RawBatchScanRequest>,
    ) -> Result<Response<pb::RawBatchScanResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_batch_scan(request, deadline)
            .await
            .map(Response::new)
    }

    async fn raw_checksum(
        &self,
        request: Request<pb::RawChecksumRequest>,
    ) -> Result<Response<pb::RawChecksumResponse>, Status> {
        let (request, deadline) = open(self, request, |request| request.context.as_ref());
        self.answer_raw_checksum(request, deadline)
            .await
            .map(Response::new)
    }

    async fn split_region(
        &self,
        request: Request<pb::SplitRegionRequest>,
    ) -> Result<Response<pb::SplitRegionResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.answer_split_region(&request).await))
    }

    async fn batch_commands(
        &self,
        request: Request<Streaming<tikvpb::BatchCommandsRequest>>,
    ) -> Result<Response<BoxStream<tikvpb::BatchCommandsResponse>>, Status> {
        let batch = Batch::new(self.clone(), request.into_inner());
        Ok(Response::new(Box::pin(batch.answers())))
    }
}
