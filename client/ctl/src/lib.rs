//! tinykv-ctl
