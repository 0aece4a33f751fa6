//! A plugin with a config and limits, ready to be called: a pool of configured instances.

use crate::answer::{Answer, Fault};
use crate::error::AttachError;
use crate::host::Host;
use crate::instance::Instance;
use crate::limits::AttachmentOptions;
use crate::plugin::{Kind, Plugin};
use crate::records::{Records, WORDS};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A plugin, attached. Calls may come from several threads at once, each gets an instance of its own.
#[derive(Debug)]
pub struct Attachment {
    runtime: Arc<Host>,
    plugin: Plugin,
    options: AttachmentOptions,
    idle: Mutex<Vec<Idle>>,
}

/// An instance with the buffer that its calls build their index in.
#[derive(Debug)]
struct Idle {
    instance: Instance,
    index: Vec<u32>,
}

/// Bytes of records and index in one call, at most, unless one record alone takes more.
const CALL: usize = 256 << 10;
/// Words of an index buffer that an idle instance keeps.
const KEPT_WORDS: usize = 64 << 10;

impl Attachment {
    /// Starts and configures the first instance, so that what is attached is known to work.
    pub(crate) fn new(runtime: Arc<Host>, plugin: Plugin, options: AttachmentOptions) -> Result<Self, AttachError> {
        options.limits.check()?;
        let attachment = Self { runtime, plugin, options, idle: Mutex::default() };
        let first = attachment.start()?;
        attachment.put_back(first);
        Ok(attachment)
    }

    /// The plugin.
    pub const fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The plugin's kind.
    pub fn kind(&self) -> Kind {
        self.plugin.kind()
    }

    /// What it was made with.
    pub const fn options(&self) -> &AttachmentOptions {
        &self.options
    }

    /// Bytes that one call's records may take with their index. A quarter of the instance's memory, so that answer and
    /// working space fit beside it; and no more than the processor's caches hold, which is faster, keeps the guest's memory
    /// small, and lets `limits.time` mean the same for a large batch as for a small one.
    pub fn call_bytes(&self) -> usize {
        usize::try_from(self.options.limits.memory / 4).map_or(CALL, |bytes| bytes.min(CALL))
    }

    /// Asks the plugin about a range of records. Blocks for as long as the guest runs: call it on a guest thread.
    ///
    /// # Errors
    /// The guest's fault; the instance that had it is gone, the next call gets a fresh one.
    pub fn call(&self, records: &Records, range: Range<usize>) -> Result<Answer, Fault> {
        if range.is_empty() {
            return Ok(Answer::UNCHANGED);
        }
        let bytes = records.call_bytes(&range);
        if bytes as u64 > self.options.limits.memory {
            return Err(Fault::Large { bytes, limit: self.options.limits.memory });
        }
        let mut checked_out = match self.take() {
            Some(idle) => idle,
            None => self.start().map_err(|error| match error {
                AttachError::Fault(fault) => fault,
                other => Fault::Instance(other.to_string()),
            })?,
        };
        let span = records.span(&range);
        let index = rebased(records, &range, span.start, &mut checked_out.index);
        let _running = self.runtime.running();
        let answer = checked_out.instance.call(records.data.get(span).unwrap_or_default(), index)?;
        if !checked_out.instance.is_bloated() {
            self.put_back(checked_out);
        }
        Ok(answer)
    }

    /// Bytes of linear memory of the idle instances.
    pub fn idle_memory(&self) -> u64 {
        self.lock().iter().map(|idle| idle.instance.memory()).sum()
    }

    fn start(&self) -> Result<Idle, AttachError> {
        let instance = Instance::new(&self.runtime, &self.plugin, &self.options)?;
        Ok(Idle { instance, index: Vec::new() })
    }

    fn take(&self) -> Option<Idle> {
        self.lock().pop()
    }

    fn put_back(&self, mut idle: Idle) {
        idle.index.clear();
        idle.index.shrink_to(KEPT_WORDS);
        self.lock().push(idle);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The range's index with offsets that count from the range's first byte.
fn rebased<'a>(records: &'a Records, range: &Range<usize>, base: usize, into: &'a mut Vec<u32>) -> &'a [u32] {
    let words = records.words.get(range.clone()).unwrap_or_default();
    if base == 0 {
        return words.as_flattened();
    }
    let base = base as u32;
    into.clear();
    into.reserve(words.len() * WORDS);
    for [key, key_len, value, value_len, headers, headers_len, low, high] in words {
        // A null field has no place.
        into.extend([
            key.saturating_sub(base),
            *key_len,
            value.saturating_sub(base),
            *value_len,
            headers.saturating_sub(base),
            *headers_len,
            *low,
            *high,
        ]);
    }
    into
}
