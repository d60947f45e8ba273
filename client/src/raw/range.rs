//! Calls over a whole range: removing it and counting it, region by region.

use bytes::Bytes;

use super::{RawClient, check_bound};
use crate::error::{Error, RangeError};
use crate::range::{Checksum, Count, Removal, Sum};

impl RawClient {
    /// Removes every key from `lower` to below `upper`; an empty `upper` means all from there.
    ///
    /// Each region's share is removed at once, the whole is not; the error says how far it got.
    pub async fn delete_range(
        &self,
        lower: impl Into<Bytes>,
        upper: impl Into<Bytes>,
    ) -> Result<(), RangeError> {
        let (lower, upper) = (lower.into(), upper.into());
        let checked = check_bound(&lower).and_then(|()| check_bound(&upper));
        let mut removal = Removal::new(lower, upper);
        let removed = match checked {
            Ok(()) => self.finish(&mut removal).await,
            Err(refused) => Err(refused),
        };
        removed.map_err(|error| RangeError {
            removed_below: removal.rest().0.clone(),
            error,
        })
    }

    /// How many keys there are from `lower` to below `upper`; an empty `upper` means all from
    /// there. Exact for each region at the moment it was counted.
    pub async fn count(
        &self,
        lower: impl Into<Bytes>,
        upper: impl Into<Bytes>,
    ) -> Result<u64, Error> {
        let (lower, upper) = (lower.into(), upper.into());
        check_bound(&lower)?;
        check_bound(&upper)?;
        let mut count = Count::new(lower, upper);
        self.finish(&mut count).await?;
        Ok(count.count)
    }

    /// A checksum from `lower` to below `upper`; an empty `upper` means all from there. Of each
    /// region at the moment it was read.
    pub async fn checksum(
        &self,
        lower: impl Into<Bytes>,
        upper: impl Into<Bytes>,
    ) -> Result<Checksum, Error> {
        let (lower, upper) = (lower.into(), upper.into());
        check_bound(&lower)?;
        check_bound(&upper)?;
        let mut sum = Sum::new(lower, upper);
        self.finish(&mut sum).await?;
        Ok(sum.sum)
    }
}
