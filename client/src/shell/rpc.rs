//! The calls of a store that this client makes.

use prost::Message;
use tinykv_proto::errorpb;
use tinykv_proto::kvrpcpb::{self, KvPair};
use tinykv_proto::store;
use tinykv_proto::store::store_client::StoreClient;
use tinykv_proto::tikvpb::batch_commands_request::request::Cmd as Asked;
use tinykv_proto::tikvpb::batch_commands_response::response::Cmd as Answer;
use tinykv_proto::tikvpb::tikv_client::TikvClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::error::Conflict;
use crate::retry::Access;

/// Bytes of a response at most. Stores keep pages far below; a single value has up to 8 MiB.
pub(super) const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// A request to a store.
pub(crate) trait Rpc: Message + 'static {
    /// What the store answers.
    type Response: Send;

    /// Whether the request may be repeated.
    const ACCESS: Access;

    /// Says which region the request is for.
    fn set_context(&mut self, context: kvrpcpb::Context);

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

    /// Takes out why the region could not serve the request.
    fn region_error(response: &mut Self::Response) -> Option<errorpb::Error>;

    /// Why the store refuses the request, or nothing.
    fn refusal(response: &Self::Response) -> Option<String>;

    /// What about the stored value forbids the update, or nothing.
    fn conflict(_response: &Self::Response) -> Option<Conflict> {
        None
    }
}

/// A refusal in a response that has a text for it.
fn told(error: &str) -> Option<String> {
    (!error.is_empty()).then(|| error.to_owned())
}

/// What a store says about the stored value. A kind this client does not know leaves the decision
/// to the text beside it.
fn conflict(told: store::Conflict) -> Option<Conflict> {
    match told {
        store::Conflict::None => None,
        store::Conflict::NotAnInteger => Some(Conflict::NotAnInteger),
        store::Conflict::Overflow => Some(Conflict::Overflow),
        store::Conflict::TooLong => Some(Conflict::TooLong),
    }
}

/// A refusal in a response of pairs: it stands in one of them.
fn told_in_pairs(pairs: &[KvPair]) -> Option<String> {
    let error = pairs.iter().find_map(|pair| pair.error.as_ref())?;
    Some(if error.abort.is_empty() {
        error.retryable.clone()
    } else {
        error.abort.clone()
    })
}

macro_rules! rpc {
    (
        $request:ty, $response:ty, $access:ident, $client:ident.$method:ident, $refusal:expr
        $(, conflict: $conflict:ident)?
        $(, command: $command:ident)?
    ) => {
        impl Rpc for $request {
            type Response = $response;

            const ACCESS: Access = Access::$access;

            fn set_context(&mut self, context: kvrpcpb::Context) {
                self.context = Some(context);
            }

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

                fn from_command(answer: Answer) -> Option<$response> {
                    match answer {
                        Answer::$command(response) => Some(response),
                        _ => None,
                    }
                }
            )?

            fn region_error(response: &mut $response) -> Option<errorpb::Error> {
                response.region_error.take()
            }

            fn refusal(response: &$response) -> Option<String> {
                let refusal: fn(&$response) -> Option<String> = $refusal;
                refusal(response)
            }

            $(
                fn $conflict(response: &$response) -> Option<Conflict> {
                    conflict(response.conflict())
                }
            )?
        }
    };
}

rpc!(
    kvrpcpb::RawGetRequest,
    kvrpcpb::RawGetResponse,
    Read,
    TikvClient.raw_get,
    |it| told(&it.error),
    command: RawGet
);
rpc!(
    kvrpcpb::RawBatchGetRequest,
    kvrpcpb::RawBatchGetResponse,
    Read,
    TikvClient.raw_batch_get,
    |it| told_in_pairs(&it.pairs),
    command: RawBatchGet
);
rpc!(
    kvrpcpb::RawScanRequest,
    kvrpcpb::RawScanResponse,
    Read,
    TikvClient.raw_scan,
    |it| { told_in_pairs(&it.kvs) },
    command: RawScan
);
rpc!(
    store::RawCountRequest,
    store::RawCountResponse,
    Read,
    StoreClient.raw_count,
    |it| told(&it.error)
);
rpc!(
    kvrpcpb::RawPutRequest,
    kvrpcpb::RawPutResponse,
    Write,
    TikvClient.raw_put,
    |it| told(&it.error),
    command: RawPut
);
rpc!(
    kvrpcpb::RawBatchPutRequest,
    kvrpcpb::RawBatchPutResponse,
    Write,
    TikvClient.raw_batch_put,
    |it| told(&it.error),
    command: RawBatchPut
);
rpc!(
    kvrpcpb::RawDeleteRequest,
    kvrpcpb::RawDeleteResponse,
    Write,
    TikvClient.raw_delete,
    |it| told(&it.error),
    command: RawDelete
);
rpc!(
    kvrpcpb::RawBatchDeleteRequest,
    kvrpcpb::RawBatchDeleteResponse,
    Write,
    TikvClient.raw_batch_delete,
    |it| told(&it.error),
    command: RawBatchDelete
);
rpc!(
    kvrpcpb::RawDeleteRangeRequest,
    kvrpcpb::RawDeleteRangeResponse,
    Write,
    TikvClient.raw_delete_range,
    |it| told(&it.error),
    command: RawDeleteRange
);
rpc!(
    kvrpcpb::RawCasRequest,
    kvrpcpb::RawCasResponse,
    Write,
    TikvClient.raw_compare_and_swap,
    |it| told(&it.error)
);
rpc!(
    kvrpcpb::RawChecksumRequest,
    kvrpcpb::RawChecksumResponse,
    Read,
    TikvClient.raw_checksum,
    |it| told(&it.error)
);
rpc!(
    store::RawGetExpiryRequest,
    store::RawGetExpiryResponse,
    Read,
    StoreClient.raw_get_expiry,
    |it| told(&it.error)
);
rpc!(
    store::RawIncrementRequest,
    store::RawIncrementResponse,
    Write,
    StoreClient.raw_increment,
    |it| told(&it.error),
    conflict: conflict
);
rpc!(
    store::RawAppendRequest,
    store::RawAppendResponse,
    Write,
    StoreClient.raw_append,
    |it| told(&it.error),
    conflict: conflict
);
rpc!(
    store::RawPutIfRequest,
    store::RawPutIfResponse,
    Write,
    StoreClient.raw_put_if,
    |it| told(&it.error)
);
rpc!(
    store::RawRemoveRequest,
    store::RawRemoveResponse,
    Write,
    StoreClient.raw_remove,
    |it| told(&it.error)
);
rpc!(
    store::RawExpireRequest,
    store::RawExpireResponse,
    Write,
    StoreClient.raw_expire,
    |it| told(&it.error)
);
