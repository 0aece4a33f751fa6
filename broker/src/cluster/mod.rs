//! The cluster's metadata through openraft.
