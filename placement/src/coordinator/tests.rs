//! The coordinator as an owner drives it.
