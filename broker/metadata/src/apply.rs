//! Command by command: the next image.

use crate::command::{CreatedTopic, DeletedTopic, NewPartitions, NewTopic, Placement, ProducerIds};
use crate::{
    ApplyError, Attachment, Broker, BrokerRegistration, Command, ConfigOf, Image, MAX_PARTITIONS_PER_COMMAND,
    Partition, Plugin, Response, Topic, assign_replicas, check_topic_name, is_internal_topic,
};
use millrace_model::{LeaderEpoch, NodeId, PartitionId, ProducerId, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How deep [`Command::All`] may nest: what is read from a log is not trusted with the stack.
const MAX_NESTING: usize = 4;

impl Image {
    /// The image after a command, and what the command did. `index` is the command's place in
    /// the log; a refused command moves the image there too.
    pub fn apply(&self, index: u64, command: &Command) -> (Self, Result<Response, ApplyError>) {
        let moved = Self { index, ..self.clone() };
        let mut next = moved.clone();
        match next.change(command, 0) {
            Ok(response) => (next, Ok(response)),
            Err(error) => (moved, Err(error)),
        }
    }

    /// Whether a topic could be created now, and what it would be: for requests that only ask.
    pub fn check_create(&self, topic: &NewTopic) -> Result<CreatedTopic, ApplyError> {
        self.new_topic(topic).map(|topic| describe(&topic))
    }

    /// Whether partitions could be added now.
    pub fn check_partitions(&self, wanted: &NewPartitions) -> Result<CreatedTopic, ApplyError> {
        self.more_partitions(wanted).map(|topic| describe(&topic))
    }

    fn change(&mut self, command: &Command, depth: usize) -> Result<Response, ApplyError> {
        match command {
            Command::FormCluster { cluster_id } => self.form(cluster_id),
            Command::CreateTopics { topics } => {
                bound(topics.iter().map(|topic| topic.placement.partitions()))?;
                let mut create = |topic| self.new_topic(topic).map(|topic| self.put(topic));
                Ok(Response::Created(topics.iter().map(&mut create).collect()))
            }
            Command::DeleteTopics { topics } => {
                Ok(Response::Deleted(topics.iter().map(|id| self.delete_topic(*id)).collect()))
            }
            Command::CreatePartitions { topics } => {
                bound(topics.iter().map(|wanted| self.growth(wanted)))?;
                let mut extend = |wanted| self.more_partitions(wanted).map(|topic| self.put(topic));
                Ok(Response::Created(topics.iter().map(&mut extend).collect()))
            }
            Command::SetTopicConfig { topic, set, replace } => self.set_topic_config(*topic, set, *replace),
            Command::SetAttachments { topic, attachments } => self.set_attachments(*topic, attachments),
            Command::SetClusterConfig { set, replace } => {
                set_keys(Arc::make_mut(&mut self.config), set, *replace)?;
                Ok(Response::Done)
            }
            Command::SetBrokerConfig { broker, set, replace } => {
                set_keys_of(Arc::make_mut(&mut self.broker_configs), *broker, set, *replace)
            }
            Command::SetGroupConfig { group, set, replace } => {
                set_keys_of(Arc::make_mut(&mut self.group_configs), group.clone(), set, *replace)
            }
            Command::RegisterPlugin(plugin) => self.register_plugin(plugin),
            Command::RemovePlugin { name, version } => self.remove_plugin(name, version),
            Command::AllocateProducerIds { count } => self.allocate_producer_ids(*count),
            Command::RegisterBroker(registration) => self.register_broker(registration),
            Command::UnregisterBroker { id } => self.unregister_broker(*id),
            Command::AdoptDirectory { directory } => {
                Arc::make_mut(&mut self.directories).insert(*directory);
                Ok(Response::Done)
            }
            Command::ExpectConfig { of, configs } => self.expect_config(of, configs),
            Command::All(commands) => self.all(commands, depth),
        }
    }

    fn all(&mut self, commands: &[Command], depth: usize) -> Result<Response, ApplyError> {
        if depth >= MAX_NESTING {
            return Err(ApplyError::Request { reason: "commands are nested too deep".to_owned() });
        }
        let mut responses = Vec::with_capacity(commands.len());
        for command in commands {
            let response = self.change(command, depth + 1)?;
            // What would be one topic's own failure elsewhere refuses the whole here.
            match &response {
                Response::Created(topics) => {
                    topics.iter().try_for_each(|one| one.as_ref().map(drop).map_err(Clone::clone))?
                }
                Response::Deleted(topics) => {
                    topics.iter().try_for_each(|one| one.as_ref().map(drop).map_err(Clone::clone))?
                }
                _ => {}
            }
            responses.push(response);
        }
        Ok(Response::All(responses))
    }

    fn form(&mut self, cluster_id: &str) -> Result<Response, ApplyError> {
        match &self.cluster_id {
            Some(existing) if **existing != *cluster_id => {
                Err(ApplyError::ClusterId { existing: existing.to_string(), asked: cluster_id.to_owned() })
            }
            _ => {
                self.cluster_id = Some(Arc::from(cluster_id));
                Ok(Response::Done)
            }
        }
    }

    fn put(&mut self, topic: Topic) -> CreatedTopic {
        let created = describe(&topic);
        self.put_topic(Arc::new(topic));
        created
    }

    fn new_topic(&self, wanted: &NewTopic) -> Result<Topic, ApplyError> {
        let name = &wanted.name;
        check_topic_name(name).map_err(ApplyError::TopicName)?;
        match self.topic_in_the_way(name) {
            Some(other) if other.name == *name => return Err(ApplyError::TopicExists { name: name.clone() }),
            Some(other) => {
                return Err(ApplyError::TopicCollides { name: name.clone(), existing: other.name.clone() });
            }
            None => {}
        }
        if wanted.id == TopicId::NIL || self.topic_by_id(wanted.id).is_some() {
            return Err(ApplyError::TopicIdTaken { id: wanted.id });
        }
        check_keys(wanted.config.keys())?;
        self.check_attachments(&wanted.attachments)?;
        Ok(Topic {
            id: wanted.id,
            name: name.clone(),
            partitions: self.place(&wanted.placement)?,
            config: wanted.config.clone(),
            attachments: wanted.attachments.clone(),
            generation: self.index,
            internal: is_internal_topic(name),
        })
    }

    fn place(&self, placement: &Placement) -> Result<Vec<Partition>, ApplyError> {
        let new = |replicas| fresh(replicas, LeaderEpoch::new(0));
        match placement {
            Placement::Spread { partitions, factor, seed } => {
                let count = usize::try_from(*partitions).ok().filter(|count| *count > 0);
                let count = count.ok_or(ApplyError::PartitionsNotPositive { partitions: *partitions })?;
                Ok(self.spread(0, count, *factor, *seed)?.into_iter().map(new).collect())
            }
            Placement::Assigned(assigned) => {
                if assigned.is_empty() {
                    return Err(bad_assignment("The manual partition assignment has no partitions.".to_owned()));
                }
                let mut numbers = (0..).map(PartitionId::new).zip(assigned.keys());
                if numbers.any(|(number, key)| number != *key) {
                    let reason = "partitions should be a consecutive 0-based integer sequence";
                    return Err(bad_assignment(reason.to_owned()));
                }
                let factor = assigned.values().next().map_or(0, Vec::len);
                for replicas in assigned.values() {
                    self.check_assignment(replicas, factor)?;
                }
                Ok(assigned.values().cloned().map(new).collect())
            }
            Placement::Found { broker, leader_epochs } => {
                self.check_assignment(&[*broker], 1)?;
                if leader_epochs.is_empty() {
                    return Err(ApplyError::PartitionsNotPositive { partitions: 0 });
                }
                Ok(leader_epochs.iter().map(|epoch| fresh(vec![*broker], *epoch)).collect())
            }
        }
    }

    fn spread(&self, first: usize, count: usize, factor: i16, seed: u64) -> Result<Vec<Vec<NodeId>>, ApplyError> {
        let copies = usize::try_from(factor).ok().filter(|factor| *factor > 0);
        let copies = copies.ok_or(ApplyError::ReplicationNotPositive { factor })?;
        let brokers: Vec<_> = self.brokers.values().filter(|broker| !broker.fenced).map(|broker| broker.id()).collect();
        if copies > brokers.len() {
            return Err(ApplyError::NotEnoughBrokers { factor, brokers: brokers.len() });
        }
        if count > MAX_PARTITIONS_PER_COMMAND {
            return Err(ApplyError::TooManyPartitions { limit: MAX_PARTITIONS_PER_COMMAND });
        }
        Ok(assign_replicas(&brokers, first, count, copies, seed))
    }

    fn check_assignment(&self, replicas: &[NodeId], factor: usize) -> Result<(), ApplyError> {
        if replicas.is_empty() {
            return Err(bad_assignment("The manual partition assignment includes an empty replica list.".to_owned()));
        }
        let mut seen = BTreeSet::new();
        for id in replicas {
            if !seen.insert(id) {
                return Err(bad_assignment(format!(
                    "The manual partition assignment includes the broker {id} more than once."
                )));
            }
            if !self.brokers.contains_key(id) {
                return Err(bad_assignment(format!(
                    "The manual partition assignment includes broker {id}, but no such broker is registered."
                )));
            }
        }
        if replicas.len() != factor {
            return Err(bad_assignment(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
                 with previous partitions, which have {factor} replica(s).",
                replicas.len()
            )));
        }
        Ok(())
    }

    fn more_partitions(&self, wanted: &NewPartitions) -> Result<Topic, ApplyError> {
        let topic = self.topic_by_id(wanted.topic).ok_or(ApplyError::UnknownTopicId { id: wanted.topic })?;
        let existing = topic.partitions.len();
        let total = usize::try_from(wanted.total).unwrap_or(0);
        if wanted.total >= 0 && total == existing {
            return Err(ApplyError::PartitionsThere { existing });
        }
        if total <= existing {
            return Err(ApplyError::PartitionsNotMore { name: topic.name.clone(), existing, asked: wanted.total });
        }
        let factor = topic.replication_factor();
        let added = match &wanted.assignment {
            None => {
                let factor = i16::try_from(factor).unwrap_or(i16::MAX);
                self.spread(existing, total - existing, factor, wanted.seed)?
            }
            Some(assigned) if assigned.len() != total - existing => {
                return Err(bad_assignment(format!(
                    "Attempted to add {} additional partition(s), but only {} assignment(s) were specified.",
                    total - existing,
                    assigned.len()
                )));
            }
            Some(assigned) => {
                for replicas in assigned {
                    self.check_assignment(replicas, factor)?;
                }
                assigned.clone()
            }
        };
        let mut topic = Topic::clone(topic);
        topic.partitions.extend(added.into_iter().map(|replicas| fresh(replicas, LeaderEpoch::new(0))));
        Ok(topic)
    }

    fn growth(&self, wanted: &NewPartitions) -> usize {
        let existing = self.topic_by_id(wanted.topic).map_or(0, |topic| topic.partitions.len());
        usize::try_from(wanted.total).unwrap_or(0).saturating_sub(existing)
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<DeletedTopic, ApplyError> {
        let topic = self.take_topic(id).ok_or(ApplyError::UnknownTopicId { id })?;
        self.remember_deleted(id);
        Ok(DeletedTopic { id, name: topic.name.clone() })
    }

    fn edit_topic(
        &mut self,
        id: TopicId,
        edit: impl FnOnce(&mut Topic) -> Result<(), ApplyError>,
    ) -> Result<Response, ApplyError> {
        let topic = self.topic_by_id(id).ok_or(ApplyError::UnknownTopicId { id })?;
        let mut edited = Topic::clone(topic);
        edit(&mut edited)?;
        self.put_topic(Arc::new(edited));
        Ok(Response::Done)
    }

    fn set_topic_config(
        &mut self,
        id: TopicId,
        set: &BTreeMap<String, Option<String>>,
        replace: bool,
    ) -> Result<Response, ApplyError> {
        self.edit_topic(id, |topic| set_keys(&mut topic.config, set, replace))
    }

    fn expect_config(&self, of: &ConfigOf, expected: &BTreeMap<String, String>) -> Result<Response, ApplyError> {
        let none = BTreeMap::new();
        let configs = match of {
            ConfigOf::Topic(id) => &self.topic_by_id(*id).ok_or(ApplyError::UnknownTopicId { id: *id })?.config,
            ConfigOf::Cluster => self.cluster_config(),
            ConfigOf::Broker(id) => self.broker_config(*id).unwrap_or(&none),
            ConfigOf::Group(group) => self.group_config(group).unwrap_or(&none),
        };
        if configs == expected { Ok(Response::Done) } else { Err(ApplyError::ConfigChanged) }
    }

    fn set_attachments(&mut self, id: TopicId, attachments: &[Attachment]) -> Result<Response, ApplyError> {
        self.check_attachments(attachments)?;
        let generation = self.index;
        self.edit_topic(id, |topic| {
            // The same plugins in the same order are no new generation: nothing needs to be swapped.
            if topic.attachments != attachments {
                topic.attachments = attachments.to_vec();
                topic.generation = generation;
            }
            Ok(())
        })
    }

    fn check_attachments(&self, attachments: &[Attachment]) -> Result<(), ApplyError> {
        let known = |attachment: &&Attachment| {
            let plugin = &attachment.plugin;
            self.plugin(&plugin.name, &plugin.version).is_some_and(|entry| entry.hash == plugin.hash)
        };
        match attachments.iter().find(|attachment| !known(attachment)) {
            None => Ok(()),
            Some(Attachment { plugin, .. }) => {
                Err(ApplyError::UnknownPlugin { plugin: plugin.to_string(), hash: plugin.hash.to_string() })
            }
        }
    }

    fn register_plugin(&mut self, plugin: &Plugin) -> Result<Response, ApplyError> {
        check_plugin_name(&plugin.name)?;
        check_plugin_name(&plugin.version)?;
        if let Some(there) = self.plugin(&plugin.name, &plugin.version) {
            if there.hash != plugin.hash {
                let name = format!("{}@{}", plugin.name, plugin.version);
                return Err(ApplyError::PluginDiffers { plugin: name, hash: there.hash.to_string() });
            }
            return Ok(Response::Plugin(plugin.hash));
        }
        let key = (plugin.name.clone(), plugin.version.clone());
        Arc::make_mut(&mut self.plugins).insert(key, Arc::new(plugin.clone()));
        Ok(Response::Plugin(plugin.hash))
    }

    fn remove_plugin(&mut self, name: &str, version: &str) -> Result<Response, ApplyError> {
        let plugin = format!("{name}@{version}");
        let runs = |attachment: &Attachment| attachment.plugin.name == name && attachment.plugin.version == version;
        if let Some(topic) = self.topics().find(|topic| topic.attachments.iter().any(runs)) {
            return Err(ApplyError::PluginInUse { plugin, topic: topic.name.clone() });
        }
        match Arc::make_mut(&mut self.plugins).remove(&(name.to_owned(), version.to_owned())) {
            Some(_) => Ok(Response::Done),
            None => Err(ApplyError::UnknownPlugin { plugin, hash: "any".to_owned() }),
        }
    }

    fn allocate_producer_ids(&mut self, count: u32) -> Result<Response, ApplyError> {
        if count == 0 {
            return Err(ApplyError::Request { reason: "a block of no producer ids was asked for".to_owned() });
        }
        let first = self.next_producer_id;
        self.next_producer_id = first.checked_add(i64::from(count)).ok_or(ApplyError::ProducerIdsExhausted)?;
        Ok(Response::ProducerIds(ProducerIds { first: ProducerId::new(first), count }))
    }

    fn register_broker(&mut self, registration: &BrokerRegistration) -> Result<Response, ApplyError> {
        let id = registration.id;
        if id.get() < 0 || registration.host.is_empty() {
            let reason = format!("the number {id} and the host '{}'", registration.host);
            return Err(ApplyError::Registration { reason });
        }
        if let Some(there) = self.broker(id) {
            if there.registration.incarnation != registration.incarnation {
                return Err(ApplyError::DuplicateBroker { id });
            }
            if there.registration == *registration && !there.fenced {
                return Ok(Response::Registered { epoch: there.epoch });
            }
        }
        let broker = Broker { registration: registration.clone(), epoch: self.index, fenced: false };
        Arc::make_mut(&mut self.brokers).insert(id, Arc::new(broker));
        Ok(Response::Registered { epoch: self.index })
    }

    fn unregister_broker(&mut self, id: NodeId) -> Result<Response, ApplyError> {
        match Arc::make_mut(&mut self.brokers).remove(&id) {
            Some(_) => Ok(Response::Done),
            None => Err(ApplyError::UnknownBroker { id }),
        }
    }
}

impl Placement {
    /// How many partitions somebody asks for.
    fn partitions(&self) -> usize {
        match self {
            Self::Spread { partitions, .. } => usize::try_from(*partitions).unwrap_or(0),
            Self::Assigned(assigned) => assigned.len(),
            Self::Found { .. } => 0,
        }
    }
}

fn describe(topic: &Topic) -> CreatedTopic {
    CreatedTopic {
        id: topic.id,
        name: topic.name.clone(),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(topic.replication_factor()).unwrap_or(i16::MAX),
    }
}

fn fresh(replicas: Vec<NodeId>, leader_epoch: LeaderEpoch) -> Partition {
    Partition {
        leader: replicas.first().copied().unwrap_or(NodeId::new(-1)),
        leader_epoch,
        isr: replicas.clone(),
        replicas,
        partition_epoch: 0,
    }
}

fn bad_assignment(reason: String) -> ApplyError {
    ApplyError::ReplicaAssignment { reason }
}

fn bound(sizes: impl Iterator<Item = usize>) -> Result<(), ApplyError> {
    if sizes.fold(0_usize, usize::saturating_add) > MAX_PARTITIONS_PER_COMMAND {
        return Err(ApplyError::TooManyPartitions { limit: MAX_PARTITIONS_PER_COMMAND });
    }
    Ok(())
}

fn check_keys<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<(), ApplyError> {
    if keys.any(String::is_empty) {
        return Err(ApplyError::Config { key: String::new(), reason: "a config has a name".to_owned() });
    }
    Ok(())
}

fn set_keys(
    config: &mut BTreeMap<String, String>,
    set: &BTreeMap<String, Option<String>>,
    replace: bool,
) -> Result<(), ApplyError> {
    check_keys(set.keys())?;
    if replace {
        config.clear();
    }
    for (key, value) in set {
        match value {
            Some(value) => drop(config.insert(key.clone(), value.clone())),
            None => drop(config.remove(key)),
        }
    }
    Ok(())
}

/// What has no configs left is forgotten.
fn set_keys_of<K: Ord>(
    all: &mut BTreeMap<K, BTreeMap<String, String>>,
    of: K,
    set: &BTreeMap<String, Option<String>>,
    replace: bool,
) -> Result<Response, ApplyError> {
    let mut config = all.remove(&of).unwrap_or_default();
    set_keys(&mut config, set, replace)?;
    if !config.is_empty() {
        all.insert(of, config);
    }
    Ok(Response::Done)
}

/// Names and versions become parts of paths.
fn check_plugin_name(text: &str) -> Result<(), ApplyError> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b'+');
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.');
    if fits { Ok(()) } else { Err(ApplyError::PluginName { text: text.chars().take(130).collect() }) }
}
