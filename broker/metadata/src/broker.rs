//! Brokers and their registrations.

use millrace_model::NodeId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a broker says of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    /// Its number.
    pub id: NodeId,
    /// The host clients are told.
    pub host: String,
    /// The port clients are told.
    pub port: u16,
    /// Its rack, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// Tells one broker from another that claims the same number: it belongs to the data directory.
    pub incarnation: Uuid,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// What it said of itself.
    #[serde(flatten)]
    pub registration: BrokerRegistration,
    /// The index of the command that registered it: larger for every registration.
    pub epoch: u64,
    /// Whether it may not lead or take new replicas, because the controller has not heard from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
}

impl Broker {
    /// Its number.
    pub const fn id(&self) -> NodeId {
        self.registration.id
    }

    /// The host clients are told.
    pub fn host(&self) -> &str {
        &self.registration.host
    }

    /// The port clients are told.
    pub const fn port(&self) -> u16 {
        self.registration.port
    }
}
