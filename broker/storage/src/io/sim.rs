//! A file system in memory that fails where it is told to, and crashes as machines do.
//!
//! - A *process* crash keeps everything that was written.
//! - A *power* crash keeps what was synced. Of the rest each 512-byte sector is, by the seed, as it was or as it became; a file's length is
//!   its old one, its new one or between them; of the changes of names since the last `sync_dir` a prefix is kept, as a journal keeps them.
//! - Every changing operation has a number, from 0. A hook may let an operation fail (a write then has written a prefix) or let the machine
//!   stop in the middle of it: everything after that fails until [`SimDisk::restart`].
//!
//! The same seed and the same operations give the same outcome.

use super::{Disk, DiskFile, Lock, Open, Stat};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;

/// A changing operation, for the hook to look at.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// How many came before it.
    pub number: u64,
    /// What it does: "create", "write", "cut", "allocate", "sync", "rename", "remove", "create dir", "remove dir", "sync dir".
    pub what: &'static str,
    /// What it does it to.
    pub path: &'a Path,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Proceed,
    /// It fails so; a write has written some prefix.
    Fail(io::ErrorKind),
    /// The machine stops in the middle of it.
    Crash,
}

/// How the machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process died: what it wrote is there.
    Process,
    /// The power failed: what was not synced may be gone, in part.
    Power,
}

type Hook = Arc<dyn Fn(&Operation<'_>) -> Verdict + Send + Sync>;

/// The file system. Clones are the same one.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    generation: u64,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Insert(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Default)]
struct Inode {
    data: Vec<u8>,
    synced: Vec<u8>,
    /// What differs, at most.
    unsynced: Range<usize>,
    modified_ms: i64,
}

type Tree = BTreeMap<PathBuf, Node>;

struct State {
    random: u64,
    tree: Tree,
    synced_tree: Tree,
    journal: Vec<Change>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    operations: u64,
    hook: Option<Hook>,
    crashed: bool,
    capacity: Option<u64>,
    locks: BTreeSet<PathBuf>,
    boot: u64,
    generation: u64,
    now_ms: i64,
    /// Files that are on the disk only, and how many reads had to wait for one.
    cold: BTreeSet<u64>,
    waits: u64,
}

impl SimDisk {
    /// An empty file system with nothing but a root.
    pub fn new(seed: u64) -> Self {
        let root = Tree::from([(PathBuf::from("/"), Node::Dir)]);
        let state = State {
            random: seed,
            tree: root.clone(),
            synced_tree: root,
            journal: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            operations: 0,
            hook: None,
            crashed: false,
            capacity: None,
            locks: BTreeSet::new(),
            boot: 0,
            generation: 0,
            now_ms: 0,
            cold: BTreeSet::new(),
            waits: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), generation: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks `hook` about every changing operation from here on.
    pub fn set_hook(&self, hook: impl Fn(&Operation<'_>) -> Verdict + Send + Sync + 'static) {
        self.state().hook = Some(Arc::new(hook));
    }

    /// Lets every operation proceed again.
    pub fn clear_hook(&self) {
        self.state().hook = None;
    }

    /// Stops the machine in the middle of the operation with this number.
    pub fn crash_at(&self, number: u64) {
        self.set_hook(move |operation| if operation.number == number { Verdict::Crash } else { Verdict::Proceed });
    }

    /// Lets the operation with this number fail.
    pub fn fail_at(&self, number: u64, kind: io::ErrorKind) {
        self.set_hook(move |operation| if operation.number == number { Verdict::Fail(kind) } else { Verdict::Proceed });
    }

    /// How many changing operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the machine stopped.
    pub fn is_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Bytes that all files together may have; writes beyond fail with "storage full".
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Drops what is in memory of the files in a directory: the next read of each waits for the disk.
    pub fn drop_cached(&self, dir: &Path) {
        let mut state = self.state();
        let inside = |(path, node): (&PathBuf, &Node)| match node {
            Node::File(inode) if path.parent() == Some(dir) => Some(*inode),
            _ => None,
        };
        state.cold = state.tree.iter().filter_map(inside).collect();
    }

    /// How many reads have waited for the disk.
    pub fn waits(&self) -> u64 {
        self.state().waits
    }

    /// What files written from here on have as the time of their last write.
    pub fn set_now(&self, ms: i64) {
        self.state().now_ms = ms;
    }

    /// Stops the machine now (if it has not stopped) and starts it again. Handles and locks from before are dead; the hook is gone.
    #[must_use]
    pub fn restart(&self, crash: Crash) -> Self {
        let mut state = self.state();
        if crash == Crash::Power {
            state.lose_power();
            state.boot += 1;
        }
        state.hook = None;
        state.crashed = false;
        state.locks.clear();
        state.generation += 1;
        Self { state: Arc::clone(&self.state), generation: state.generation }
    }

    /// Flips bits of a byte of a file, as a bad disk does.
    pub fn corrupt(&self, path: &Path, position: usize, mask: u8) {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.tree.get(path).copied() else { return };
        if let Some(inode) = state.inodes.get_mut(&inode) {
            for content in [&mut inode.data, &mut inode.synced] {
                if let Some(byte) = content.get_mut(position) {
                    *byte ^= mask;
                }
            }
        }
    }

    fn live(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.crashed || state.generation != self.generation {
            return Err(io::Error::other("the simulated machine has stopped"));
        }
        Ok(state)
    }

    /// A changing operation: done in full, or up to a point.
    fn change(
        &self,
        what: &'static str,
        path: &Path,
        act: impl FnOnce(&mut State, Extent) -> io::Result<()>,
    ) -> io::Result<()> {
        let hook = self.live()?.hook.clone();
        let mut state = self.live()?;
        let number = state.operations;
        state.operations += 1;
        match hook.map_or(Verdict::Proceed, |hook| hook(&Operation { number, what, path })) {
            Verdict::Proceed => act(&mut state, Extent::Whole),
            Verdict::Fail(kind) => {
                let extent = Extent::Part(state.random());
                if what == "write" {
                    act(&mut state, extent)?;
                }
                Err(kind.into())
            }
            Verdict::Crash => {
                // It may or may not have happened.
                let dice = state.random();
                if what == "write" {
                    let _ = act(&mut state, Extent::Part(dice));
                } else if dice & 1 == 1 {
                    let _ = act(&mut state, Extent::Whole);
                }
                state.crashed = true;
                Err(io::Error::other("the simulated machine stops"))
            }
        }
    }
}

/// How much of an operation is done.
#[derive(Clone, Copy, Debug)]
enum Extent {
    Whole,
    /// Some prefix, chosen by this number.
    Part(u64),
}

impl State {
    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random() % (end.max(1) as u64)).unwrap_or(0)
    }

    fn apply(&mut self, change: Change) {
        apply(&mut self.tree, &change);
        self.journal.push(change);
    }

    fn parent_is_there(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.tree.get(parent)) {
            Some(Node::Dir) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.tree.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, inode: u64, position: u64, from: &[u8], extent: Extent) -> io::Result<()> {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let used: u64 = self.inodes.values().map(|inode| inode.data.len() as u64).sum();
        let old_len = self.inode(inode)?.data.len();
        let mut len = from.len();
        if let Extent::Part(dice) = extent {
            len = usize::try_from(dice % (len as u64 + 1)).unwrap_or(0);
        }
        let mut full = false;
        if let Some(capacity) = self.capacity {
            let room = usize::try_from(capacity.saturating_sub(used)).unwrap_or(usize::MAX);
            let most = (old_len + room).saturating_sub(position);
            full = len > most;
            len = len.min(most);
        }
        let now = self.now_ms;
        let inode = self.inode(inode)?;
        inode.modified_ms = now;
        let end = position + len;
        if len > 0 {
            if inode.data.len() < end {
                inode.data.resize(end, 0);
            }
            if let (Some(to), Some(from)) = (inode.data.get_mut(position..end), from.get(..len)) {
                to.copy_from_slice(from);
            }
            inode.touch(position.min(old_len)..end);
        }
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn lose_power(&mut self) {
        let kept = self.below(self.journal.len() + 1);
        for change in self.journal.drain(..).take(kept) {
            apply(&mut self.synced_tree, &change);
        }
        self.tree = self.synced_tree.clone();
        let mut inodes = std::mem::take(&mut self.inodes);
        for inode in inodes.values_mut() {
            self.lose_unsynced(inode);
        }
        self.inodes = inodes;
    }

    fn lose_unsynced(&mut self, inode: &mut Inode) {
        if inode.unsynced.is_empty() && inode.data.len() == inode.synced.len() {
            return;
        }
        let (old, new) = (inode.synced.len(), inode.data.len());
        let len = match self.below(3) {
            0 => old,
            1 => new,
            _ => old.min(new) + self.below(old.abs_diff(new) + 1),
        };
        let mut left = vec![0; len];
        for (i, sector) in left.chunks_mut(SECTOR).enumerate() {
            let from = if self.random() & 1 == 1 { &inode.data } else { &inode.synced };
            for (to, from) in sector.iter_mut().zip(from.iter().skip(i * SECTOR)) {
                *to = *from;
            }
        }
        // Outside of what was written since, old and new are the same.
        inode.synced.clone_from(&left);
        inode.data = left;
        inode.unsynced = 0..0;
    }
}

impl Inode {
    fn touch(&mut self, range: Range<usize>) {
        self.unsynced = if self.unsynced.is_empty() {
            range
        } else {
            self.unsynced.start.min(range.start)..self.unsynced.end.max(range.end)
        };
    }

    fn sync(&mut self) {
        self.synced.resize(self.data.len(), 0);
        let range = self.unsynced.start.min(self.data.len())..self.unsynced.end.min(self.data.len());
        if let (Some(to), Some(from)) = (self.synced.get_mut(range.clone()), self.data.get(range)) {
            to.copy_from_slice(from);
        }
        self.unsynced = 0..0;
    }
}

fn apply(tree: &mut Tree, change: &Change) {
    match change {
        Change::Insert(path, node) => {
            tree.insert(path.clone(), *node);
        }
        Change::Remove(path) => tree.retain(|other, _| !other.starts_with(path)),
        Change::Rename(from, to) => {
            tree.retain(|other, _| !other.starts_with(to));
            let moving: Vec<_> = tree
                .iter()
                .filter(|(path, _)| path.starts_with(from))
                .map(|(path, node)| (path.clone(), *node))
                .collect();
            for (path, node) in moving {
                tree.remove(&path);
                let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
                let path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                tree.insert(path, node);
            }
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    path: PathBuf,
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.generation == self.disk.generation {
            state.locks.remove(&self.path);
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let there = self.live()?.file(path);
        match (there, how) {
            (Ok(inode), Open::Truncate) => self.change("cut", path, |state, _| {
                let inode = state.inode(inode)?;
                inode.touch(0..inode.data.len());
                inode.data.clear();
                Ok(())
            })?,
            (Ok(_), _) => {}
            (Err(error), Open::Create | Open::Truncate) if error.kind() == io::ErrorKind::NotFound => {
                self.change("create", path, |state, _| {
                    state.parent_is_there(path)?;
                    let inode = state.next_inode;
                    state.next_inode += 1;
                    let modified_ms = state.now_ms;
                    state.inodes.insert(inode, Inode { modified_ms, ..Inode::default() });
                    state.apply(Change::Insert(path.to_owned(), Node::File(inode)));
                    Ok(())
                })?;
            }
            (Err(error), _) => return Err(error),
        }
        let inode = self.live()?.file(path)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, path: path.to_owned() }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change("create dir", path, |state, _| {
            state.parent_is_there(path)?;
            if state.tree.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.apply(Change::Insert(path.to_owned(), Node::Dir));
            Ok(())
        })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<_> = {
            let state = self.live()?;
            path.ancestors().take_while(|path| !state.tree.contains_key(*path)).map(Path::to_owned).collect()
        };
        missing.iter().rev().try_for_each(|path| self.create_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename", from, |state, _| {
            if !state.tree.contains_key(from) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.parent_is_there(to)?;
            state.apply(Change::Rename(from.to_owned(), to.to_owned()));
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change("remove", path, |state, _| {
            state.file(path)?;
            state.apply(Change::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change("remove dir", path, |state, _| match state.tree.get(path) {
            Some(Node::Dir) => {
                state.apply(Change::Remove(path.to_owned()));
                Ok(())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.live()?;
        if state.tree.get(path) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let within = state.tree.keys().filter(|other| other.parent() == Some(path));
        Ok(within.filter_map(|other| Some(other.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let mut state = self.live()?;
        match state.tree.get(path).copied() {
            Some(Node::Dir) => Ok(Stat { is_dir: true, len: 0, modified_ms: 0 }),
            Some(Node::File(inode)) => {
                let inode = state.inode(inode)?;
                Ok(Stat { is_dir: false, len: inode.data.len() as u64, modified_ms: inode.modified_ms })
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change("sync dir", path, |state, _| {
            for change in std::mem::take(&mut state.journal) {
                apply(&mut state.synced_tree, &change);
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.open(path, Open::Create)?;
        let taken = self.live()?.locks.insert(path.to_owned());
        Ok(taken.then(|| Box::new(SimLock { disk: self.clone(), path: path.to_owned() }) as Box<dyn Lock>))
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("boot-{}", self.state().boot))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.live()?;
        if state.cold.remove(&self.inode) {
            state.waits += 1;
        }
        let inode = state.inode(self.inode)?;
        let from = usize::try_from(position).ok().and_then(|from| inode.data.get(from..)).unwrap_or_default();
        let len = from.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..len), from.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn read_resident_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        if self.is_resident(position, into.len() as u64) {
            self.read_at(position, into)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn write_all_at(&self, position: u64, from: &mut [IoSlice<'_>]) -> io::Result<()> {
        let from: Vec<u8> = from.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.disk.change("write", &self.path, |state, extent| state.write(self.inode, position, &from, extent))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.live()?.inode(self.inode)?.data.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.disk.change("cut", &self.path, |state, _| {
            let inode = state.inode(self.inode)?;
            let old = inode.data.len();
            inode.data.resize(len, 0);
            inode.touch(old.min(len)..old.max(len));
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.disk.change("allocate", &self.path, |state, _| {
            let used: u64 = state.inodes.values().map(|inode| inode.data.len() as u64).sum();
            let capacity = state.capacity.unwrap_or(u64::MAX);
            let inode = state.inode(self.inode)?;
            let old = inode.data.len();
            if used.saturating_add(len.saturating_sub(old) as u64) > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inode.data.resize(len.max(old), 0);
            inode.touch(old..len.max(old));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change("sync", &self.path, |state, _| {
            state.inode(self.inode)?.sync();
            Ok(())
        })
    }

    fn is_resident(&self, _position: u64, _len: u64) -> bool {
        !self.disk.state().cold.contains(&self.inode)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &SimDisk, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        disk.open(Path::new(path), Open::Create)?.write_all_at(at, &mut [IoSlice::new(bytes)])
    }

    #[test]
    fn a_process_crash_keeps_what_was_written_and_kills_old_handles() {
        let disk = SimDisk::new(1);
        write(&disk, "/a", 0, b"hello").unwrap();
        let old = disk.open(Path::new("/a"), Open::Read).unwrap();
        let lock = disk.lock(Path::new("/lock")).unwrap();
        assert!(lock.is_some() && disk.lock(Path::new("/lock")).unwrap().is_none());
        let disk = disk.restart(Crash::Process);
        assert!(old.len().is_err());
        assert_eq!(disk.read(Path::new("/a"), 10).unwrap(), b"hello");
        assert!(disk.lock(Path::new("/lock")).unwrap().is_some());
    }

    #[test]
    fn a_power_crash_keeps_what_was_synced_and_loses_some_of_the_rest() {
        let (mut lost, mut torn) = (0, 0);
        for seed in 0..100 {
            let disk = SimDisk::new(seed);
            write(&disk, "/a", 0, &[1; 2048]).unwrap();
            disk.open(Path::new("/a"), Open::Write).unwrap().sync_data().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            write(&disk, "/a", 2048, &[2; 2048]).unwrap();
            write(&disk, "/b", 0, &[3; 10]).unwrap();
            let disk = disk.restart(Crash::Power);
            let a = disk.read(Path::new("/a"), 1 << 20).unwrap();
            assert_eq!(a[..2048], [1; 2048], "seed {seed}");
            torn += u32::from(a.len() == 4096 && a[2048..].contains(&0) && a[2048..].contains(&2));
            lost += u32::from(disk.stat(Path::new("/b")).is_err());
        }
        assert!((20..80).contains(&lost), "{lost} of 100 lost an unsynced name");
        assert!(torn > 5, "{torn} of 100 have a torn tail");
    }

    #[test]
    fn an_operation_fails_or_crashes_where_it_is_told_to() {
        let disk = SimDisk::new(7);
        write(&disk, "/a", 0, b"0123456789").unwrap();
        let before = disk.operations();
        disk.fail_at(before, io::ErrorKind::StorageFull);
        assert_eq!(write(&disk, "/a", 10, b"abcdef").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(disk.stat(Path::new("/a")).unwrap().len < 16);
        disk.crash_at(before + 1);
        assert!(write(&disk, "/a", 10, b"abcdef").is_err());
        assert!(disk.is_crashed() && disk.read(Path::new("/a"), 100).is_err());
        let disk = disk.restart(Crash::Process);
        assert!(disk.read(Path::new("/a"), 100).unwrap().starts_with(b"0123456789"));
        disk.set_capacity(Some(20));
        assert_eq!(write(&disk, "/b", 0, &[0; 30]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_directory_moves_with_all_that_is_in_it() {
        let disk = SimDisk::new(3);
        disk.create_dir_all(Path::new("/x/y")).unwrap();
        write(&disk, "/x/y/f", 0, b"f").unwrap();
        disk.rename(Path::new("/x/y"), Path::new("/x/z")).unwrap();
        assert_eq!(disk.list(Path::new("/x")).unwrap(), ["z"]);
        assert_eq!(disk.read(Path::new("/x/z/f"), 1).unwrap(), b"f");
        disk.remove_dir_all(Path::new("/x")).unwrap();
        assert!(disk.stat(Path::new("/x/z")).is_err());
    }
}
