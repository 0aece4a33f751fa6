//! One instance of a plugin: a store, its limits, and the call across the border.

use crate::answer::{Answer, Changes, Fault, Selection};
use crate::error::AttachError;
use crate::host::{Host, Interrupt};
use crate::limits::{AttachmentOptions, Limits};
use crate::plugin::{Kind, Plugin};
use crate::state::State;
use std::fmt;
use wasmtime::component::{ComponentExportIndex, ComponentType, Func, Lower, TypedFunc};
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline};

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
    pub(crate) fn new(runtime: &Host, plugin: &Plugin, options: &AttachmentOptions) -> Result<Self, AttachError> {
        let compiled = &plugin.0;
        let Limits { memory, time } = options.limits;
        let state = State::new(runtime, options);
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
