//! tinykv-node
