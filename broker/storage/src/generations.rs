//! Which generation of a topic's plugins handled a partition's records, and from which offset: for ever.
//!
//! The file `plugin-generations` in the partition's directory is text, like `leader-epoch-checkpoint`: the version (0), the
//! number of entries, then an entry a line: generation, first offset, and the plugins in their order (`name@version:hash`).
//!
//! Invariants:
//! - An entry is on the disk before a batch that its generation handled is written: [`Generations::begin`] comes first, the
//!   append after it. So no record is ever without its entry, while an entry may be without a record.
//! - Generations and offsets grow from entry to entry. An entry that begins at the log's end or behind says nothing and is
//!   forgotten when the file is opened.
//! - A partition whose topic never had a plugin has no such file.
//! - A file that cannot be understood is set aside under another name: records are worth more than what is known of them.

use crate::StorageError;
use crate::io::{Disk, with_suffix};
use millrace_model::Offset;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file's name.
const FILE: &str = "plugin-generations";
/// Bytes of a file that is read.
const LIMIT: u64 = 16 << 20;

/// One generation and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationStart {
    /// The generation: the index of the metadata command that set the topic's attachments.
    pub generation: u64,
    /// The first offset that it handled.
    pub start: Offset,
    /// Its plugins in their order, `name@version:hash`, between spaces; empty for none.
    pub plugins: Arc<str>,
}

/// The generations of one partition.
#[derive(Debug)]
pub struct Generations {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Shared with readers, replaced as a whole.
    entries: Arc<Vec<GenerationStart>>,
    /// Lists that were made so far.
    made: u64,
    written: Arc<Mutex<u64>>,
}

impl Generations {
    /// Reads the file in a partition's directory, for a log that ends at `end`.
    ///
    /// # Errors
    /// As the disk says.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, end: Offset) -> Result<Self, StorageError> {
        let path = dir.join(FILE);
        let entries = match disk.read(&path, LIMIT) {
            Ok(bytes) => match str::from_utf8(&bytes).ok().and_then(parse) {
                Some(entries) => entries,
                None => {
                    let aside = with_suffix(&path, ".broken");
                    tracing::error!(path = %aside.display(), "the generations of plugins cannot be read and are set aside");
                    disk.rename(&path, &aside).map_err(StorageError::io("rename", &path))?;
                    Vec::new()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StorageError::io("read", path)(error)),
        };
        let mut generations = Self { disk, path, entries: Arc::new(entries), made: 0, written: Arc::default() };
        generations.cut_end(end);
        Ok(generations)
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> Arc<Vec<GenerationStart>> {
        Arc::clone(&self.entries)
    }

    /// Whether a batch of this generation needs an entry before it is appended. Records without any plugin need one only
    /// behind records with some.
    pub fn must_begin(&self, generation: u64, plugins: &str) -> bool {
        match self.entries.last() {
            Some(last) => last.generation != generation,
            None => !plugins.is_empty(),
        }
    }

    /// The list in which `generation` begins at `at`, and what of it begins before `log_start` and ends there too is
    /// forgotten. Nothing changes yet: [`NextGenerations::write`] writes it, [`Generations::adopt`] takes it over.
    pub fn begin(&mut self, generation: u64, plugins: &Arc<str>, at: Offset, log_start: Offset) -> NextGenerations {
        let mut entries: Vec<_> = self.entries.iter().filter(|entry| entry.start < at).cloned().collect();
        entries.push(GenerationStart { generation, start: at, plugins: Arc::clone(plugins) });
        let within = entries.partition_point(|entry| entry.start <= log_start);
        entries.drain(..within.saturating_sub(1));
        self.made += 1;
        NextGenerations {
            disk: Arc::clone(&self.disk),
            path: self.path.clone(),
            entries: Arc::new(entries),
            number: self.made,
            written: Arc::clone(&self.written),
        }
    }

    /// Takes over a list that was written.
    pub fn adopt(&mut self, next: &NextGenerations) {
        self.entries = Arc::clone(&next.entries);
    }

    /// Forgets entries that begin at `end` or behind: the log was cut there. The file follows with the next entry, and
    /// until then with every start.
    pub fn cut_end(&mut self, end: Offset) {
        if self.entries.last().is_some_and(|last| last.start >= end) {
            self.entries = Arc::new(self.entries.iter().filter(|entry| entry.start < end).cloned().collect());
        }
    }
}

/// A list of generations that is to be written, which blocks.
#[derive(Clone, Debug)]
pub struct NextGenerations {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    entries: Arc<Vec<GenerationStart>>,
    number: u64,
    /// The newest list that was written; whoever writes holds it.
    written: Arc<Mutex<u64>>,
}

impl NextGenerations {
    /// Replaces the file in one step that survives a power loss. A list that nobody waits for any more, and that a newer
    /// one has overtaken, is not written.
    ///
    /// # Errors
    /// As the disk says; the file is then as it was, or as it shall be.
    pub fn write(&self) -> Result<(), StorageError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if self.number >= *written {
            let text = text(&self.entries);
            self.disk.replace_synced(&self.path, text.as_bytes()).map_err(StorageError::io("write", &self.path))?;
            *written = self.number;
        }
        Ok(())
    }
}

fn text(entries: &[GenerationStart]) -> String {
    let mut text = format!("0\n{}\n", entries.len());
    for GenerationStart { generation, start, plugins } in entries {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", format!("{generation} {start} {plugins}").trim_end());
    }
    text
}

fn parse(text: &str) -> Option<Vec<GenerationStart>> {
    // A text that ends within a line is a text too.
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let mut entries: Vec<GenerationStart> = Vec::new();
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let entry = GenerationStart {
            generation: words.next()?.parse().ok()?,
            start: Offset::new(words.next()?.parse().ok()?),
            plugins: words.next().unwrap_or_default().into(),
        };
        if entries.last().is_some_and(|last| entry.start <= last.start || entry.generation == last.generation) {
            return None;
        }
        entries.push(entry);
    }
    (entries.len() == count).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::OsDisk;

    const MASK: &str = "mask-fields@1.0.0:ab";

    fn open(dir: &Path, end: i64) -> Generations {
        Generations::open(Arc::new(OsDisk), dir, Offset::new(end)).unwrap()
    }

    fn begin(generations: &mut Generations, generation: u64, plugins: &str, at: i64, log_start: i64) {
        let next = generations.begin(generation, &plugins.into(), Offset::new(at), Offset::new(log_start));
        next.write().unwrap();
        generations.adopt(&next);
    }

    fn starts(generations: &Generations) -> Vec<(u64, i64, String)> {
        let entries = generations.entries();
        entries.iter().map(|entry| (entry.generation, entry.start.get(), entry.plugins.to_string())).collect()
    }

    #[test]
    fn generations_are_read_back_as_they_began() {
        let dir = tempfile::tempdir().unwrap();
        let mut generations = open(dir.path(), 0);
        begin(&mut generations, 7, MASK, 0, 0);
        begin(&mut generations, 9, "mask-fields@1.1.0:cd filter-fields@1.0.0:ef", 40, 0);
        begin(&mut generations, 12, "", 60, 0);
        let expected = [
            (7, 0, MASK.to_owned()),
            (9, 40, "mask-fields@1.1.0:cd filter-fields@1.0.0:ef".to_owned()),
            (12, 60, String::new()),
        ];
        assert_eq!(starts(&generations), expected);
        assert_eq!(starts(&open(dir.path(), 61)), expected);
    }

    #[test]
    fn an_entry_without_a_record_is_forgotten_and_the_next_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut generations = open(dir.path(), 0);
        begin(&mut generations, 7, MASK, 0, 0);
        begin(&mut generations, 9, "", 40, 0);
        let mut reopened = open(dir.path(), 40);
        assert_eq!(starts(&reopened), [(7, 0, MASK.to_owned())]);
        assert!(reopened.must_begin(9, ""));
        begin(&mut reopened, 11, "x@1.0.0:00", 35, 0);
        assert_eq!(starts(&open(dir.path(), 40)), [(7, 0, MASK.to_owned()), (11, 35, "x@1.0.0:00".to_owned())]);
    }

    #[test]
    fn what_lies_before_the_logs_start_is_forgotten_but_for_who_handles_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut generations = open(dir.path(), 0);
        for (generation, at) in [(1, 0), (2, 10), (3, 20)] {
            begin(&mut generations, generation, MASK, at, 0);
        }
        begin(&mut generations, 4, MASK, 30, 15);
        assert_eq!(starts(&generations).iter().map(|entry| entry.0).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn a_partition_that_never_had_a_plugin_has_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let generations = open(dir.path(), 5);
        assert!(!generations.must_begin(3, ""));
        assert!(generations.must_begin(3, MASK));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_list_that_a_newer_one_has_overtaken_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut generations = open(dir.path(), 0);
        let old = generations.begin(7, &MASK.into(), Offset::ZERO, Offset::ZERO);
        let new = generations.begin(9, &MASK.into(), Offset::ZERO, Offset::ZERO);
        new.write().unwrap();
        old.write().unwrap();
        assert_eq!(starts(&open(dir.path(), 1)), [(9, 0, MASK.to_owned())]);
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        for broken in ["", "0\n1\n7 0", "1\n0\n", "0\n2\n7 0\n", "0\n2\n7 9\n8 3\n", "0\n1\nx 0\n", "0\n1\n7\n"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), broken).unwrap();
            assert!(starts(&open(dir.path(), 9)).is_empty(), "{broken:?}");
            assert_eq!(std::fs::read_to_string(dir.path().join("plugin-generations.broken")).unwrap(), broken);
        }
    }

    /// Swaps with the log growing between them, stopped at each operation of the disk: what is found afterwards names
    /// the generation of every record that was appended.
    #[test]
    fn a_crash_at_any_operation_leaves_no_record_without_its_generation() {
        use crate::io::sim::{Crash, SimDisk};
        let dir = Path::new("/t-0");
        for (at, crash) in (0..60).flat_map(|at| [(at, Crash::Process), (at, Crash::Power)]) {
            let disk = SimDisk::new(at);
            disk.create_dir_all(dir).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            disk.crash_at(disk.operations() + at);
            // By offset, as appended.
            let mut handled: Vec<u64> = Vec::new();
            let mut generations = Generations::open(Arc::new(disk.clone()), dir, Offset::ZERO).unwrap();
            'run: for generation in [3, 8, 9, 20] {
                for _ in 0..5 {
                    if generations.must_begin(generation, MASK) {
                        let end = Offset::new(handled.len() as i64);
                        let next = generations.begin(generation, &MASK.into(), end, Offset::ZERO);
                        if next.write().is_err() {
                            break 'run;
                        }
                        generations.adopt(&next);
                    }
                    handled.push(generation);
                }
            }
            drop(generations);
            let disk = disk.restart(crash);
            let end = Offset::new(handled.len() as i64);
            let found = Generations::open(Arc::new(disk), dir, end).unwrap().entries();
            for (offset, generation) in (0..).map(Offset::new).zip(&handled) {
                let of = found.iter().rev().find(|entry| entry.start <= offset).map(|entry| entry.generation);
                assert_eq!(of, Some(*generation), "offset {offset} after {crash:?} at {at}: {found:?}");
            }
        }
    }
}
