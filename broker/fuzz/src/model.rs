//! Produced batches. The targets are those of the model's own tests.

use millrace_model::control::Marker;
use millrace_model::record::encode::HeaderSource;
use millrace_model::{Batch, BatchBuilder, Compression, ProducerEpoch, ProducerId, Timestamp};

#[allow(dead_code, reason = "the model's tests run them as a list")]
#[path = "../../model/tests/hostile/targets.rs"]
pub(crate) mod targets;

fn written() -> Vec<(Compression, Batch)> {
    let batch = |codec| {
        let mut builder = BatchBuilder::new().compression(codec, None);
        for i in 0..12_i64 {
            let pairs = [(&b"h"[..], Some(&b"1"[..])), (b"h", None)];
            let value = b"value ".repeat(i as usize * 5);
            let value = (i % 5 != 4).then_some(&value[..]);
            builder.append(Timestamp::new(i), Some(b"key"), value, HeaderSource::Pairs(&pairs)).unwrap();
        }
        (codec, builder.build().unwrap())
    };
    let marker = Marker {
        producer_id: ProducerId::new(4),
        producer_epoch: ProducerEpoch::new(1),
        committed: true,
        coordinator_epoch: 3,
    };
    let marker = (Compression::None, marker.batch(Timestamp::new(9)).unwrap());
    Compression::ALL.into_iter().map(batch).chain([marker]).collect()
}

pub(crate) fn batches() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = written().into_iter().map(|(_, batch)| batch.bytes().to_vec()).collect();
    all.push(all.concat());
    all
}

pub(crate) fn records() -> Vec<Vec<u8>> {
    let plain = written().into_iter().filter(|(codec, _)| *codec == Compression::None);
    plain
        .map(|(_, batch)| [&batch.header().records_count.to_be_bytes()[..], &batch.records_section()].concat())
        .collect()
}

pub(crate) fn codecs() -> Vec<Vec<u8>> {
    written().into_iter().map(|(codec, batch)| [&[codec.id() as u8][..], &batch.records_section()].concat()).collect()
}
