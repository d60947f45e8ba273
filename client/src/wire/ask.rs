//! The calls of a store that this client makes: what each message says about itself.

use prost::Message;
use tinykv_proto::errorpb;
use tinykv_proto::kvrpcpb::{self, KvPair};
use tinykv_proto::store;

use crate::error::Conflict;
use crate::retry::Access;

/// A request to a store.
pub trait Ask: Message + 'static {
    /// What the store answers.
    type Response: Message + Default;

    /// Whether the request may be repeated.
    const ACCESS: Access;

    /// Says which region the request is for.
    fn set_context(&mut self, context: kvrpcpb::Context);

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

macro_rules! ask {
    ($request:ty, $response:ty, $access:ident, $refusal:expr $(, conflict: $conflict:ident)?) => {
        impl Ask for $request {
            type Response = $response;

            const ACCESS: Access = Access::$access;

            fn set_context(&mut self, context: kvrpcpb::Context) {
                self.context = Some(context);
            }

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

ask!(
    kvrpcpb::RawGetRequest,
    kvrpcpb::RawGetResponse,
    Read,
    |it| told(&it.error)
);
ask!(
    kvrpcpb::RawBatchGetRequest,
    kvrpcpb::RawBatchGetResponse,
    Read,
    |it| told_in_pairs(&it.pairs)
);
ask!(
    kvrpcpb::RawScanRequest,
    kvrpcpb::RawScanResponse,
    Read,
    |it| told_in_pairs(&it.kvs)
);
ask!(
    store::RawCountRequest,
    store::RawCountResponse,
    Read,
    |it| told(&it.error)
);
ask!(
    kvrpcpb::RawPutRequest,
    kvrpcpb::RawPutResponse,
    Write,
    |it| told(&it.error)
);
ask!(
    kvrpcpb::RawBatchPutRequest,
    kvrpcpb::RawBatchPutResponse,
    Write,
    |it| told(&it.error)
);
ask!(
    kvrpcpb::RawDeleteRequest,
    kvrpcpb::RawDeleteResponse,
    Write,
    |it| told(&it.error)
);
ask!(
    kvrpcpb::RawBatchDeleteRequest,
    kvrpcpb::RawBatchDeleteResponse,
    Write,
    |it| told(&it.error)
);
ask!(
    kvrpcpb::RawDeleteRangeRequest,
    kvrpcpb::RawDeleteRangeResponse,
    Write,
    |it| told(&it.error)
);
ask!(
    kvrpcpb::RawCasRequest,
    kvrpcpb::RawCasResponse,
    Write,
    |it| told(&it.error)
);
ask!(
    kvrpcpb::RawChecksumRequest,
    kvrpcpb::RawChecksumResponse,
    Read,
    |it| told(&it.error)
);
ask!(
    store::RawGetExpiryRequest,
    store::RawGetExpiryResponse,
    Read,
    |it| told(&it.error)
);
ask!(store::RawIncrementRequest, store::RawIncrementResponse, Write, |it| told(&it.error), conflict: conflict);
ask!(store::RawAppendRequest, store::RawAppendResponse, Write, |it| told(&it.error), conflict: conflict);
ask!(
    store::RawPutIfRequest,
    store::RawPutIfResponse,
    Write,
    |it| told(&it.error)
);
ask!(
    store::RawRemoveRequest,
    store::RawRemoveResponse,
    Write,
    |it| told(&it.error)
);
ask!(
    store::RawExpireRequest,
    store::RawExpireResponse,
    Write,
    |it| told(&it.error)
);
