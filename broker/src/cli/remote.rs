//! The commands that talk to a running broker.

use super::arguments::{ApplyOptions, Connection, PlanOptions, PushOptions};
use super::client::Client;
use super::fault::Fault;
use super::output::{Output, Paint};
use crate::config::bundle::read_component;
use crate::config::units::show_bytes;
use crate::config::{Bundle, Problems};
use crate::http::{PlanAnswer, PluginInfo, StatusAnswer, TopicInfo};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// What `plan --exit-code` ends with where something differs.
const DIFFERS: u8 = 3;

/// `millrace plan PATH`
pub fn plan(options: &PlanOptions, output: &mut Output) -> Result<ExitCode, Fault> {
    let answer = ask("/v1/plan", &options.path, &options.connection)?;
    let differs = !answer.differences.is_empty();
    if options.connection.json {
        json(&answer, output)?;
    } else if differs {
        output.differences(&answer.differences);
        output.line(format!("\n{} to change; do it with: millrace apply {}", things(&answer), options.path.display()));
    } else {
        output.line("nothing to change");
    }
    unnamed(&answer, &options.path, output);
    Ok(if differs && options.exit_code { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS })
}

/// `millrace apply PATH`
pub fn apply(options: &ApplyOptions, output: &mut Output) -> Result<(), Fault> {
    let answer = ask("/v1/apply", &options.path, &options.connection)?;
    if options.connection.json {
        return json(&answer, output);
    }
    if answer.differences.is_empty() {
        output.line("nothing to change");
    } else {
        output.differences(&answer.differences);
        let done = output.paint(Paint::Green, "done");
        output.line(format!("\n{done}: {} changed", things(&answer)));
    }
    unnamed(&answer, &options.path, output);
    Ok(())
}

/// Says which plugins are none of the files' business.
fn unnamed(answer: &PlanAnswer, from: &Path, output: &mut Output) {
    // One file was never meant to name them all.
    let shown: &[String] = if from.is_file() { &[] } else { &answer.unnamed };
    for topic in shown {
        output.note(format!(
            "note: no file names the topic {topic}, which has plugins attached; it keeps them. To take them away, apply a \
             file for it without [[plugin]]"
        ));
    }
}

/// `millrace push FILE`
pub fn push(options: &PushOptions, output: &mut Output) -> Result<(), Fault> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => name_of(&options.file)?,
    };
    crate::config::topic::check_plugin_name(&name)
        .map_err(|reason| Fault::new(reason).next("give one with --name NAME"))?;
    let bytes = read_component(&options.file).map_err(|reason| {
        Fault::new(reason).next("build the plugin with: cargo build --release --target wasm32-wasip2")
    })?;
    let client = Client::new(&options.connection)?;
    let working = progress(format!("compiling {name} on the broker"));
    let answer = client.put(&format!("/v1/plugins/{name}/{}", options.plugin_version), bytes);
    working.finish_and_clear();
    let plugin: PluginInfo = serde_json::from_slice(&answer?).map_err(|error| Fault::new(error.to_string()))?;
    if options.connection.json {
        return json(&plugin, output);
    }
    output.line(format!("pushed {}@{} ({}, {})", plugin.name, plugin.version, show_bytes(plugin.size), plugin.hash));
    output.line(format!("attach it in a topic file with: use = \"{}@{}\"", plugin.name, plugin.version));
    Ok(())
}

/// `millrace topics`
pub fn topics(connection: &Connection, output: &mut Output) -> Result<(), Fault> {
    let topics: Vec<TopicInfo> = Client::new(connection)?.get("/v1/topics")?;
    if connection.json {
        return json(&topics, output);
    }
    let row = |topic: TopicInfo| {
        let mut plugins: Vec<String> = topic.plugins.into_iter().map(|one| one.plugin).collect();
        if let Some(newest) = topic.generations.iter().map(|one| one.generation).max() {
            plugins.push(format!("(generation {newest})"));
        }
        let config: Vec<String> = topic.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            topic.name,
            topic.partitions.to_string(),
            topic.replication_factor.to_string(),
            or_dash(plugins.join(" ")),
            or_dash(config.join(" ")),
        ]
    };
    output.table(&["topic", "partitions", "replicas", "plugins", "config"], topics.into_iter().map(row));
    Ok(())
}

/// `millrace plugins`
pub fn plugins(connection: &Connection, output: &mut Output) -> Result<(), Fault> {
    let plugins: Vec<PluginInfo> = Client::new(connection)?.get("/v1/plugins")?;
    if connection.json {
        return json(&plugins, output);
    }
    let row = |plugin: PluginInfo| {
        let hash = plugin.hash.chars().take(12).collect();
        vec![plugin.name, plugin.version, show_bytes(plugin.size), hash, or_dash(plugin.topics.join(", "))]
    };
    output.table(&["plugin", "version", "size", "content", "topics"], plugins.into_iter().map(row));
    Ok(())
}

/// `millrace status`
pub fn status(connection: &Connection, output: &mut Output) -> Result<(), Fault> {
    let status: StatusAnswer = Client::new(connection)?.get("/v1/status")?;
    if connection.json {
        return json(&status, output);
    }
    let state =
        if status.ready { output.paint(Paint::Green, "ready") } else { output.paint(Paint::Yellow, "starting") };
    output.line(format!(
        "node {} of cluster {}: {state}",
        status.node_id,
        or_dash(status.cluster_id.unwrap_or_default())
    ));
    output.line(format!(
        "millrace {}, {} topics, {} partitions, {} plugins",
        status.version, status.topics, status.partitions, status.plugins
    ));
    output.line("");
    output.table(&["broker", "address"], status.brokers.into_iter().map(|one| vec![one.id.to_string(), one.address]));
    Ok(())
}

/// Sends the components that the broker may lack, then the files.
fn ask(path: &str, dir: &Path, connection: &Connection) -> Result<PlanAnswer, Fault> {
    let bundle = Bundle::read(dir)?;
    if bundle.request.files.is_empty() {
        return Err(Fault::new(format!("{} holds no topic files", dir.display()))
            .next("a topic file is a *.toml that begins with [topic] and name = \"...\""));
    }
    let client = Client::new(connection)?;
    let working = progress("compiling plugins on the broker".to_owned());
    let sent = bundle.components.into_iter().try_for_each(|mut one| {
        let bytes = std::mem::take(&mut one.bytes);
        let answer = client.put_checked(&format!("/v1/components/{}", one.hash), bytes)?;
        // What is wrong with a component is wrong in the file that names it.
        answer.map_err(|reason| Problems::from(one.refused(&reason)).into())
    });
    let answer = sent.and_then(|()| client.post(path, &bundle.request));
    working.finish_and_clear();
    answer
}

/// Shows that something takes its time; nothing where stderr is no terminal.
pub(super) fn progress(text: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(text);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn name_of(file: &Path) -> Result<String, Fault> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase().replace('_', "-"));
    stem.filter(|name| crate::config::topic::check_plugin_name(name).is_ok())
        .ok_or_else(|| Fault::new(format!("{} gives no plugin name", file.display())).next("give one with --name NAME"))
}

fn json(value: &impl Serialize, output: &mut Output) -> Result<(), Fault> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Fault::new(error.to_string()))?;
    output.line(text);
    Ok(())
}

fn things(answer: &PlanAnswer) -> String {
    match answer.differences.len() {
        1 => "1 thing".to_owned(),
        many => format!("{many} things"),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
