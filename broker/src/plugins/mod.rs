//! Plugins of this node: the components it has, and the pipelines that stand in its topics' produce stage.
//!
//! ```text
//! Image ─topic.attachments─▶ TopicStage ─job─▶ guest thread: Pipeline ─▶ StageOutcome
//!                                                  │ prepared once, from the components by content hash
//! ```
//!
//! Invariants:
//! - A topic whose plugins cannot run refuses batches; none passes by its plugins.
//! - Attachments that change make a new pipeline; a batch runs through exactly one.
//! - A batch keeps producer id, epoch, sequences and last offset delta whatever plugins make of its records, so that a retry
//!   is still recognised. Control batches are not shown to plugins.
//! - An attachment that was accepted has been compiled, started and configured once.
//!
//! This room knows no log and no request.

mod builtin;
mod components;
mod pipeline;
mod stage;
#[cfg(test)]
mod tests;

pub use builtin::{Builtin, builtins};
pub use components::ComponentError;
pub use stage::TopicStage;

use crate::config::plan::Fault;
use crate::metrics::Metrics;
use crate::partition::{BatchStage, StageProvider};
use bytes::Bytes;
use components::Components;
use futures::future::BoxFuture;
use millrace_metadata::{Attachment, ContentHash, FaultPolicy, Grants, Image, Plugin as Registration, Stage, Topic};
use millrace_model::{Clock, TopicId};
use millrace_plugin_host::{AttachError, AttachmentOptions, Fault as GuestFault, GuestThreads, Lane, Limits, Runtime};
use millrace_storage::io::Disk;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// What the room is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where components are kept, as `<content hash>.wasm`.
    pub dir: PathBuf,
    /// Bytes that a batch's records may unfold to where a plugin looks at them.
    pub unfolded_bytes: usize,
}

/// The plugins of this node. Clones are the same.
#[derive(Clone, Debug)]
pub struct Plugins(Arc<Inner>);

struct Inner {
    components: Components,
    runtime: Runtime,
    threads: Arc<dyn GuestThreads>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    unfolded_bytes: usize,
    /// Pipelines in use, each with what it was made of.
    stages: Mutex<BTreeMap<TopicId, Weak<TopicStage>>>,
    /// Trying a plugin takes its turn like a topic.
    trials: Lane,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugins").field("components", &self.components).finish_non_exhaustive()
    }
}

impl Plugins {
    /// The plugins in a directory, which is made where it is not there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        runtime: Runtime,
        threads: Arc<dyn GuestThreads>,
        metrics: Metrics,
    ) -> std::io::Result<Self> {
        let components = Components::open(options.dir, disk, runtime.clone())?;
        Ok(Self(Arc::new(Inner {
            components,
            runtime,
            threads,
            clock,
            metrics,
            unfolded_bytes: options.unfolded_bytes,
            stages: Mutex::default(),
            trials: Lane::new(),
        })))
    }

    /// The first-party plugins that the cluster's registry lacks. Their components are kept as files from then on: another
    /// binary may bring others.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn missing_builtins(&self, image: &Image) -> Result<Vec<Registration>, ComponentError> {
        let missing = builtins().iter().filter(|builtin| image.plugin(builtin.name, builtin.version).is_none());
        missing
            .map(|builtin| {
                self.0.components.keep(builtin.hash, builtin.component)?;
                Ok(builtin.registration())
            })
            .collect()
    }

    /// Whether a component is kept.
    pub fn has(&self, hash: ContentHash) -> bool {
        self.0.components.has(hash)
    }

    /// A kept component's bytes.
    ///
    /// # Errors
    /// It is not kept, or cannot be read.
    pub fn component(&self, hash: ContentHash) -> Result<Bytes, ComponentError> {
        self.0.components.bytes(hash)
    }

    /// Compiles a component, and keeps it if it is a plugin.
    pub fn store(&self, hash: ContentHash, component: Bytes) -> BoxFuture<'static, Result<(), ComponentError>> {
        let inner = Arc::clone(&self.0);
        self.beside(move || inner.components.store(hash, &component), ComponentError::Interrupted)
    }

    /// Tries an attachment: compiles, starts and configures it once.
    pub fn check(&self, attachment: &Attachment) -> BoxFuture<'static, Result<(), Fault>> {
        let (inner, attachment) = (Arc::clone(&self.0), attachment.clone());
        let interrupted = Fault::Component(ComponentError::Interrupted.to_string());
        self.beside(move || inner.try_out(&attachment), interrupted)
    }

    /// Runs a job on a guest thread.
    fn beside<T, E>(
        &self,
        job: impl FnOnce() -> Result<T, E> + Send + 'static,
        interrupted: E,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        let job = move || drop(send.send(job()));
        self.0.threads.run(&self.0.trials, Box::new(job));
        Box::pin(async move { receive.await.unwrap_or(Err(interrupted)) })
    }
}

impl Inner {
    fn try_out(&self, attachment: &Attachment) -> Result<(), Fault> {
        if attachment.stage != Stage::Produce {
            let stage = format!("{:?}", attachment.stage).to_lowercase();
            return Err(Fault::Component(format!("{}: there is no stage {stage} yet", attachment.plugin)));
        }
        if attachment.grants != Grants::default() {
            return Err(Fault::Component(format!(
                "{}: a plugin at stage produce is granted nothing",
                attachment.plugin
            )));
        }
        if matches!(attachment.on_fault, FaultPolicy::DeadLetter | FaultPolicy::Halt) {
            let reason = "at stage produce on-fault is reject, drop or pass";
            return Err(Fault::Component(format!("{}: {reason}", attachment.plugin)));
        }
        self.attach("", attachment).map(drop)
    }

    /// An attachment, started.
    fn attach(&self, topic: &str, attachment: &Attachment) -> Result<millrace_plugin_host::Attachment, Fault> {
        let named = |reason: String| format!("{}: {reason}", attachment.plugin);
        let plugin = self.components.plugin(attachment.plugin.hash);
        let plugin = plugin.map_err(|error| Fault::Component(named(error.to_string())))?;
        let options = AttachmentOptions {
            name: attachment.plugin.to_string().into(),
            topic: topic.into(),
            stage: "produce",
            config: attachment.config.clone(),
            limits: Limits {
                memory: attachment.limits.memory_bytes,
                time: Duration::from_millis(attachment.limits.time_ms.into()),
            },
        };
        self.runtime.attach(&plugin, options).map_err(|error| match error {
            AttachError::Configure(_) => Fault::Config(named(error.to_string())),
            AttachError::Limits(_) | AttachError::Fault(GuestFault::Memory(_) | GuestFault::Time(_)) => {
                Fault::Limits(named(error.to_string()))
            }
            _ => Fault::Component(named(error.to_string())),
        })
    }
}

impl StageProvider for Plugins {
    fn produce_stage(&self, topic: &Topic) -> Option<Arc<dyn BatchStage>> {
        let attachments: Vec<_> =
            topic.attachments.iter().filter(|attachment| attachment.stage == Stage::Produce).cloned().collect();
        let mut stages = self.0.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.retain(|_, stage| stage.strong_count() > 0);
        if attachments.is_empty() {
            stages.remove(&topic.id);
            return None;
        }
        if let Some(stage) = stages.get(&topic.id).and_then(Weak::upgrade).filter(|stage| stage.is_of(&attachments)) {
            return Some(stage);
        }
        let stage = TopicStage::new(Arc::clone(&self.0), &topic.name, attachments);
        stages.insert(topic.id, Arc::downgrade(&stage));
        drop(stages);
        stage.prepare();
        Some(stage)
    }
}
