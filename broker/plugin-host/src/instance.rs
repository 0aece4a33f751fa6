//! One instance of a plugin: a store, its limits, and the call across the border.

use crate::answer::{Answer, Changes, Fault, Selection};
use crate::attachment::{AttachError, AttachmentOptions};
use crate::limits::Limits;
use crate::plugin::{Kind, Plugin};
use crate::runtime::{Budget, Inner, Interrupt};
use millrace_model::{Clock, Random};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{ComponentExportIndex, ComponentType, Func, Lower, TypedFunc};
use wasmtime::{ResourceLimiter, Result, Store, StoreContextMut, Trap, UpdateDeadline};

/// Elements of all tables of an instance: function tables, no more.
const TABLE: usize = 100_000;
/// Log lines a second.
const LINES: u32 = 50;
/// The wall time that a call may take, in multiples of its CPU time: beyond, the machine is overloaded or the guest
/// hides.
const WALL: u32 = 50;

/// What the host keeps beside a guest.
pub(crate) struct State {
    pub(crate) plugin: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// The last line of level error in this call.
    pub(crate) last_error: Option<String>,
    memory: Memory,
    log_second: i64,
    log_lines: u32,
    time: Duration,
    /// CPU and wall time in nanoseconds at the call's first tick.
    began: Option<(u64, u64)>,
}

/// Linear memory in use, held against the instance's limit and the host's.
struct Memory {
    used: u64,
    limit: u64,
    budget: Arc<Budget>,
    refused: Option<Fault>,
}

impl State {
    pub(crate) fn may_log(&mut self) -> bool {
        let second = self.clock.now().get().div_euclid(1000);
        if second != self.log_second {
            (self.log_second, self.log_lines) = (second, 0);
        }
        self.log_lines = self.log_lines.saturating_add(1);
        self.log_lines <= LINES
    }

    /// Whether the call has used its time; called once a tick.
    fn is_over(&mut self) -> bool {
        let now = (nanoseconds(ClockId::ThreadCPUTime), nanoseconds(ClockId::Monotonic));
        let (cpu, wall) = *self.began.get_or_insert(now);
        let limit = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        now.0.saturating_sub(cpu) >= limit || now.1.saturating_sub(wall) >= limit.saturating_mul(WALL.into())
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if self.used.saturating_add(more) > self.limit {
            self.refused = Some(Fault::Memory(self.limit));
            return Ok(false);
        }
        if !self.budget.take(more) {
            self.refused = Some(Fault::HostMemory(self.budget.limit()));
            return Ok(false);
        }
        self.used += more;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.budget.give(self.used);
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct BatchArgument<'a> {
    data: &'a [u8],
    index: &'a [u32],
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct Setup<'a> {
    config: &'a str,
    context: &'a [(&'a str, &'a str)],
}

/// The answer of `configure`.
type Configured = (core::result::Result<(), String>,);

pub(crate) struct Instance {
    store: Store<State>,
    kind: Kind,
    /// The kind's function, whose type was checked when the instance was made.
    func: Func,
    /// Memory right after `configure`.
    baseline: u64,
    interrupt: Interrupt,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("kind", &self.kind).field("memory", &self.memory()).finish_non_exhaustive()
    }
}

impl Instance {
    /// A new instance, configured.
    pub(crate) fn new(runtime: &Inner, plugin: &Plugin, options: &AttachmentOptions) -> Result<Self, AttachError> {
        let compiled = &plugin.0;
        let Limits { memory, time } = options.limits;
        let state = State {
            plugin: Arc::clone(&options.name),
            topic: Arc::clone(&options.topic),
            clock: Arc::clone(&runtime.clock),
            random: Arc::clone(&runtime.random),
            last_error: None,
            memory: Memory { used: 0, limit: memory, budget: Arc::clone(&runtime.budget), refused: None },
            log_second: 0,
            log_lines: 0,
            // Starting is not in the path of a record.
            time: time.max(runtime.start_time),
            began: None,
        };
        let mut store = Store::new(&runtime.engine, state);
        store.limiter(|state| &mut state.memory);
        // Everything that a guest hands over lies in its memory; nothing it hands over may become larger than that.
        store.set_hostcall_fuel(usize::try_from(memory).unwrap_or(usize::MAX));
        let interrupt = runtime.interrupt;
        if interrupt == Interrupt::Epochs {
            store.epoch_deadline_callback(|mut store: StoreContextMut<'_, State>| {
                if store.data_mut().is_over() { Err(Trap::Interrupt.into()) } else { Ok(UpdateDeadline::Continue(1)) }
            });
        }
        arm(&mut store, interrupt);
        let _running = runtime.running();
        let instance = compiled.pre.instantiate(&mut store).map_err(|error| fault(&mut store, &error))?;
        let configure = {
            let index = export(&instance, &mut store, &compiled.lifecycle, "configure")?;
            let configure = instance.get_func(&mut store, index).ok_or_else(|| missing("configure"))?;
            configure.typed::<(Setup<'_>,), Configured>(&store).map_err(|error| signature("configure", &error))?
        };
        let name = compiled.kind.name();
        let index = export(&instance, &mut store, &compiled.interface, name)?;
        let func = instance.get_func(&mut store, index).ok_or_else(|| missing(name))?;
        match compiled.kind {
            Kind::Filter => func.typed::<(BatchArgument<'_>,), (Selection,)>(&store).map(drop),
            Kind::Transform => func.typed::<(BatchArgument<'_>,), (Changes,)>(&store).map(drop),
        }
        .map_err(|error| signature(name, &error))?;
        let context = [
            ("host", runtime.host.as_str()),
            ("plugin", &options.name),
            ("topic", &options.topic),
            ("stage", options.stage),
        ];
        arm(&mut store, interrupt);
        let (answer,) = configure
            .call(&mut store, (Setup { config: &options.config, context: &context },))
            .map_err(|error| fault(&mut store, &error))?;
        answer.map_err(AttachError::Configure)?;
        store.data_mut().time = time;
        let baseline = store.data().memory.used;
        Ok(Self { store, kind: compiled.kind, func, baseline, interrupt })
    }

    /// One call. After an error the instance is of no more use.
    pub(crate) fn call(&mut self, data: &[u8], index: &[u32]) -> Result<Answer, Fault> {
        arm(&mut self.store, self.interrupt);
        let argument = (BatchArgument { data, index },);
        // SAFETY: `new` has checked the function of this kind against exactly these types.
        #[expect(
            unsafe_code,
            reason = "as wasmtime's own bindings do: a check for each batch would cost as much as the call"
        )]
        let answer = unsafe {
            match self.kind {
                Kind::Filter => TypedFunc::<(BatchArgument<'_>,), (Selection,)>::new_unchecked(self.func)
                    .call(&mut self.store, argument)
                    .map(|(selection,)| selection.into()),
                Kind::Transform => TypedFunc::<(BatchArgument<'_>,), (Changes,)>::new_unchecked(self.func)
                    .call(&mut self.store, argument)
                    .map(|(changes,)| changes.into()),
            }
        };
        answer.map_err(|error| fault(&mut self.store, &error))
    }

    /// Bytes of linear memory.
    pub(crate) fn memory(&self) -> u64 {
        self.store.data().memory.used
    }

    /// Whether its memory, which never shrinks, has grown so much that a fresh instance is the better one.
    pub(crate) fn is_bloated(&self) -> bool {
        self.memory() > 2 * self.baseline + (4 << 20)
    }
}

/// Gives a call its time.
fn arm(store: &mut Store<State>, interrupt: Interrupt) {
    let state = store.data_mut();
    (state.began, state.last_error) = (None, None);
    let milliseconds = u64::try_from(state.time.as_millis()).unwrap_or(u64::MAX);
    match interrupt {
        Interrupt::Epochs => store.set_epoch_deadline(1),
        Interrupt::Fuel { per_millisecond } => {
            if let Err(error) = store.set_fuel(milliseconds.saturating_mul(per_millisecond)) {
                tracing::error!(%error, "no fuel for a plugin's call");
            }
        }
    }
}

fn export(
    instance: &wasmtime::component::Instance,
    store: &mut Store<State>,
    interface: &str,
    name: &'static str,
) -> Result<ComponentExportIndex, AttachError> {
    let parent = instance.get_export_index(&mut *store, None, interface).ok_or_else(|| missing(name))?;
    instance.get_export_index(store, Some(&parent), name).ok_or_else(|| missing(name))
}

fn missing(name: &'static str) -> AttachError {
    AttachError::Signature { name, reason: "it is not exported".to_owned() }
}

fn signature(name: &'static str, error: &wasmtime::Error) -> AttachError {
    AttachError::Signature { name, reason: format!("{error:#}") }
}

/// What an error of a call means. What the guest said last, or what it was refused, explains a trap better than the trap.
fn fault(store: &mut Store<State>, error: &wasmtime::Error) -> Fault {
    let state = store.data_mut();
    let refused = state.memory.refused.take();
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt | Trap::OutOfFuel) => return Fault::Time(state.time),
        Some(Trap::StackOverflow) => return Fault::Stack,
        _ => {}
    }
    if let Some(fault) = refused {
        return fault;
    }
    let mut reason = match state.last_error.take() {
        Some(line) => line,
        None => error.root_cause().to_string(),
    };
    crate::answer::cut(&mut reason, 512);
    Fault::Trap(reason)
}
