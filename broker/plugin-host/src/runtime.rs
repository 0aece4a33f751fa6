//! The engine and what all plugins of a process share: the compiler's cache, the tick, the budget of memory.

use crate::attachment::Attachment;
use crate::cache::Cache;
use crate::error::{AttachError, LoadError, RuntimeError};
use crate::host::{Budget, Host, Interrupt};
use crate::limits::AttachmentOptions;
use crate::plugin::{Plugin, check_bytes, compile};
use crate::ticker::Ticker;
use millrace_model::{Clock, ContentHash, Random};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// How guests that run too long are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// By a tick on a thread of its own: cheap, and as precise as the tick.
    Epochs {
        /// Between two ticks.
        tick: Duration,
    },
    /// By counting instructions: slower, and the same in every run. For the simulation.
    Fuel {
        /// Units that stand for a millisecond of a limit.
        per_millisecond: u64,
    },
}

/// What a runtime is made with.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Where compiled components are kept; nowhere without.
    pub cache: Option<PathBuf>,
    /// How guests are stopped.
    pub interruption: Interruption,
    /// Instances of all plugins together. Each reserves 4 GiB of address space (not of memory).
    pub instances: u32,
    /// Bytes of linear memory of all instances together.
    pub memory: u64,
    /// Bytes of a component at most.
    pub component_bytes: usize,
    /// CPU time that an instance may take to start and to read its config.
    pub start_time: Duration,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            cache: None,
            interruption: Interruption::Epochs { tick: Duration::from_millis(5) },
            instances: 1000,
            memory: 1 << 30,
            component_bytes: 64 << 20,
            start_time: Duration::from_secs(2),
        }
    }
}

/// Where plugins run. One per process; cloning shares it.
#[derive(Clone, Debug)]
pub struct Runtime(Arc<Host>);

impl Runtime {
    /// Starts the engine.
    ///
    /// # Errors
    /// Where the engine, its cache or its tick cannot be had.
    pub fn new(options: RuntimeOptions, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, RuntimeError> {
        let engine = Engine::new(&config(&options)).map_err(|error| RuntimeError::Engine(format!("{error:#}")))?;
        let cache = match &options.cache {
            None => None,
            Some(dir) => {
                let opened = Cache::open(dir, &engine);
                Some(opened.map_err(|error| RuntimeError::Cache { dir: dir.clone(), error })?)
            }
        };
        let (interrupt, ticker) = match options.interruption {
            Interruption::Epochs { tick } => {
                (Interrupt::Epochs, Some(Ticker::start(&engine, tick).map_err(RuntimeError::Ticker)?))
            }
            Interruption::Fuel { per_millisecond } => (Interrupt::Fuel { per_millisecond }, None),
        };
        Ok(Self(Arc::new(Host {
            engine,
            clock,
            random,
            budget: Arc::new(Budget::new(options.memory)),
            interrupt,
            start_time: options.start_time,
            host: concat!("millrace ", env!("CARGO_PKG_VERSION")).to_owned(),
            component_bytes: options.component_bytes,
            cache,
            ticker,
        })))
    }

    /// Compiles a component, or maps it where it was compiled before. Takes 0.1 to 6 seconds for the former: keep it off
    /// the path of records.
    ///
    /// # Errors
    /// Says what the bytes are instead of a plugin.
    pub fn load(&self, bytes: &[u8]) -> Result<Plugin, LoadError> {
        let Host { engine, cache, component_bytes, .. } = &*self.0;
        check_bytes(bytes, *component_bytes)?;
        let hash = ContentHash::of(bytes);
        if let Some(component) = cache.as_ref().and_then(|cache| cache.get(engine, hash)) {
            return Plugin::inspect(engine, &component, hash);
        }
        let component = compile(engine, bytes)?;
        let plugin = Plugin::inspect(engine, &component, hash)?;
        let Some(cache) = cache else {
            give_back_memory();
            return Ok(plugin);
        };
        cache.put(hash, &component);
        // From its file the code is mapped: pages that nothing runs take no memory.
        let mapped = cache.get(engine, hash).map(|component| Plugin::inspect(engine, &component, hash));
        let plugin = mapped.transpose()?.unwrap_or(plugin);
        drop(component);
        give_back_memory();
        Ok(plugin)
    }

    /// Attaches a plugin: starts and configures an instance of it.
    ///
    /// # Errors
    /// Impossible limits, a config that the plugin refuses, a plugin that does not start.
    pub fn attach(&self, plugin: &Plugin, options: AttachmentOptions) -> Result<Attachment, AttachError> {
        Attachment::new(Arc::clone(&self.0), plugin.clone(), options)
    }

    /// Bytes of linear memory of all instances.
    pub fn memory(&self) -> u64 {
        self.0.budget.used()
    }
}

/// Gives back what a compilation took: tens of megabytes for a large component, which the allocator would keep for the
/// next one.
fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "a function of the C library without a binding in std")]
        unsafe extern "C" {
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}

fn config(options: &RuntimeOptions) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    // A component is a few core instances: the guest's module and the shims that the tools put around it.
    pool.total_component_instances(options.instances)
        .total_core_instances(options.instances.saturating_mul(8))
        .total_memories(options.instances)
        .total_tables(options.instances.saturating_mul(4))
        .max_core_instances_per_component(32)
        .max_memories_per_component(1)
        .max_tables_per_component(16)
        .max_unused_warm_slots(16)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(8 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(512 << 10)
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_memory64(false);
    match options.interruption {
        Interruption::Epochs { .. } => config.epoch_interruption(true),
        Interruption::Fuel { .. } => {
            config.consume_fuel(true).cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true)
        }
    };
    config
}
