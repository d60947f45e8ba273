//! What travels between clients and stores: the messages of the wire, encoded and decoded on each
//! hop, and a mark that says whose they are.

use bytes::Bytes;
use prost::Message;
use tinykv_client::retry::{Access, Failure};
use tinykv_client::wire::{self, Ask};
use tinykv_proto::{errorpb, kvrpcpb, store};

/// A request on its way to a store, or its answer on the way back.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Packet {
    pub(in crate::sim) mark: Mark,
    pub(in crate::sim) method: Method,
    pub(in crate::sim) bytes: Bytes,
}

/// Whose a request is.
#[derive(Clone, Copy, Debug)]
pub(in crate::sim) struct Mark {
    pub(in crate::sim) client: usize,
    /// Numbers the calls of a client; all attempts of one ask for the same.
    pub(in crate::sim) call: u64,
    /// Numbers the attempts of a client; an answer to an earlier one is ignored.
    pub(in crate::sim) attempt: u64,
}

macro_rules! methods {
    ($($name:ident: $request:ty),* $(,)?) => {
        /// What kind of request it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::sim) enum Method {
            $($name),*
        }

        /// A request.
        #[derive(Clone, Debug)]
        pub(in crate::sim) enum Asked {
            $($name($request)),*
        }

        /// An answer.
        #[derive(Clone, Debug)]
        pub(in crate::sim) enum Told {
            $($name(<$request as Ask>::Response)),*
        }

        impl Method {
            /// Whether it may be repeated.
            pub(in crate::sim) fn access(self) -> Access {
                match self {
                    $(Method::$name => <$request as Ask>::ACCESS),*
                }
            }

            /// The request in a packet.
            pub(in crate::sim) fn request(self, bytes: &Bytes) -> Asked {
                match self {
                    $(Method::$name => {
                        let decoded = <$request>::decode(bytes.clone());
                        Asked::$name(decoded.expect("what was encoded can be decoded"))
                    }),*
                }
            }

            /// What an answer amounts to, as the production client sees it.
            pub(in crate::sim) fn verdict(self, bytes: &Bytes) -> Result<Told, Failure> {
                match self {
                    $(Method::$name => {
                        let decoded = <$request as Ask>::Response::decode(bytes.clone());
                        let response = decoded.expect("what was encoded can be decoded");
                        wire::verdict::<$request>(response).map(Told::$name)
                    }),*
                }
            }
        }

        impl Asked {
            pub(in crate::sim) fn context(&self) -> Option<&kvrpcpb::Context> {
                match self {
                    $(Asked::$name(request) => request.context.as_ref()),*
                }
            }

            pub(in crate::sim) fn method(&self) -> Method {
                match self {
                    $(Asked::$name(_) => Method::$name),*
                }
            }

            /// The request as a packet, for the region that the context names.
            pub(super) fn packet(self, mark: Mark, context: kvrpcpb::Context) -> Packet {
                let method = self.method();
                let bytes = match self {
                    $(Asked::$name(mut request) => {
                        request.set_context(context);
                        Bytes::from(request.encode_to_vec())
                    }),*
                };
                Packet { mark, method, bytes }
            }
        }

        impl Told {
            pub(in crate::sim) fn encode(&self) -> Bytes {
                Bytes::from(match self {
                    $(Told::$name(response) => response.encode_to_vec()),*
                })
            }
        }
    };
}

methods!(
    Get: kvrpcpb::RawGetRequest,
    Put: kvrpcpb::RawPutRequest,
    Delete: kvrpcpb::RawDeleteRequest,
    Swap: kvrpcpb::RawCasRequest,
    Append: store::RawAppendRequest,
    Increment: store::RawIncrementRequest,
    Scan: kvrpcpb::RawScanRequest,
    BatchGet: kvrpcpb::RawBatchGetRequest,
    BatchPut: kvrpcpb::RawBatchPutRequest,
    DeleteRange: kvrpcpb::RawDeleteRangeRequest,
);

impl Method {
    /// The answer that tells of a failure, as the real store makes it.
    pub(in crate::sim) fn failed(self, error: Option<errorpb::Error>, text: String) -> Told {
        macro_rules! with_text {
            ($name:ident, $($response:ident)::+ $(, $rest:expr)?) => {
                Told::$name($($response)::+ {
                    region_error: error,
                    error: text,
                    $(..$rest)?
                })
            };
        }
        match self {
            Method::Get => with_text!(Get, kvrpcpb::RawGetResponse, Default::default()),
            Method::Put => with_text!(Put, kvrpcpb::RawPutResponse),
            Method::Delete => with_text!(Delete, kvrpcpb::RawDeleteResponse),
            Method::Swap => with_text!(Swap, kvrpcpb::RawCasResponse, Default::default()),
            Method::Append => with_text!(Append, store::RawAppendResponse, Default::default()),
            Method::Increment => {
                with_text!(Increment, store::RawIncrementResponse, Default::default())
            }
            Method::BatchPut => with_text!(BatchPut, kvrpcpb::RawBatchPutResponse),
            Method::DeleteRange => with_text!(DeleteRange, kvrpcpb::RawDeleteRangeResponse),
            Method::Scan => Told::Scan(kvrpcpb::RawScanResponse {
                region_error: error,
                kvs: refusal(text),
                ..Default::default()
            }),
            Method::BatchGet => Told::BatchGet(kvrpcpb::RawBatchGetResponse {
                region_error: error,
                pairs: refusal(text),
            }),
        }
    }
}

/// A refusal in an answer that is a list of pairs.
fn refusal(text: String) -> Vec<kvrpcpb::KvPair> {
    let error = kvrpcpb::KeyError {
        abort: text,
        ..Default::default()
    };
    match error.abort.is_empty() {
        true => Vec::new(),
        false => vec![kvrpcpb::KvPair {
            error: Some(error),
            ..Default::default()
        }],
    }
}
