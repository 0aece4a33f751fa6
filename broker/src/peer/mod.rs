//! The only outbound wire.
