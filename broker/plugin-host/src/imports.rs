//! What a guest may import: `millrace:plugin/*`, served here; a few functions of WASI without which the standard libraries
//! of the guests' languages do not start, served without any capability behind them; the rest of WASI's base, which traps
//! when it is called. Anything else, the network first of all, is refused when the plugin is loaded.

use crate::answer::cut;
use crate::error::LoadError;
use crate::state::State;
use wasmtime::StoreContextMut;
use wasmtime::component::{Component, ComponentType, Lift, Linker, LinkerInstance, Lower};
use wasmtime::{Engine, Result};

/// Bytes of a log line that are kept.
const LINE: usize = 1024;
/// Random bytes that a guest gets in one call at most.
const RANDOM: u64 = 64 << 10;

/// WASI packages that a guest without any grant may name.
const INERT: [&str; 5] = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:filesystem/", "wasi:random/"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "made from what a guest hands over")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct DateTime {
    seconds: u64,
    nanoseconds: u32,
}

/// A linker with everything that this component imports.
pub(crate) fn link(engine: &Engine, component: &Component) -> Result<Linker<State>, LoadError> {
    let mut linker = Linker::new(engine);
    let ty = component.component_type();
    for (name, _) in ty.imports(engine) {
        define(&mut linker, name)?;
    }
    linker.define_unknown_imports_as_traps(component).map_err(|error| LoadError::Link(error.to_string()))?;
    Ok(linker)
}

/// Defines one imported interface under exactly the name (and version) that the component has for it.
fn define(linker: &mut Linker<State>, name: &str) -> Result<(), LoadError> {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let ours = interface.strip_prefix("millrace:plugin/");
    if ours.is_some() && !is_our_version(version) {
        return Err(LoadError::Version { name: name.to_owned() });
    }
    if ours.is_none() && !INERT.iter().any(|prefix| interface.starts_with(prefix)) {
        return Err(LoadError::Import { name: name.to_owned() });
    }
    let define = |linker: &mut Linker<State>| {
        let mut instance = linker.instance(name)?;
        match interface {
            "millrace:plugin/types" => Ok(()),
            "millrace:plugin/logging" => instance.func_wrap("log", log),
            "millrace:plugin/clock" => instance.func_wrap("now", |store, ()| Ok((now(&store),))),
            "millrace:plugin/random" => instance.func_wrap("next", |store, ()| Ok((random(&store),))),
            _ => wasi(interface, &mut instance),
        }
    };
    if ours.is_some_and(|name| !["types", "logging", "clock", "random"].contains(&name)) {
        return Err(LoadError::Import { name: name.to_owned() });
    }
    define(linker).map_err(|error| LoadError::Link(error.to_string()))
}

/// Versions of `millrace:plugin` that this host serves: the WIT evolves by addition within 0.1.
pub(crate) fn is_our_version(version: &str) -> bool {
    version.strip_prefix("0.1.").is_some_and(|patch| patch.parse::<u32>() == Ok(0))
}

/// The functions of WASI that have an answer: hash maps ask for a seed, runtimes ask for the environment and the time.
fn wasi(interface: &str, instance: &mut LinkerInstance<'_, State>) -> Result<()> {
    match interface {
        "wasi:random/random" | "wasi:random/insecure" => {
            let prefix = if interface.ends_with("insecure") { "insecure-" } else { "" };
            instance.func_wrap(&format!("get-{prefix}random-u64"), |store, ()| Ok((random(&store),)))?;
            instance.func_wrap(
                &format!("get-{prefix}random-bytes"),
                |store: StoreContextMut<'_, State>, (len,): (u64,)| {
                    let mut bytes = vec![0; usize::try_from(len.min(RANDOM))?];
                    store.data().random.fill(&mut bytes);
                    Ok((bytes,))
                },
            )
        }
        "wasi:random/insecure-seed" => instance.func_wrap("insecure-seed", |store: StoreContextMut<'_, State>, ()| {
            Ok(((random(&store), random(&store)),))
        }),
        "wasi:cli/environment" => {
            instance.func_wrap("get-environment", |_, ()| Ok((Vec::<(String, String)>::new(),)))?;
            instance.func_wrap("get-arguments", |_, ()| Ok((Vec::<String>::new(),)))?;
            instance.func_wrap("initial-cwd", |_, ()| Ok((None::<String>,)))
        }
        "wasi:clocks/wall-clock" => {
            instance.func_wrap("now", |store, ()| {
                let now = u64::try_from(now(&store)).unwrap_or(0);
                Ok((DateTime { seconds: now / 1000, nanoseconds: (now % 1000) as u32 * 1_000_000 },))
            })?;
            instance.func_wrap("resolution", |_, ()| Ok((DateTime { seconds: 0, nanoseconds: 1_000_000 },)))
        }
        "wasi:clocks/monotonic-clock" => {
            instance
                .func_wrap("now", |store: StoreContextMut<'_, State>, ()| Ok((store.data().clock.monotonic_ns(),)))?;
            instance.func_wrap("resolution", |_, ()| Ok((1_u64,)))
        }
        _ => Ok(()),
    }
}

fn now(store: &StoreContextMut<'_, State>) -> i64 {
    store.data().clock.now().get()
}

fn random(store: &StoreContextMut<'_, State>) -> u64 {
    store.data().random.u64()
}

fn log(mut store: StoreContextMut<'_, State>, (level, mut message): (Level, String)) -> Result<()> {
    cut(&mut message, LINE);
    let state = store.data_mut();
    let line = message.replace(char::is_control, " ");
    if state.may_log() {
        let (plugin, topic) = (&*state.plugin, &*state.topic);
        match level {
            Level::Trace => tracing::trace!(plugin, topic, line, "plugin says"),
            Level::Debug => tracing::debug!(plugin, topic, line, "plugin says"),
            Level::Info => tracing::info!(plugin, topic, line, "plugin says"),
            Level::Warn => tracing::warn!(plugin, topic, line, "plugin says"),
            Level::Error => tracing::error!(plugin, topic, line, "plugin says"),
        }
    }
    if level == Level::Error {
        state.last_error = Some(line);
    }
    Ok(())
}
