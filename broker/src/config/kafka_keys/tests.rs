use super::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn lines(fixture: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    fixture.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

/// An entry in the form of the fixtures.
fn shown(entry: &Entry) -> String {
    let source = |source| match source {
        Source::Topic => "DYNAMIC_TOPIC_CONFIG",
        Source::Group => "DYNAMIC_GROUP_CONFIG",
        Source::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        Source::DynamicCluster => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        Source::StaticBroker => "STATIC_BROKER_CONFIG",
        Source::Default => "DEFAULT_CONFIG",
    };
    let synonyms: Vec<String> = entry
        .synonyms
        .iter()
        .map(|s| format!("{}={}@{}", s.name, s.value.as_deref().unwrap_or("null"), source(s.source)))
        .collect();
    let line = [
        entry.name,
        entry.value.as_deref().unwrap_or("null"),
        source(entry.source),
        if entry.read_only { "RO" } else { "RW" },
        entry.kind.name(),
        &synonyms.join(" "),
    ];
    line.join("\t").trim_end().to_owned()
}

#[test]
fn both_tables_are_in_the_order_of_their_names_and_their_defaults_are_valid() {
    for table in [topic_keys(), broker_keys()] {
        assert!(table.is_sorted_by(|a, b| a.name < b.name));
        for key in table {
            if let Some(default) = key.default {
                let value = parse(key, default).unwrap_or_else(|error| panic!("{}: {error}", key.name));
                assert_eq!(value.to_string(), default, "{}", key.name);
            }
        }
    }
}

#[test]
fn every_synonym_is_a_broker_key_with_the_same_default() {
    for key in topic_keys() {
        let Some((last, unit)) = key.synonyms.last() else { continue };
        let stand_in = broker_key(last).unwrap();
        let value = parse(stand_in, stand_in.default.unwrap()).unwrap();
        let scaled = if let Value::Int(number) = value { Value::Int(number.saturating_mul(*unit)) } else { value };
        assert_eq!(scaled.to_string(), key.default.unwrap(), "{}", key.name);
        assert!(key.synonyms.iter().all(|(name, _)| broker_key(name).is_some()), "{}", key.name);
    }
}

#[test]
fn keys_that_are_acted_on_are_documented() {
    for key in topic_keys().iter().chain(broker_keys()) {
        assert!(key.effect != Effect::Acts || !key.doc.is_empty(), "{}", key.name);
        assert!(!key.documentation().is_empty());
    }
}

#[test]
fn a_topic_config_is_refused_in_the_words_of_kafka() {
    for case in lines(include_str!("fixtures/validate-topic.tsv")) {
        let (name, value) = case[0].split_once('=').unwrap();
        let said = validate_topic(&map(&[(name, value)])).err().map(|error| error.to_string());
        assert_eq!(said.as_deref(), case.get(1).copied(), "{name}={value}");
    }
}

#[test]
fn a_topic_is_described_as_kafka_describes_it() {
    let configs = map(&[("retention.bytes", "1000"), ("cleanup.policy", "compact")]);
    let broker = BrokerKeys::new(map(&[("log.segment.delete.delay.ms", "1000")])).unwrap();
    let ours: Vec<String> = describe_topic(&configs, &broker)
        .unwrap()
        .iter()
        .filter(|entry| entry.name != "min.insync.replicas")
        .map(shown)
        .collect();
    let kafkas: Vec<String> = lines(include_str!("fixtures/describe-topic.tsv")).map(|line| line.join("\t")).collect();
    assert_eq!(ours, kafkas);
}

#[test]
fn a_broker_is_described_as_kafka_describes_it() {
    let broker = BrokerKeys::new(map(&[("log.segment.delete.delay.ms", "1000")])).unwrap();
    let described = describe_broker(&broker, &BTreeMap::new()).unwrap();
    for line in lines(include_str!("fixtures/describe-broker.tsv")) {
        let entry = described.iter().find(|entry| entry.name == line[0]).unwrap();
        assert_eq!(shown(entry), line.join("\t"));
    }
}

#[test]
fn facts_of_the_node_are_described_as_its_static_configuration() {
    let facts = BTreeMap::from([("node.id", "7".to_owned())]);
    let described = describe_broker(&BrokerKeys::default(), &facts).unwrap();
    let node = described.iter().find(|entry| entry.name == "node.id").unwrap();
    assert_eq!(shown(node), "node.id\t7\tSTATIC_BROKER_CONFIG\tRO\tINT\tnode.id=7@STATIC_BROKER_CONFIG");
}

#[test]
fn passwords_are_not_shown() {
    let described = describe_broker(&BrokerKeys::default(), &BTreeMap::new()).unwrap();
    let password = described.iter().find(|entry| entry.name == "ssl.key.password").unwrap();
    assert!(password.sensitive && password.value.is_none());
}

#[test]
fn a_topic_without_configs_has_the_defaults() {
    let settings = TopicSettings::resolve(&BTreeMap::new(), &BrokerKeys::default()).unwrap();
    assert!(settings.delete && !settings.compact);
    assert_eq!(settings.compression, CompressionType::Producer);
    assert_eq!(settings.segment_bytes, 1 << 30);
    assert_eq!(settings.retention, Some(Duration::from_secs(7 * 24 * 3600)));
    assert_eq!(settings.retention_bytes, None);
    assert_eq!(settings.flush_messages, None);
    assert_eq!(settings.flush_interval, None);
    assert_eq!(settings.max_message_bytes, 1_048_588);
}

#[test]
fn a_topic_config_goes_before_the_broker_key_and_the_finer_unit_before_the_coarser() {
    let broker = |pairs: &[(&str, &str)]| BrokerKeys::new(map(pairs)).unwrap();
    let retention = |configs: &[(&str, &str)], keys: &[(&str, &str)]| {
        TopicSettings::resolve(&map(configs), &broker(keys)).unwrap().retention
    };
    assert_eq!(retention(&[], &[("log.retention.hours", "2")]), Some(Duration::from_secs(7200)));
    let both = [("log.retention.hours", "2"), ("log.retention.minutes", "3")];
    assert_eq!(retention(&[], &both), Some(Duration::from_secs(180)));
    assert_eq!(retention(&[("retention.ms", "5")], &both), Some(Duration::from_millis(5)));
    assert_eq!(retention(&[("retention.ms", "-1")], &both), None);
    assert_eq!(retention(&[], &[("log.retention.hours", "-1")]), None);
}

#[test]
fn the_compression_type_carries_the_level_of_its_codec() {
    let of = |pairs: &[(&str, &str)]| TopicSettings::resolve(&map(pairs), &BrokerKeys::default()).unwrap().compression;
    assert_eq!(of(&[("compression.type", "gzip")]), CompressionType::Gzip(None));
    let gzip = [("compression.type", "gzip"), ("compression.gzip.level", "4")];
    assert_eq!(of(&gzip), CompressionType::Gzip(Some(4)));
    assert_eq!(of(&[("compression.type", "lz4")]), CompressionType::Lz4(9));
    assert_eq!(of(&[("compression.type", "zstd"), ("compression.zstd.level", "-5")]), CompressionType::Zstd(-5));
}

#[test]
fn compaction_lags_that_cross_are_refused() {
    let error = validate_topic(&map(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
    );
}

#[test]
fn tiered_storage_cannot_be_enabled() {
    let error = validate_topic(&map(&[("remote.storage.enable", "true")])).unwrap_err();
    assert_eq!(error.key(), "remote.storage.enable");
}

#[test]
fn a_broker_key_that_promises_security_is_refused_and_one_without_effect_is_reported() {
    let error = BrokerKeys::new(map(&[("ssl.client.auth", "required")])).unwrap_err();
    assert_eq!(error.to_string(), "ssl.client.auth is not supported by this broker");
    let keys = BrokerKeys::new(map(&[("num.io.threads", "16"), ("num.partitions", "3")])).unwrap();
    assert_eq!(keys.without_effect().collect::<Vec<_>>(), ["num.io.threads"]);
    assert_eq!(BrokerSettings::resolve(&keys).unwrap().default_partitions, 3);
}

#[test]
fn impossible_broker_values_are_refused() {
    let refused = |name: &str, value: &str| BrokerKeys::new(map(&[(name, value)])).unwrap_err().to_string();
    assert_eq!(
        refused("log.retention.ms", "0"),
        "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1"
    );
    assert_eq!(refused("no.such.key", "0"), "Unknown broker config name: no.such.key");
    assert_eq!(
        refused("log.segment.bytes", "5"),
        "Invalid value 5 for configuration log.segment.bytes: Value must be at least 1048576"
    );
}

#[test]
fn the_default_broker_settings_resolve() {
    let settings = BrokerSettings::resolve(&BrokerKeys::default()).unwrap();
    assert!(settings.auto_create_topics);
    assert_eq!(settings.request_max_bytes, 104_857_600);
    assert_eq!(settings.socket_send_buffer, None);
    assert_eq!(settings.queued_request_bytes, None);
    assert_eq!(settings.offsets_retention, Duration::from_secs(7 * 24 * 3600));
}

#[test]
fn a_topic_without_configs_gives_the_log_its_defaults() {
    let topic = TopicSettings::resolve(&BTreeMap::new(), &BrokerKeys::default()).unwrap();
    assert_eq!(topic.log_config(), millrace_storage::LogConfig::default());
}

#[test]
fn how_long_idle_producers_are_remembered_may_change_while_the_broker_runs() {
    let changed = BTreeMap::from([("producer.id.expiration.ms".to_owned(), "5000".to_owned())]);
    let keys = BrokerKeys::default().with_dynamic(&changed, None);
    let topic = TopicSettings::resolve(&BTreeMap::new(), &keys).unwrap();
    assert_eq!(topic.log_config().producer_id_expiration_ms, 5_000);
}
