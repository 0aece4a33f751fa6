//! The node's plugins as what the applier of topic files needs of them.

use crate::config::plan::Fault;
use crate::http::PluginStore;
use crate::plugins::Plugins;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use millrace_metadata::{Attachment, ContentHash};

impl PluginStore for Plugins {
    fn store(&self, hash: ContentHash, component: Bytes) -> BoxFuture<'_, Result<(), String>> {
        Self::store(self, hash, component).map(|stored| stored.map_err(|error| error.to_string())).boxed()
    }

    fn has(&self, hash: ContentHash) -> bool {
        Self::has(self, hash)
    }

    fn check(&self, attachment: &Attachment) -> BoxFuture<'_, Result<(), Fault>> {
        Self::check(self, attachment)
    }
}
