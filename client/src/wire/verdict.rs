//! What a response amounts to.

use super::ask::Ask;
use super::convert;
use crate::retry::Failure;

/// A response without errors, or why the attempt failed.
///
/// The region error goes first: of an undetermined write a store tells in both fields, because
/// other clients show the text to their users, and the text alone would pass for a refusal (K1).
/// The text decides only where the region error has no name. A conflict with what is stored is
/// more than its text.
pub fn verdict<A: Ask>(mut response: A::Response) -> Result<A::Response, Failure> {
    let refusal = A::refusal(&response);
    let failure = A::region_error(&mut response).map(convert::failure);
    if let (None, Some(conflict)) = (&failure, A::conflict(&response)) {
        return Err(Failure::Conflict(conflict));
    }
    match (failure, refusal) {
        (None, None) => Ok(response),
        (None | Some(Failure::NotNow { .. }), Some(message)) => Err(Failure::Refused { message }),
        (Some(failure), _) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use tinykv_proto::{errorpb, kvrpcpb};

    use super::*;

    fn told(region_error: Option<errorpb::Error>, text: &str) -> Option<Failure> {
        let response = kvrpcpb::RawPutResponse {
            region_error,
            error: text.to_owned(),
        };
        verdict::<kvrpcpb::RawPutRequest>(response).err()
    }

    #[test]
    fn doubt_is_no_refusal_although_it_comes_with_a_text() {
        let doubt = errorpb::Error {
            message: "perhaps".to_owned(),
            undetermined_result: Some(errorpb::UndeterminedResult {
                message: "perhaps".to_owned(),
            }),
            ..errorpb::Error::default()
        };
        let failure = told(Some(doubt), "perhaps").expect("no success");
        assert!(
            matches!(failure, Failure::Undetermined { .. }),
            "{failure:?}"
        );
        assert!(!failure.proves_not_applied());
    }

    #[test]
    fn a_text_refuses_unless_the_region_error_has_a_name() {
        let refused = Some(Failure::Refused {
            message: "too long".to_owned(),
        });
        let unnamed = errorpb::Error {
            message: "too long".to_owned(),
            ..errorpb::Error::default()
        };
        assert_eq!(told(None, ""), None);
        assert_eq!(told(None, "too long"), refused);
        assert_eq!(told(Some(unnamed.clone()), "too long"), refused);
        assert_eq!(
            told(Some(unnamed), ""),
            Some(Failure::NotNow {
                what: "too long".to_owned()
            })
        );
    }
}
