//! The calls of a store that this client makes: how each is sent.

use tinykv_proto::kvrpcpb;
use tinykv_proto::store;
use tinykv_proto::store::store_client::StoreClient;
use tinykv_proto::tikvpb::batch_commands_request::request::Cmd as Asked;
use tinykv_proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use tinykv_proto::tikvpb::tikv_client::TikvClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::wire::Ask;

/// Bytes of a response at most. Stores keep pages far below; a single value has up to 8 MiB.
pub(super) const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// A request that can be sent.
pub(crate) trait Rpc: Ask {
    /// Sends the request as a call of its own.
    fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Response>, Status>> + Send
    where
        Self: Sized;

    /// The request as one of many on a stream, if it can be one; else itself.
    fn into_command(self) -> Result<Asked, Self>
    where
        Self: Sized,
    {
        Err(self)
    }

    /// The response, if this answers such a request.
    fn from_command(_answer: Answer) -> Option<Self::Response> {
        None
    }
}

macro_rules! rpc {
    ($request:ty, $client:ident.$method:ident $(, command: $command:ident)?) => {
        impl Rpc for $request {
            async fn unary(
                channel: Channel,
                request: Request<Self>,
            ) -> Result<Response<Self::Response>, Status> {
                let mut client =
                    $client::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
                client.$method(request).await
            }

            $(
                fn into_command(self) -> Result<Asked, Self> {
                    Ok(Asked::$command(self))
                }

                fn from_command(answer: Answer) -> Option<Self::Response> {
                    match answer {
                        Answer::$command(response) => Some(response),
                        _ => None,
                    }
                }
            )?
        }
    };
}

rpc!(kvrpcpb::RawGetRequest, TikvClient.raw_get, command: RawGet);
rpc!(kvrpcpb::RawBatchGetRequest, TikvClient.raw_batch_get, command: RawBatchGet);
rpc!(kvrpcpb::RawScanRequest, TikvClient.raw_scan, command: RawScan);
rpc!(store::RawCountRequest, StoreClient.raw_count);
rpc!(kvrpcpb::RawPutRequest, TikvClient.raw_put, command: RawPut);
rpc!(kvrpcpb::RawBatchPutRequest, TikvClient.raw_batch_put, command: RawBatchPut);
rpc!(kvrpcpb::RawDeleteRequest, TikvClient.raw_delete, command: RawDelete);
rpc!(kvrpcpb::RawBatchDeleteRequest, TikvClient.raw_batch_delete, command: RawBatchDelete);
rpc!(kvrpcpb::RawDeleteRangeRequest, TikvClient.raw_delete_range, command: RawDeleteRange);
rpc!(kvrpcpb::RawCasRequest, TikvClient.raw_compare_and_swap);
rpc!(kvrpcpb::RawChecksumRequest, TikvClient.raw_checksum);
rpc!(store::RawGetExpiryRequest, StoreClient.raw_get_expiry);
rpc!(store::RawIncrementRequest, StoreClient.raw_increment);
rpc!(store::RawAppendRequest, StoreClient.raw_append);
rpc!(store::RawPutIfRequest, StoreClient.raw_put_if);
rpc!(store::RawRemoveRequest, StoreClient.raw_remove);
rpc!(store::RawExpireRequest, StoreClient.raw_expire);
