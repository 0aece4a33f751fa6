//! Records of consumer groups beside the bytes that Kafka makes of them.

use super::*;
use crate::coordinator::group::records::GroupRecord;
use crate::coordinator::group::records::tests::hex;

const TOPIC: u128 = 0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00;

fn epochs(partitions: &[(i32, i32)]) -> Epochs {
    Epochs::from([(TopicId::new(Uuid::from_u128(TOPIC)), partitions.iter().copied().collect())])
}

fn member() -> ConsumerMemberValue {
    let classic = ClassicSide {
        session_timeout_ms: 9,
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(&[1, 2]) }],
    };
    ConsumerMemberValue {
        instance_id: Some("i".into()),
        rack: Some("r".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        topics: ["a".to_owned()].into(),
        regex: "x.*".into(),
        rebalance_timeout_ms: 1_000,
        assignor: Some("range".into()),
        classic: Some(classic),
    }
}

/// Records with the bytes that Kafka 4.3.1's own classes make of them.
fn golden() -> Vec<(ConsumerRecord, &'static str, &'static str)> {
    let partitions = Partitions::from([(TopicId::new(Uuid::from_u128(TOPIC)), [0, 1].into())]);
    let current = CurrentValue {
        epoch: 3,
        previous_epoch: 2,
        state: MemberState::UnrevokedPartitions,
        assigned: epochs(&[(0, 2), (1, 3)]),
        revoking: epochs(&[(4, 1)]),
    };
    let group = |metadata_hash| ConsumerRecord::Group(Some(ConsumerGroupValue { epoch: 5, metadata_hash }));
    let target = |at| ConsumerRecord::TargetEpoch(Some(TargetEpochValue { epoch: 5, at: Timestamp::new(at) }));
    let regex = RegexValue { topics: ["x1".to_owned()].into(), version: 7, at: Timestamp::new(8) };
    vec![
        (group(0), "0003000167", "00000000000500"),
        (group(77), "0003000167", "000000000005010008000000000000004d"),
        (
            ConsumerRecord::Member("m".into(), Some(member())),
            "000500016700016d",
            "0000026902720263032f6802026104782e2a000003e80672616e67650100110100000009020672616e67650301020000",
        ),
        (target(0), "0006000167", "00000000000500"),
        (target(99), "0006000167", "0000000000050100080000000000000063"),
        (
            ConsumerRecord::Target("m".into(), Some(partitions)),
            "000700016700016d",
            "000002112233445566778899aabbccddeeff000300000000000000010000",
        ),
        (
            ConsumerRecord::Current("m".into(), Some(current)),
            "000800016700016d",
            "000000000003000000020102112233445566778899aabbccddeeff000300000000000000010100090300000002000000030211223344\
             5566778899aabbccddeeff000200000004010005020000000100",
        ),
        (
            ConsumerRecord::Regex("x.*".into(), Some(regex)),
            "00100001670003782e2a",
            "0000020378310000000000000007000000000000000800",
        ),
    ]
}

#[test]
fn records_of_consumer_groups_have_kafkas_bytes_both_ways() {
    for (record, key, value) in golden() {
        let (key, value) = (hex(key), hex(value));
        let record = GroupRecord::Consumer { group: "g".into(), record };
        let (our_key, our_value) = record.encode().unwrap();
        assert_eq!((&our_key[..], our_value.as_deref()), (&key[..], Some(&value[..])), "{record:?}");
        assert_eq!(GroupRecord::decode(&key, Some(&value)).unwrap(), record);
    }
}

#[test]
fn partitions_stored_before_they_had_epochs_take_the_members() {
    let value = hex("000000000003000000020002112233445566778899aabbccddeeff00030000000000000001000100");
    let record = GroupRecord::decode(&hex("000800016700016d"), Some(&value)).unwrap();
    let GroupRecord::Consumer { record: ConsumerRecord::Current(_, Some(current)), .. } = record else {
        panic!("{record:?}")
    };
    assert_eq!(current.assigned, epochs(&[(0, 3), (1, 3)]));
}

#[test]
fn cut_or_mangled_records_of_consumer_groups_are_errors_and_never_more() {
    for (record, key, value) in golden() {
        let (key, value) = (hex(key), hex(value));
        for end in 0..value.len() {
            let read = GroupRecord::decode(&key, Some(&value[..end]));
            assert!(read.is_err(), "{record:?} cut at {end}: {read:?}");
        }
        for at in 0..value.len() {
            for byte in [0x00, 0x7f, 0x80, 0xff] {
                let mut mangled = value.clone();
                mangled[at] = byte;
                let _ = GroupRecord::decode(&key, Some(&mangled));
            }
        }
    }
}
