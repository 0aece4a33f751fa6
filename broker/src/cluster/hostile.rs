//! The journal and the snapshot as a broken disk or an enemy may have left them: they open or say why not, and what was read
//! is read once more after it was written.
//!
//! The fuzzers' target and the seeds for it; the test below runs it over cuts and changes of these.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a target says by a panic what is wrong"
)]

use super::frame;
use super::journal::{self, Journal, Record, State};
use super::snapshot::{SnapshotFile, SnapshotRecord};
use super::types::{Entry, LogId, Proposal, SnapshotMeta, Vote};
use millrace_metadata::{Command, Image};
use millrace_storage::io::sim::SimDisk;
use millrace_storage::io::{Disk, Open};
use openraft::{CommittedLeaderId, EntryPayload};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/metadata";

/// An input: a byte that says which file it is and whether it is as it is; otherwise each line gets a frame of its own.
pub fn files(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let bytes = if flags & 2 == 0 {
        data.split(|byte| *byte == b'\n').filter_map(frame::encode).collect::<Vec<_>>().concat()
    } else {
        data.to_vec()
    };
    let disk = Arc::new(SimDisk::new(1));
    disk.create_dir_all(Path::new(DIR)).expect("the simulated disk has room");
    if flags & 1 == 0 { read_journal(disk, &bytes) } else { read_snapshot(disk, &bytes) }
}

fn put(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, Open::Truncate).expect("the simulated disk has room");
    file.write_all_at(0, &mut [IoSlice::new(bytes)]).expect("the simulated disk has room");
}

fn read_journal(disk: Arc<SimDisk>, bytes: &[u8]) {
    let path = Path::new(DIR).join("journal");
    put(&disk, &path, bytes);
    let Ok(Some((mut journal, state))) = Journal::open(Arc::<SimDisk>::clone(&disk), &path) else { return };
    assert!(journal.len() <= bytes.len() as u64, "nothing is added");
    // What was read takes more, whole or torn, and is the same in one record.
    let vote = journal::encode(&Record::Vote(Vote::new(9, 9))).expect("it is small");
    journal.append(&vote).expect("the disk has room");
    let (_, again) =
        Journal::open(Arc::<SimDisk>::clone(&disk), &path).expect("it was just open").expect("it is there");
    assert_eq!((again.vote, again.purged, &again.entries), (Some(Vote::new(9, 9)), state.purged, &state.entries));
    let whole = journal::encode(&state.header()).expect("it was read from less");
    journal.replace(&whole).expect("the disk has room");
    let (_, again) = Journal::open(disk, &path).expect("it was just written").expect("it is there");
    assert_eq!(
        (again.node, again.vote, again.purged, again.entries),
        (state.node, state.vote, state.purged, state.entries)
    );
}

fn read_snapshot(disk: Arc<SimDisk>, bytes: &[u8]) {
    let file = SnapshotFile::new(Arc::<SimDisk>::clone(&disk), Path::new(DIR));
    put(&disk, file.path(), bytes);
    let Ok(Some(record)) = file.read() else { return };
    file.write(&record).expect("the disk has room");
    let again = file.read().expect("it was just written").expect("it is there");
    assert_eq!((again.meta, again.image), (record.meta, record.image));
}

/// A journal with entries of every kind and a snapshot, line by line and as files.
pub fn seeds() -> Vec<Vec<u8>> {
    let id = |index| LogId::new(CommittedLeaderId::new(1, 0), index);
    let blank = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
    let commands = vec![Command::AllocateProducerIds { count: 5 }, Command::DeleteTopics { topics: Vec::new() }];
    let normal = EntryPayload::Normal(Proposal { commands: Arc::new(commands) });
    let members = openraft::Membership::new(vec![[0].into()], None);
    let state = State {
        node: 0,
        vote: Some(Vote::new_committed(1, 0)),
        purged: Some(id(2)),
        entries: [blank(3), Entry { log_id: id(4), payload: EntryPayload::Membership(members) }].into(),
    };
    let records = [
        state.header(),
        Record::Entries(vec![blank(5), Entry { log_id: id(6), payload: normal }]),
        Record::Vote(Vote::new(2, 0)),
        Record::Truncate { since: 6 },
        Record::Entries(vec![blank(6)]),
    ];
    let lines: Vec<_> = records.iter().map(|record| serde_json::to_vec(record).unwrap()).collect();
    let (image, _) = Image::default().apply(1, &Command::FormCluster { cluster_id: "MkU3OEVBNTcwNTJENDM2Qk".into() });
    let meta = SnapshotMeta { last_log_id: Some(id(4)), ..SnapshotMeta::default() };
    let snapshot = serde_json::to_vec(&SnapshotRecord::new(meta, image)).unwrap();
    let framed: Vec<_> = lines.iter().filter_map(|line| frame::encode(line)).collect();
    vec![
        [&[0][..], &lines.join(&b'\n')].concat(),
        [&[2][..], &framed.concat()].concat(),
        [&[1][..], &snapshot].concat(),
        [&[3][..], &frame::encode(&snapshot).unwrap()].concat(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_changed_files_open_or_say_why_not() {
        for seed in seeds() {
            files(&seed);
            for end in 0..seed.len() {
                files(&seed[..end]);
            }
            for at in (0..seed.len()).step_by(2) {
                for byte in [b'9', b'"', 0xff] {
                    let mut changed = seed.clone();
                    changed[at] = byte;
                    files(&changed);
                }
            }
        }
    }
}
