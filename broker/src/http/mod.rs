//! The HTTP port.
