//! The registry of plugins, and the batch stage.
