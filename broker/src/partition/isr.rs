//! The arithmetic of replication, pure: given where each in-sync replica stands, how far is the log committed?
//!
//! Source: Kafka's replication design; KIP-101 for what a high watermark may and may not promise.

use millrace_model::Offset;

/// The high watermark after the leader's log end or a follower moved: the least log end among the in-sync replicas (the
/// leader is one), never going back, and standing still while fewer than `min_insync` replicas are in sync.
pub fn high_watermark(current: Offset, leader_end: Offset, followers_in_sync: &[Offset], min_insync: usize) -> Offset {
    if followers_in_sync.len() + 1 < min_insync {
        return current;
    }
    let least = followers_in_sync.iter().copied().fold(leader_end, Offset::min);
    current.max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_replica_commits_what_it_appends() {
        assert_eq!(high_watermark(Offset::new(3), Offset::new(9), &[], 1), Offset::new(9));
    }

    #[test]
    fn the_slowest_in_sync_replica_holds_the_watermark() {
        let followers = [Offset::new(7), Offset::new(5)];
        assert_eq!(high_watermark(Offset::new(3), Offset::new(9), &followers, 2), Offset::new(5));
    }

    #[test]
    fn too_few_replicas_in_sync_hold_it_where_it_is() {
        assert_eq!(high_watermark(Offset::new(3), Offset::new(9), &[Offset::new(9)], 3), Offset::new(3));
    }

    #[test]
    fn it_never_goes_back() {
        assert_eq!(high_watermark(Offset::new(8), Offset::new(9), &[Offset::new(5)], 2), Offset::new(8));
    }
}
