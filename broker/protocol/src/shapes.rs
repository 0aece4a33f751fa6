//! The layouts of the requests that are served, in all versions.
//!
//! Source: Kafka 4.3's message definitions, as its protocol documentation prints them.

use crate::ApiKey;
use crate::shape::Kind::{Blob, Fixed, List, Maybe, One, Structs, Text};
use crate::shape::{Field, Fields, Shape, all, between, fields, from, tagged, upto};

const I8: Field = all(Fixed(1));
const I16: Field = all(Fixed(2));
const I32: Field = all(Fixed(4));
const I64: Field = all(Fixed(8));
const BOOL: Field = all(Fixed(1));
const TEXT: Field = all(Text);
const UUID: Field = all(Fixed(16));
const I32S: Field = all(List(&Fixed(4)));
const TEXTS: Field = all(List(&Text));

/// The layout of a request's bodies; `None` for requests that are not served.
pub const fn shape_of(key: ApiKey) -> Option<Shape> {
    let body = match key {
        ApiKey::Produce => PRODUCE,
        ApiKey::Fetch => FETCH,
        ApiKey::ListOffsets => LIST_OFFSETS,
        ApiKey::Metadata => METADATA,
        ApiKey::OffsetCommit => OFFSET_COMMIT,
        ApiKey::OffsetFetch => OFFSET_FETCH,
        ApiKey::FindCoordinator => FIND_COORDINATOR,
        ApiKey::JoinGroup => JOIN_GROUP,
        ApiKey::Heartbeat => HEARTBEAT,
        ApiKey::LeaveGroup => LEAVE_GROUP,
        ApiKey::SyncGroup => SYNC_GROUP,
        ApiKey::DescribeGroups => DESCRIBE_GROUPS,
        ApiKey::ListGroups => LIST_GROUPS,
        ApiKey::ApiVersions => API_VERSIONS,
        ApiKey::CreateTopics => CREATE_TOPICS,
        ApiKey::DeleteTopics => DELETE_TOPICS,
        ApiKey::DeleteRecords => DELETE_RECORDS,
        ApiKey::InitProducerId => INIT_PRODUCER_ID,
        ApiKey::AddPartitionsToTxn => ADD_PARTITIONS_TO_TXN,
        ApiKey::AddOffsetsToTxn => ADD_OFFSETS_TO_TXN,
        ApiKey::EndTxn => END_TXN,
        ApiKey::WriteTxnMarkers => WRITE_TXN_MARKERS,
        ApiKey::TxnOffsetCommit => TXN_OFFSET_COMMIT,
        ApiKey::DescribeProducers => DESCRIBE_PRODUCERS,
        ApiKey::DescribeTransactions => DESCRIBE_TRANSACTIONS,
        ApiKey::ListTransactions => LIST_TRANSACTIONS,
        ApiKey::OffsetForLeaderEpoch => OFFSET_FOR_LEADER_EPOCH,
        ApiKey::DescribeAcls => ACL_FILTER,
        ApiKey::CreateAcls => CREATE_ACLS,
        ApiKey::DeleteAcls => DELETE_ACLS,
        ApiKey::DescribeConfigs => DESCRIBE_CONFIGS,
        ApiKey::AlterConfigs => ALTER_CONFIGS,
        ApiKey::DescribeLogDirs => DESCRIBE_LOG_DIRS,
        ApiKey::ListConfigResources => LIST_CONFIG_RESOURCES,
        ApiKey::IncrementalAlterConfigs => INCREMENTAL_ALTER_CONFIGS,
        ApiKey::CreatePartitions => CREATE_PARTITIONS,
        ApiKey::DeleteGroups => DELETE_GROUPS,
        ApiKey::OffsetDelete => OFFSET_DELETE,
        ApiKey::DescribeCluster => DESCRIBE_CLUSTER,
        ApiKey::ConsumerGroupHeartbeat => CONSUMER_GROUP_HEARTBEAT,
        ApiKey::ConsumerGroupDescribe => CONSUMER_GROUP_DESCRIBE,
        ApiKey::DescribeTopicPartitions => DESCRIBE_TOPIC_PARTITIONS,
        _ => return None,
    };
    Some(Shape { flexible_from: key.flexible_from(), body })
}

const HEARTBEAT: Fields = fields(&[TEXT, I32, TEXT, from(3, Text)]);

const DESCRIBE_GROUPS: Fields = fields(&[TEXTS, from(3, Fixed(1))]);

const LIST_GROUPS: Fields = fields(&[from(4, List(&Text)), from(5, List(&Text))]);

const API_VERSIONS: Fields = fields(&[from(3, Text), from(3, Text)]);

const INIT_PRODUCER_ID: Fields = fields(&[TEXT, I32, from(3, Fixed(8)), from(3, Fixed(2))]);

const CONSUMER_GROUP_HEARTBEAT: Fields =
    fields(&[TEXT, TEXT, I32, TEXT, TEXT, I32, TEXTS, from(1, Text), TEXT, all(Structs(&fields(&[UUID, I32S])))]);

const CONSUMER_GROUP_DESCRIBE: Fields = fields(&[TEXTS, BOOL]);

const NAMED_PARTITIONS: Field = all(Structs(&fields(&[TEXT, I32S])));

const ADD_PARTITIONS_TO_TXN: Fields = fields(&[
    from(4, Structs(&fields(&[TEXT, I64, I16, BOOL, NAMED_PARTITIONS]))),
    upto(3, Text),
    upto(3, Fixed(8)),
    upto(3, Fixed(2)),
    upto(3, Structs(&fields(&[TEXT, I32S]))),
]);

const ADD_OFFSETS_TO_TXN: Fields = fields(&[TEXT, I64, I16, TEXT]);

const END_TXN: Fields = fields(&[TEXT, I64, I16, BOOL]);

const WRITE_TXN_MARKERS: Fields =
    fields(&[all(Structs(&fields(&[I64, I16, BOOL, NAMED_PARTITIONS, I32, from(2, Fixed(1))])))]);

const TXN_OFFSET_COMMIT: Fields = fields(&[
    TEXT,
    TEXT,
    I64,
    I16,
    from(3, Fixed(4)),
    from(3, Text),
    from(3, Text),
    all(Structs(&fields(&[TEXT, all(Structs(&fields(&[I32, I64, from(2, Fixed(4)), TEXT])))]))),
]);

const DESCRIBE_PRODUCERS: Fields = fields(&[NAMED_PARTITIONS]);

const DESCRIBE_TRANSACTIONS: Fields = fields(&[TEXTS]);

const LIST_TRANSACTIONS: Fields = fields(&[TEXTS, all(List(&Fixed(8))), from(1, Fixed(8)), from(2, Text)]);

const DELETE_GROUPS: Fields = fields(&[TEXTS]);

const DESCRIBE_CLUSTER: Fields = fields(&[BOOL, from(1, Fixed(1)), from(2, Fixed(1))]);

const PRODUCE: Fields = fields(&[
    TEXT,
    I16,
    I32,
    all(Structs(&fields(&[upto(12, Text), from(13, Fixed(16)), all(Structs(&fields(&[I32, all(Blob)])))]))),
]);

const FETCH: Fields = tagged(
    &[
        upto(14, Fixed(4)),
        I32,
        I32,
        I32,
        I8,
        from(7, Fixed(4)),
        from(7, Fixed(4)),
        all(Structs(&fields(&[upto(12, Text), from(13, Fixed(16)), all(Structs(&FETCH_PARTITION))]))),
        from(7, Structs(&fields(&[upto(12, Text), from(13, Fixed(16)), I32S]))),
        from(11, Text),
    ],
    &[(0, from(12, Text)), (1, from(15, One(&fields(&[I32, I64]))))],
);

const FETCH_PARTITION: Fields = tagged(
    &[I32, from(9, Fixed(4)), I64, from(12, Fixed(4)), from(5, Fixed(8)), I32],
    &[(0, from(17, Fixed(16))), (1, from(18, Fixed(8)))],
);

const LIST_OFFSETS: Fields = fields(&[
    I32,
    from(2, Fixed(1)),
    all(Structs(&fields(&[TEXT, all(Structs(&fields(&[I32, from(4, Fixed(4)), I64])))]))),
    from(10, Fixed(4)),
]);

const METADATA: Fields = fields(&[
    all(Structs(&fields(&[from(10, Fixed(16)), TEXT]))),
    from(4, Fixed(1)),
    between(8, 10, Fixed(1)),
    from(8, Fixed(1)),
]);

const OFFSET_COMMIT: Fields = fields(&[
    TEXT,
    I32,
    TEXT,
    from(7, Text),
    between(2, 4, Fixed(8)),
    all(Structs(&fields(&[
        upto(9, Text),
        from(10, Fixed(16)),
        all(Structs(&fields(&[I32, I64, from(6, Fixed(4)), TEXT]))),
    ]))),
]);

const OFFSET_FETCH: Fields = fields(&[
    upto(7, Text),
    upto(7, Structs(&fields(&[TEXT, I32S]))),
    from(
        8,
        Structs(&fields(&[
            TEXT,
            from(9, Text),
            from(9, Fixed(4)),
            all(Structs(&fields(&[upto(9, Text), from(10, Fixed(16)), I32S]))),
        ])),
    ),
    from(7, Fixed(1)),
]);

const FIND_COORDINATOR: Fields = fields(&[upto(3, Text), from(1, Fixed(1)), from(4, List(&Text))]);

const JOIN_GROUP: Fields = fields(&[
    TEXT,
    I32,
    from(1, Fixed(4)),
    TEXT,
    from(5, Text),
    TEXT,
    all(Structs(&fields(&[TEXT, all(Blob)]))),
    from(8, Text),
]);

const LEAVE_GROUP: Fields =
    fields(&[TEXT, upto(2, Text), from(3, Structs(&fields(&[TEXT, from(3, Text), from(5, Text)])))]);

const SYNC_GROUP: Fields =
    fields(&[TEXT, I32, TEXT, from(3, Text), from(5, Text), from(5, Text), all(Structs(&fields(&[TEXT, all(Blob)])))]);

const CONFIGS: Fields = fields(&[TEXT, TEXT]);

const CREATE_TOPICS: Fields = fields(&[
    all(Structs(&fields(&[TEXT, I32, I16, all(Structs(&fields(&[I32, I32S]))), all(Structs(&CONFIGS))]))),
    I32,
    BOOL,
]);

const DELETE_TOPICS: Fields = fields(&[from(6, Structs(&fields(&[TEXT, UUID]))), upto(5, List(&Text)), I32]);

const DELETE_RECORDS: Fields = fields(&[all(Structs(&fields(&[TEXT, all(Structs(&fields(&[I32, I64])))]))), I32]);

const OFFSET_FOR_LEADER_EPOCH: Fields =
    fields(&[from(3, Fixed(4)), all(Structs(&fields(&[TEXT, all(Structs(&fields(&[I32, I32, I32])))])))]);

const DESCRIBE_CONFIGS: Fields = fields(&[all(Structs(&fields(&[I8, TEXT, TEXTS]))), BOOL, from(3, Fixed(1))]);

const DESCRIBE_LOG_DIRS: Fields = fields(&[all(Structs(&fields(&[TEXT, I32S])))]);

const ACL_FILTER: Fields = fields(&[I8, TEXT, I8, TEXT, TEXT, I8, I8]);

const CREATE_ACLS: Fields = fields(&[all(Structs(&fields(&[I8, TEXT, I8, TEXT, TEXT, I8, I8])))]);

const DELETE_ACLS: Fields = fields(&[all(Structs(&ACL_FILTER))]);

const LIST_CONFIG_RESOURCES: Fields = fields(&[from(1, List(&Fixed(1)))]);

const ALTER_CONFIGS: Fields = fields(&[all(Structs(&fields(&[I8, TEXT, all(Structs(&CONFIGS))]))), BOOL]);

const INCREMENTAL_ALTER_CONFIGS: Fields =
    fields(&[all(Structs(&fields(&[I8, TEXT, all(Structs(&fields(&[TEXT, I8, TEXT])))]))), BOOL]);

const CREATE_PARTITIONS: Fields =
    fields(&[all(Structs(&fields(&[TEXT, I32, all(Structs(&fields(&[I32S])))]))), I32, BOOL]);

const OFFSET_DELETE: Fields = fields(&[TEXT, all(Structs(&fields(&[TEXT, all(Structs(&fields(&[I32])))])))]);

const DESCRIBE_TOPIC_PARTITIONS: Fields =
    fields(&[all(Structs(&fields(&[TEXT]))), I32, all(Maybe(&fields(&[TEXT, I32])))]);
