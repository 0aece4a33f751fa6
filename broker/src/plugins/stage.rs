//! A topic's produce stage: carries batches to a guest thread and the outcome back.

use super::Inner;
use super::pipeline::Pipeline;
use crate::metrics::PipelineMetrics;
use crate::partition::{BatchStage, StageContext, StageOutcome};
use futures::future::BoxFuture;
use millrace_metadata::Attachment;
use millrace_model::Batch;
use millrace_plugin_host::Lane;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::oneshot;

/// Nanoseconds after which a pipeline that could not be prepared is tried again.
const AGAIN: u64 = 1_000_000_000;

/// The pipeline of a topic, for all its partitions.
pub struct TopicStage {
    plugins: Arc<Inner>,
    topic: Arc<str>,
    attachments: Vec<Attachment>,
    lane: Lane,
    metrics: Arc<PipelineMetrics>,
    pipeline: OnceLock<Pipeline>,
    /// When preparing it failed last, and why.
    failed: Mutex<Option<(u64, String)>>,
    weak: std::sync::Weak<Self>,
}

impl fmt::Debug for TopicStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plugins: Vec<_> = self.attachments.iter().map(|attachment| attachment.plugin.to_string()).collect();
        f.debug_struct("TopicStage").field("topic", &self.topic).field("plugins", &plugins).finish_non_exhaustive()
    }
}

impl TopicStage {
    pub(super) fn new(plugins: Arc<Inner>, topic: &str, attachments: Vec<Attachment>) -> Arc<Self> {
        let metrics = plugins.metrics.pipeline(topic);
        Arc::new_cyclic(|weak| Self {
            plugins,
            metrics,
            topic: topic.into(),
            attachments,
            lane: Lane::new(),
            pipeline: OnceLock::new(),
            failed: Mutex::default(),
            weak: weak.clone(),
        })
    }

    pub(super) fn is_of(&self, attachments: &[Attachment]) -> bool {
        self.attachments == attachments
    }

    /// Begins to compile and start the plugins, so that the first batch need not wait as long.
    pub(super) fn prepare(&self) {
        let Some(stage) = self.weak.upgrade() else { return };
        self.plugins.threads.run(&self.lane, Box::new(move || drop(stage.pipeline())));
    }

    /// The pipeline, prepared if it is not yet. Blocks: for guest threads only.
    fn pipeline(&self) -> Result<&Pipeline, String> {
        if let Some(pipeline) = self.pipeline.get() {
            return Ok(pipeline);
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = self.pipeline.get() {
            return Ok(pipeline);
        }
        let now = self.plugins.clock.monotonic_ns();
        if let Some((when, reason)) = &*failed
            && now.saturating_sub(*when) < AGAIN
        {
            return Err(reason.clone());
        }
        match Pipeline::new(&self.plugins, &self.topic, &self.attachments) {
            Ok(pipeline) => Ok(self.pipeline.get_or_init(|| pipeline)),
            Err(reason) => {
                tracing::error!(topic = &*self.topic, reason, "plugins do not start, batches are refused");
                *failed = Some((now, reason.clone()));
                Err(reason)
            }
        }
    }

    fn outcome(&self, batch: &Batch, asked: u64) -> StageOutcome {
        self.metrics.waited.inc_by(self.plugins.clock.monotonic_ns().saturating_sub(asked));
        self.metrics.batches.inc();
        let outcome = match self.pipeline() {
            Ok(pipeline) => pipeline.run(batch),
            Err(message) => StageOutcome::Rejected { records: Vec::new(), message },
        };
        if matches!(outcome, StageOutcome::Rejected { .. }) {
            self.metrics.refused.inc();
        }
        outcome
    }
}

impl BatchStage for TopicStage {
    fn run(&self, batch: Batch, _: StageContext) -> BoxFuture<'static, StageOutcome> {
        if batch.header().attributes.is_control() || batch.header().records_count == 0 {
            return Box::pin(std::future::ready(StageOutcome::Unchanged));
        }
        let (send, receive) = oneshot::channel();
        if let Some(stage) = self.weak.upgrade() {
            let asked = self.plugins.clock.monotonic_ns();
            let job = move || {
                // Whoever has gone away wants no answer.
                if !send.is_closed() {
                    drop(send.send(stage.outcome(&batch, asked)));
                }
            };
            self.plugins.threads.run(&self.lane, Box::new(job));
        }
        Box::pin(async move {
            receive.await.unwrap_or_else(|_| StageOutcome::Rejected {
                records: Vec::new(),
                message: "the plugins of this topic gave no answer".to_owned(),
            })
        })
    }
}
