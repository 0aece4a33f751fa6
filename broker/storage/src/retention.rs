//! Which segments need not be kept: chosen here, purely; the log acts on it.

use crate::LogConfig;
use millrace_model::{Offset, Timestamp};

/// What the choice looks at, of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its bytes.
    pub(crate) size: u64,
    /// The first offset of the next segment, or the end of the log.
    pub(crate) end: Offset,
}

/// How many segments from the front can go. `newest` tells the largest timestamp of the segment with that number; it is asked only where
/// it matters. Only segments that end at or before `upto` can go; those that end at or before `start` hold nothing any more.
pub(crate) fn choose<E>(
    segments: &[Candidate],
    config: &LogConfig,
    start: Offset,
    upto: Offset,
    now: Timestamp,
    mut newest: impl FnMut(usize) -> Result<Timestamp, E>,
) -> Result<usize, E> {
    let total: u64 = segments.iter().map(|segment| segment.size).sum();
    let mut excess = match config.retention_bytes {
        Some(keep) if config.cleanup.delete => total.saturating_sub(keep),
        _ => 0,
    };
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        // An empty active segment is no gain.
        if segment.end > upto || (last && segment.size == 0) {
            return Ok(i);
        }
        let empty = segment.end <= start && !last;
        let too_much = segment.size <= excess && excess > 0;
        let too_old = !empty
            && !too_much
            && config.cleanup.delete
            && match config.retention_ms {
                Some(keep) => now.since(newest(i)?) > keep,
                None => false,
            };
        if !(empty || too_much || too_old) {
            return Ok(i);
        }
        excess = excess.saturating_sub(segment.size);
    }
    Ok(segments.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn chosen(config: &LogConfig, start: i64, upto: i64, now: i64) -> usize {
        // Four segments of 100 bytes and 10 records; the newest record of segment i has timestamp i × 1000.
        let segments: Vec<_> = (1..=4).map(|i| Candidate { size: 100, end: Offset::new(i * 10) }).collect();
        let newest = |i: usize| Ok::<_, Infallible>(Timestamp::new(i as i64 * 1000));
        choose(&segments, config, Offset::new(start), Offset::new(upto), Timestamp::new(now), newest).unwrap()
    }

    #[test]
    fn segments_go_by_age_by_size_and_when_they_lie_before_the_start() {
        let keep = LogConfig { retention_ms: None, ..LogConfig::default() };
        assert_eq!(chosen(&keep, 0, 40, 1 << 40), 0);
        assert_eq!(chosen(&keep, 25, 40, 0), 2, "two segments lie before the start");
        let aged = LogConfig { retention_ms: Some(500), ..keep.clone() };
        assert_eq!(chosen(&aged, 0, 40, 1600), 2);
        assert_eq!(chosen(&aged, 0, 40, 1 << 40), 4, "the active one too");
        assert_eq!(chosen(&aged, 0, 19, 1 << 40), 1, "nothing that is not committed");
        let sized = LogConfig { retention_bytes: Some(250), ..keep.clone() };
        assert_eq!(chosen(&sized, 0, 40, 0), 1, "a segment goes only where what is left still reaches the size");
        let compacted = LogConfig { cleanup: crate::Cleanup { delete: false, compact: true }, ..aged };
        assert_eq!(chosen(&compacted, 0, 40, 1 << 40), 0);
    }
}
