//! Bringing the broker in line with topic files, and plugins into the registry.
//!
//! A request is refused as a whole or done as a whole: the files are parsed, every plugin is found and tried, the
//! commands are tried on the image, and only then are they proposed, in one command. While one change is under way the
//! next one waits.

use crate::config::bundle::{ApplyRequest, Bundle};
use crate::config::plan::{self, Defaults, Desired, Fault, Plan};
use crate::config::topic::{check_plugin_name, check_plugin_version, parse_all};
use crate::config::{Place, Problems};
use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_metadata::{Attachment, Command, ContentHash, Image, Plugin};
use millrace_model::Random;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::Mutex;

/// What is needed of the cluster.
pub trait Facts: Send + Sync + fmt::Debug {
    /// The facts as they are.
    fn image(&self) -> Arc<Image>;

    /// Changes them; done when this node has applied the command and its partitions have followed.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<(), String>>;
}

/// What is needed of the registry of plugins.
pub trait PluginStore: Send + Sync + fmt::Debug {
    /// Keeps a component, and checks that it is one. The name in the registry is given to it elsewhere.
    fn store(&self, hash: ContentHash, component: Bytes) -> BoxFuture<'_, Result<(), String>>;

    /// Whether a component is kept.
    fn has(&self, hash: ContentHash) -> bool;

    /// Tries an attachment: compiles, starts and configures it once.
    fn check(&self, attachment: &Attachment) -> BoxFuture<'_, Result<(), Fault>>;
}

/// What became of a node's topic files when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtStart {
    /// They were applied.
    Applied(Plan),
    /// They were compared; what differs waits for `millrace apply`.
    Compared(Plan),
    /// They cannot be applied any more; the broker keeps what it has.
    Unsound(Problems),
}

impl AtStart {
    /// Says it in the log.
    pub fn log(&self, dir: &std::path::Path) {
        let dir = dir.display();
        if let Self::Applied(plan) | Self::Compared(plan) = self {
            for topic in &plan.unnamed {
                tracing::warn!(%dir, topic, "no topic file names this topic, which has plugins attached; it keeps them");
            }
        }
        match self {
            Self::Applied(plan) => {
                tracing::info!(%dir, differences = plan.differences.len(), "topic files applied");
            }
            Self::Compared(plan) if plan.is_empty() => tracing::info!(%dir, "topic files are as applied"),
            Self::Compared(plan) => {
                for one in &plan.differences {
                    let (before, after) = (one.before.as_deref(), one.after.as_deref());
                    tracing::warn!(
                        topic = one.topic,
                        what = one.what,
                        action = one.action.name(),
                        before,
                        after,
                        "topic file differs from the broker"
                    );
                }
                tracing::warn!(%dir, "the broker keeps what it has; run millrace apply to change it");
            }
            Self::Unsound(problems) => {
                for problem in problems.iter() {
                    tracing::error!(%problem, "topic file is refused");
                }
                tracing::error!(%dir, "the broker keeps what it has");
            }
        }
    }
}

/// Why a plugin is not taken into the registry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// The name or the version is not one.
    #[error("{0}")]
    Name(String),
    /// The bytes are no component that could be attached.
    #[error("{0}")]
    Component(String),
    /// The cluster does not take it.
    #[error("{0}")]
    Cluster(String),
}

/// The one that changes things.
#[derive(Debug)]
pub struct Applier {
    facts: Arc<dyn Facts>,
    store: Arc<dyn PluginStore>,
    random: Arc<dyn Random>,
    defaults: Defaults,
    one_at_a_time: Mutex<()>,
}

impl Applier {
    /// An applier over these facts and this store.
    pub fn new(
        facts: Arc<dyn Facts>,
        store: Arc<dyn PluginStore>,
        random: Arc<dyn Random>,
        defaults: Defaults,
    ) -> Self {
        Self { facts, store, random, defaults, one_at_a_time: Mutex::new(()) }
    }

    /// The facts as they are.
    pub fn image(&self) -> Arc<Image> {
        self.facts.image()
    }

    /// What would change.
    ///
    /// # Errors
    /// Everything that stands in the way.
    pub async fn plan(&self, request: &ApplyRequest) -> Result<Plan, Problems> {
        let image = self.facts.image();
        let desired = plan::resolve(parse_all(&request.files)?, &image, &request.components)?;
        self.check_attachments(&desired, &image).await?;
        Plan::new(&desired, &image, self.defaults, &*self.random)
    }

    /// Does what [`Applier::plan`] says.
    ///
    /// # Errors
    /// Everything that stands in the way; nothing has changed then.
    pub async fn apply(&self, request: &ApplyRequest) -> Result<Plan, Problems> {
        let _one = self.one_at_a_time.lock().await;
        let plan = self.plan(request).await?;
        if !plan.commands.is_empty() {
            let whole = || Place::file("the cluster");
            let proposed = self.facts.propose(Command::All(plan.commands.clone())).await;
            proposed.map_err(|reason| whole().problem(reason))?;
        }
        Ok(plan)
    }

    /// Plans topic files of this machine: their components are stored first.
    ///
    /// # Errors
    /// As [`Applier::plan`].
    pub async fn plan_bundle(&self, bundle: &Bundle) -> Result<Plan, Problems> {
        self.store_components(bundle).await?;
        self.plan(&bundle.request).await
    }

    /// Applies topic files of this machine.
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub async fn apply_bundle(&self, bundle: &Bundle) -> Result<Plan, Problems> {
        self.store_components(bundle).await?;
        self.apply(&bundle.request).await
    }

    /// What a node does with its topic files when it starts: a cluster without topics gets them; on any other they are
    /// only compared, because a start must not undo what was decided since. Files that are wrong by then keep nobody
    /// from serving what is there.
    ///
    /// # Errors
    /// As [`Applier::apply`], for a cluster without topics.
    pub async fn at_start(&self, files: &Result<Bundle, Problems>) -> Result<AtStart, Problems> {
        if self.facts.image().topics().any(|topic| !topic.internal) {
            let compared = match files {
                Ok(bundle) => self.plan_bundle(bundle).await,
                Err(problems) => Err(problems.clone()),
            };
            return Ok(compared.map_or_else(AtStart::Unsound, AtStart::Compared));
        }
        match files {
            Ok(bundle) => self.apply_bundle(bundle).await.map(AtStart::Applied),
            Err(problems) => Err(problems.clone()),
        }
    }

    /// Keeps a component that a topic file names by its path.
    ///
    /// # Errors
    /// The bytes are another content, or no component.
    pub async fn store(&self, hash: ContentHash, component: Bytes) -> Result<(), String> {
        let found = ContentHash::of(&component);
        if found != hash {
            return Err(format!("the component's content is {found}, not {hash}"));
        }
        if self.store.has(hash) { Ok(()) } else { self.store.store(hash, component).await }
    }

    /// Takes a component into the registry.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn push(&self, name: &str, version: &str, component: Bytes) -> Result<Plugin, PushError> {
        check_plugin_name(name).map_err(PushError::Name)?;
        check_plugin_version(version).map_err(PushError::Name)?;
        if version.split('.').count() != 3 {
            let reason = format!("{version:?} is not a whole version: write 1.2.3");
            return Err(PushError::Name(reason));
        }
        let _one = self.one_at_a_time.lock().await;
        let hash = ContentHash::of(&component);
        let size = component.len() as u64;
        self.store(hash, component).await.map_err(PushError::Component)?;
        let plugin = Plugin { name: name.to_owned(), version: version.to_owned(), hash, size };
        self.facts.propose(Command::RegisterPlugin(plugin.clone())).await.map_err(PushError::Cluster)?;
        Ok(plugin)
    }

    /// Takes a plugin out of the registry.
    ///
    /// # Errors
    /// A topic runs it, or the cluster does not answer.
    pub async fn remove(&self, name: &str, version: &str) -> Result<(), String> {
        let _one = self.one_at_a_time.lock().await;
        self.facts.propose(Command::RemovePlugin { name: name.to_owned(), version: version.to_owned() }).await
    }

    async fn store_components(&self, bundle: &Bundle) -> Result<(), Problems> {
        for one in &bundle.components {
            if self.store.has(one.hash) {
                continue;
            }
            let stored = self.store.store(one.hash, Bytes::from(one.bytes.clone())).await;
            stored.map_err(|reason| one.refused(&reason))?;
        }
        Ok(())
    }

    /// What is attached already has been tried, and is not tried again.
    async fn check_attachments(&self, desired: &[Desired], image: &Image) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for topic in desired {
            let existing = image.topic(&topic.file.name.value);
            for (plugin, attachment) in topic.file.plugins.iter().zip(&topic.attachments) {
                if existing.is_some_and(|topic| topic.attachments.contains(attachment)) {
                    continue;
                }
                if let Err(fault) = self.store.check(attachment).await {
                    problems.push(plan::refused(plugin, fault));
                }
            }
        }
        Problems::check(problems)
    }
}
