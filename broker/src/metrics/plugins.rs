//! What plugins do, by attachment and by topic.
//!
//! Whoever runs an attachment holds its [`PluginMetrics`]; two pipelines of one attachment (the old one drains while the
//! new one begins) hold the same. When the last holder lets go its labels vanish, so that they do not pile up.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// One attachment's numbers: held by the attachment, counted once a batch.
#[derive(Debug)]
pub struct PluginMetrics {
    /// Calls of the guest.
    pub calls: Counter,
    /// Records handed in.
    pub records: Counter,
    /// Records that came out of it, as they were or changed.
    pub kept: Counter,
    /// Records that came out changed.
    pub changed: Counter,
    /// Records that it dropped, refused or failed on, and that are not stored for it.
    pub dropped: Counter,
    /// Nanoseconds inside the guest.
    pub nanoseconds: Counter,
    faults: Mutex<BTreeMap<&'static str, Counter>>,
    label: PluginLabel,
    families: Arc<PluginFamilies>,
}

impl PluginMetrics {
    /// Counts a call that trapped, ran out of time or memory, or answered nonsense.
    pub fn fault(&self, kind: &'static str) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let counter =
            faults.entry(kind).or_insert_with(|| self.families.faults.get_or_create_owned(&self.label.with_kind(kind)));
        counter.inc();
    }

    fn new(families: &Arc<PluginFamilies>, label: PluginLabel) -> Self {
        Self {
            calls: families.calls.get_or_create_owned(&label),
            records: families.records.get_or_create_owned(&label),
            kept: families.kept.get_or_create_owned(&label),
            changed: families.changed.get_or_create_owned(&label),
            dropped: families.dropped.get_or_create_owned(&label),
            nanoseconds: families.nanoseconds.get_or_create_owned(&label),
            faults: Mutex::default(),
            families: Arc::clone(families),
            label,
        }
    }
}

impl Drop for PluginMetrics {
    fn drop(&mut self) {
        let mut held = self.families.held();
        // Somebody may have asked for the same attachment since the last holder let go.
        if held.attachments.get(&self.label).is_some_and(|holder| holder.strong_count() > 0) {
            return;
        }
        held.attachments.remove(&self.label);
        let PluginFamilies { calls, records, kept, changed, dropped, nanoseconds, .. } = &*self.families;
        for family in [calls, records, kept, changed, dropped, nanoseconds] {
            family.remove(&self.label);
        }
        for kind in self.faults.get_mut().unwrap_or_else(PoisonError::into_inner).keys() {
            self.families.faults.remove(&self.label.with_kind(kind));
        }
    }
}

/// The numbers of one topic's pipeline: held by it, counted once a batch.
#[derive(Debug)]
pub struct PipelineMetrics {
    /// Batches that went through it.
    pub batches: Counter,
    /// Batches that were refused in it.
    pub refused: Counter,
    /// Nanoseconds that they waited for a guest thread.
    pub waited: Counter,
    label: TopicLabel,
    families: Arc<PluginFamilies>,
}

impl PipelineMetrics {
    fn new(families: &Arc<PluginFamilies>, label: TopicLabel) -> Self {
        Self {
            batches: families.batches.get_or_create_owned(&label),
            refused: families.refused.get_or_create_owned(&label),
            waited: families.waited.get_or_create_owned(&label),
            families: Arc::clone(families),
            label,
        }
    }
}

impl Drop for PipelineMetrics {
    fn drop(&mut self) {
        let mut held = self.families.held();
        if held.pipelines.get(&self.label).is_some_and(|holder| holder.strong_count() > 0) {
            return;
        }
        held.pipelines.remove(&self.label);
        let PluginFamilies { batches, refused, waited, .. } = &*self.families;
        for family in [batches, refused, waited] {
            family.remove(&self.label);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct PluginLabel {
    plugin: String,
    topic: String,
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabel {
    plugin: String,
    topic: String,
    stage: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

impl PluginLabel {
    fn with_kind(&self, kind: &'static str) -> FaultLabel {
        FaultLabel { plugin: self.plugin.clone(), topic: self.topic.clone(), stage: self.stage, kind }
    }
}

#[derive(Debug, Default)]
struct Held {
    attachments: BTreeMap<PluginLabel, Weak<PluginMetrics>>,
    pipelines: BTreeMap<TopicLabel, Weak<PipelineMetrics>>,
}

#[derive(Debug, Default)]
pub(super) struct PluginFamilies {
    calls: Family<PluginLabel, Counter>,
    records: Family<PluginLabel, Counter>,
    kept: Family<PluginLabel, Counter>,
    changed: Family<PluginLabel, Counter>,
    dropped: Family<PluginLabel, Counter>,
    nanoseconds: Family<PluginLabel, Counter>,
    faults: Family<FaultLabel, Counter>,
    batches: Family<TopicLabel, Counter>,
    refused: Family<TopicLabel, Counter>,
    waited: Family<TopicLabel, Counter>,
    held: Mutex<Held>,
}

impl PluginFamilies {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attachment(self: &Arc<Self>, plugin: &str, topic: &str, stage: &'static str) -> Arc<PluginMetrics> {
        let label = PluginLabel { plugin: plugin.to_owned(), topic: topic.to_owned(), stage };
        let mut held = self.held();
        if let Some(known) = held.attachments.get(&label).and_then(Weak::upgrade) {
            return known;
        }
        let metrics = Arc::new(PluginMetrics::new(self, label.clone()));
        held.attachments.insert(label, Arc::downgrade(&metrics));
        metrics
    }

    pub(super) fn pipeline(self: &Arc<Self>, topic: &str) -> Arc<PipelineMetrics> {
        let label = TopicLabel { topic: topic.to_owned() };
        let mut held = self.held();
        if let Some(known) = held.pipelines.get(&label).and_then(Weak::upgrade) {
            return known;
        }
        let metrics = Arc::new(PipelineMetrics::new(self, label.clone()));
        held.pipelines.insert(label, Arc::downgrade(&metrics));
        metrics
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, family) in [
            ("calls", "Calls of a plugin", &self.calls),
            ("records", "Records handed to a plugin", &self.records),
            ("kept", "Records that came out of a plugin", &self.kept),
            ("changed", "Records that came out of a plugin changed", &self.changed),
            ("dropped", "Records that were dropped or refused", &self.dropped),
            ("nanoseconds", "Nanoseconds inside a plugin", &self.nanoseconds),
        ] {
            registry.register(format!("millrace_plugin_{name}"), help, family.clone());
        }
        registry.register("millrace_plugin_faults", "Calls of a plugin that failed", self.faults.clone());
        for (name, help, family) in [
            ("batches", "Batches that went through a topic's plugins", &self.batches),
            ("refused_batches", "Batches that were refused in a topic's plugins", &self.refused),
            ("wait_nanoseconds", "Nanoseconds that batches waited for a thread of plugins", &self.waited),
        ] {
            registry.register(format!("millrace_pipeline_{name}"), help, family.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    #[test]
    fn two_pipelines_of_one_attachment_count_together_and_the_last_takes_the_labels_away() {
        let metrics = Metrics::new();
        let old = metrics.plugin("mask@1", "orders", "produce");
        old.records.inc_by(3);
        let new = metrics.plugin("mask@1", "orders", "produce");
        new.records.inc_by(4);
        drop(old);
        let label = r#"{plugin="mask@1",topic="orders",stage="produce"}"#;
        assert!(
            metrics.encode().contains(&format!("millrace_plugin_records_total{label} 7\n")),
            "{}",
            metrics.encode()
        );
        drop(new);
        assert!(!metrics.encode().contains("mask@1"));
    }

    #[test]
    fn faults_are_counted_by_kind_and_waiting_by_topic() {
        let metrics = Metrics::new();
        let plugin = metrics.plugin("mask@1", "orders", "produce");
        plugin.fault("trap");
        plugin.fault("time");
        plugin.fault("time");
        let pipeline = metrics.pipeline("orders");
        pipeline.waited.inc_by(1500);
        let text = metrics.encode();
        let label = r#"plugin="mask@1",topic="orders",stage="produce""#;
        for line in [
            format!("millrace_plugin_faults_total{{{label},kind=\"time\"}} 2\n"),
            format!("millrace_plugin_faults_total{{{label},kind=\"trap\"}} 1\n"),
            "millrace_pipeline_wait_nanoseconds_total{topic=\"orders\"} 1500\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        drop((plugin, pipeline));
        assert!(!metrics.encode().contains("orders"));
    }
}
