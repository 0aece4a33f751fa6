//! The requests that Kafka 4.3 serves on a broker's listener, and their versions.
//!
//! The ranges are what a broker of 4.3.1 answers to ApiVersions. What of them is served here is decided by the server's
//! table of handlers; a version range may not differ from this one.

use std::fmt;

macro_rules! api_keys {
    ($($variant:ident = $code:literal, $min:literal..=$max:literal, flexible from $flexible:expr;)*) => {
        /// The kind of a request.
        #[expect(missing_docs, reason = "the names are Kafka's and documented there")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($variant = $code,)*
        }

        impl ApiKey {
            /// All keys, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The key with this number.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name, as Kafka's tools print it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// The first and the last version that Kafka 4.3.1 says it serves.
            pub const fn versions(self) -> Versions {
                match self {
                    $(Self::$variant => Versions { min: $min, max: $max },)*
                }
            }

            /// The first version with compact lengths and tagged fields (KIP-482).
            pub const fn flexible_from(self) -> i16 {
                match self {
                    $(Self::$variant => $flexible,)*
                }
            }
        }
    };
}

api_keys! {
    Produce = 0, 0..=13, flexible from 9;
    Fetch = 1, 4..=18, flexible from 12;
    ListOffsets = 2, 1..=11, flexible from 6;
    Metadata = 3, 0..=13, flexible from 9;
    OffsetCommit = 8, 2..=10, flexible from 8;
    OffsetFetch = 9, 1..=10, flexible from 6;
    FindCoordinator = 10, 0..=6, flexible from 3;
    JoinGroup = 11, 0..=9, flexible from 6;
    Heartbeat = 12, 0..=4, flexible from 4;
    LeaveGroup = 13, 0..=5, flexible from 4;
    SyncGroup = 14, 0..=5, flexible from 4;
    DescribeGroups = 15, 0..=6, flexible from 5;
    ListGroups = 16, 0..=5, flexible from 3;
    SaslHandshake = 17, 0..=1, flexible from i16::MAX;
    ApiVersions = 18, 0..=4, flexible from 3;
    CreateTopics = 19, 2..=7, flexible from 5;
    DeleteTopics = 20, 1..=6, flexible from 4;
    DeleteRecords = 21, 0..=2, flexible from 2;
    InitProducerId = 22, 0..=5, flexible from 2;
    OffsetForLeaderEpoch = 23, 2..=4, flexible from 4;
    AddPartitionsToTxn = 24, 0..=5, flexible from 3;
    AddOffsetsToTxn = 25, 0..=4, flexible from 3;
    EndTxn = 26, 0..=5, flexible from 3;
    WriteTxnMarkers = 27, 1..=2, flexible from 1;
    TxnOffsetCommit = 28, 0..=5, flexible from 3;
    DescribeAcls = 29, 1..=3, flexible from 2;
    CreateAcls = 30, 1..=3, flexible from 2;
    DeleteAcls = 31, 1..=3, flexible from 2;
    DescribeConfigs = 32, 1..=4, flexible from 4;
    AlterConfigs = 33, 0..=2, flexible from 2;
    AlterReplicaLogDirs = 34, 1..=2, flexible from 2;
    DescribeLogDirs = 35, 1..=5, flexible from 2;
    SaslAuthenticate = 36, 0..=2, flexible from 2;
    CreatePartitions = 37, 0..=3, flexible from 2;
    CreateDelegationToken = 38, 1..=3, flexible from 2;
    RenewDelegationToken = 39, 1..=2, flexible from 2;
    ExpireDelegationToken = 40, 1..=2, flexible from 2;
    DescribeDelegationToken = 41, 1..=3, flexible from 2;
    DeleteGroups = 42, 0..=2, flexible from 2;
    ElectLeaders = 43, 0..=2, flexible from 2;
    IncrementalAlterConfigs = 44, 0..=1, flexible from 1;
    AlterPartitionReassignments = 45, 0..=1, flexible from 0;
    ListPartitionReassignments = 46, 0..=0, flexible from 0;
    OffsetDelete = 47, 0..=0, flexible from i16::MAX;
    DescribeClientQuotas = 48, 0..=1, flexible from 1;
    AlterClientQuotas = 49, 0..=1, flexible from 1;
    DescribeUserScramCredentials = 50, 0..=0, flexible from 0;
    AlterUserScramCredentials = 51, 0..=0, flexible from 0;
    DescribeQuorum = 55, 0..=2, flexible from 0;
    UpdateFeatures = 57, 0..=2, flexible from 0;
    DescribeCluster = 60, 0..=2, flexible from 0;
    DescribeProducers = 61, 0..=0, flexible from 0;
    UnregisterBroker = 64, 0..=0, flexible from 0;
    DescribeTransactions = 65, 0..=0, flexible from 0;
    ListTransactions = 66, 0..=2, flexible from 0;
    ConsumerGroupHeartbeat = 68, 0..=1, flexible from 0;
    ConsumerGroupDescribe = 69, 0..=1, flexible from 0;
    ListConfigResources = 74, 0..=1, flexible from 0;
    DescribeTopicPartitions = 75, 0..=0, flexible from 0;
    ShareGroupHeartbeat = 76, 1..=1, flexible from 1;
    ShareGroupDescribe = 77, 1..=1, flexible from 1;
    ShareFetch = 78, 1..=2, flexible from 1;
    ShareAcknowledge = 79, 1..=2, flexible from 1;
    AddRaftVoter = 80, 0..=1, flexible from 0;
    RemoveRaftVoter = 81, 0..=0, flexible from 0;
    InitializeShareGroupState = 83, 0..=0, flexible from 0;
    ReadShareGroupState = 84, 0..=0, flexible from 0;
    WriteShareGroupState = 85, 0..=1, flexible from 0;
    DeleteShareGroupState = 86, 0..=0, flexible from 0;
    ReadShareGroupStateSummary = 87, 0..=1, flexible from 0;
    StreamsGroupHeartbeat = 88, 0..=0, flexible from 0;
    StreamsGroupDescribe = 89, 0..=0, flexible from 0;
    DescribeShareGroupOffsets = 90, 0..=1, flexible from 0;
    AlterShareGroupOffsets = 91, 0..=0, flexible from 0;
    DeleteShareGroupOffsets = 92, 0..=0, flexible from 0;
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first.
    pub min: i16,
    /// The last.
    pub max: i16,
}

impl Versions {
    /// Whether the version lies within.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The version of kafka-protocol's structs that has the layout of this version. It tracks Kafka 4.1: where 4.3 has
    /// versions beyond that with new meanings but the old layout, the old struct serves.
    pub fn layout_version(self, version: i16) -> i16 {
        match self {
            // Version 11 adds the timestamp −6 (KIP-1023), no field.
            Self::ListOffsets => version.min(10),
            // Version 5's request is that of 4; its answer is written in `log_dirs`.
            Self::DescribeLogDirs => version.min(4),
            // The answer of version 2 has the layout of 1; requests are read by hand.
            Self::WriteTxnMarkers => version.min(1),
            _ => version,
        }
    }

    /// Whether requests of this version have compact lengths and tagged fields.
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// The header that stands before a request of this version: 2 has tagged fields, 1 has none.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The header that stands before the answer. ApiVersions is always answered with the old one: a client reads that
    /// answer before it knows what the broker speaks (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            Self::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }

    /// The versions whose requests are understood. Produce is announced from 0 on, as Kafka does for the sake of old
    /// librdkafka, but spoken from 3 on (KIP-896).
    pub const fn understood(self) -> Versions {
        match self {
            Self::Produce => Versions { min: 3, max: self.versions().max },
            _ => self.versions(),
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiKey as Theirs;

    #[test]
    fn header_versions_agree_with_kafka_protocol() {
        for key in ApiKey::ALL {
            let Ok(theirs) = Theirs::try_from(key.code()) else { continue };
            for version in key.understood().min..=key.understood().max {
                let why = format!("{key} v{version}");
                assert_eq!(key.request_header_version(version), theirs.request_header_version(version), "{why}");
                assert_eq!(key.response_header_version(version), theirs.response_header_version(version), "{why}");
            }
        }
    }

    #[test]
    fn every_key_is_found_by_its_number() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_code(key.code()), Some(*key));
        }
        assert_eq!(ApiKey::from_code(4), None);
        assert_eq!(ApiKey::from_code(-1), None);
    }
}
