//! tinykv-placement
