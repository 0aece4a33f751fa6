//! Node and topic configuration.
