//! What a log is told by its topic's configuration, as typed fields.

/// How old records are taken away (`cleanup.policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// Whole segments go by age and by size.
    pub delete: bool,
    /// Only the last record of each key stays.
    pub compact: bool,
}

/// When a compacted log is cleaned, and what of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    /// `min.cleanable.dirty.ratio`: a log is cleaned once more than this share of it is dirty …
    pub min_dirty_ratio: f64,
    /// `max.compaction.lag.ms`: … or a record has been dirty for so long.
    pub max_lag_ms: i64,
    /// `min.compaction.lag.ms`: younger records are left alone.
    pub min_lag_ms: i64,
    /// `delete.retention.ms`: how long tombstones and transaction markers stay once a round has met them.
    pub delete_retention_ms: i64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { min_dirty_ratio: 0.5, max_lag_ms: i64::MAX, min_lag_ms: 0, delete_retention_ms: 86_400_000 }
    }
}

/// The settings of one log. Defaults are Kafka's.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before it would grow past this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is closed when the records in it span this much time.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: the most that is taken off `segment_ms`, for each segment another part of it.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: a segment is closed when an index of it has reached this size.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: log bytes between two index entries.
    pub index_interval_bytes: u32,
    /// `retention.ms`; `None` keeps records however old.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` keeps records however many.
    pub retention_bytes: Option<u64>,
    /// `flush.messages`: records that may be unsynced; the partition acts on it.
    pub flush_messages: i64,
    /// `flush.ms`: how long records may be unsynced; the partition acts on it.
    pub flush_ms: i64,
    /// `max.message.bytes`: the largest batch a producer may send; the partition acts on it.
    pub max_message_bytes: u32,
    /// `cleanup.policy`.
    pub cleanup: Cleanup,
    /// When it is compacted, where it is.
    pub compaction: Compaction,
    /// `preallocate`: the file of a new segment has its full size from the beginning, zeros behind what is written, and is
    /// cut to what is in it when the segment is closed.
    pub preallocate: bool,
    /// `file.delete.delay.ms`: between the renaming of a file to `.deleted` and its removal.
    pub file_delete_delay_ms: i64,
    /// `producer.id.expiration.ms`: an idle producer is forgotten after this.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: Some(604_800_000),
            retention_bytes: None,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            max_message_bytes: 1_048_588,
            cleanup: Cleanup { delete: true, compact: false },
            compaction: Compaction::default(),
            preallocate: false,
            file_delete_delay_ms: 60_000,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}
