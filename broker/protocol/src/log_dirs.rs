//! DescribeLogDirs' answer: kafka-protocol writes versions up to 4; version 5 adds one byte to each directory, whether it
//! is cordoned, which none of ours ever is.

use crate::ApiKey;
use crate::error::EncodeError;
use crate::header::{begin_response, end_response};
use crate::message::encode_response;
use crate::messages::DescribeLogDirsResponse;
use crate::messages::describe_log_dirs_response::{DescribeLogDirsResult, DescribeLogDirsTopic};
use crate::wire::{put_length, put_no_tags, put_text};
use bytes::{BufMut, BytesMut};

/// Appends a whole answer, size and header included.
///
/// # Errors
/// [`EncodeError`]; nothing is appended then.
pub fn encode_log_dirs(
    out: &mut BytesMut,
    version: i16,
    correlation_id: i32,
    response: &DescribeLogDirsResponse,
) -> Result<(), EncodeError> {
    const KEY: ApiKey = ApiKey::DescribeLogDirs;
    if version < 5 {
        return encode_response(out, KEY, version, correlation_id, response);
    }
    let start = out.len();
    begin_response(out, KEY, version, correlation_id);
    out.put_i32(response.throttle_time_ms);
    out.put_i16(response.error_code);
    put_length(out, true, response.results.len());
    response.results.iter().for_each(|dir| put_dir(out, dir));
    put_no_tags(out, true);
    end_response(out, start, 0);
    Ok(())
}

fn put_dir(out: &mut BytesMut, dir: &DescribeLogDirsResult) {
    out.put_i16(dir.error_code);
    put_text(out, true, &dir.log_dir);
    put_length(out, true, dir.topics.len());
    dir.topics.iter().for_each(|topic| put_topic(out, topic));
    out.put_i64(dir.total_bytes);
    out.put_i64(dir.usable_bytes);
    // Not cordoned.
    out.put_i8(0);
    put_no_tags(out, true);
}

fn put_topic(out: &mut BytesMut, topic: &DescribeLogDirsTopic) {
    put_text(out, true, &topic.name);
    put_length(out, true, topic.partitions.len());
    for partition in &topic.partitions {
        out.put_i32(partition.partition_index);
        out.put_i64(partition.partition_size);
        out.put_i64(partition.offset_lag);
        out.put_i8(partition.is_future_key.into());
        put_no_tags(out, true);
    }
    put_no_tags(out, true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StrBytes;
    use crate::messages::TopicName;
    use crate::messages::describe_log_dirs_response::DescribeLogDirsPartition;

    #[test]
    fn version_5_is_version_4_and_a_byte_for_each_directory() {
        let partition = DescribeLogDirsPartition::default().with_partition_index(3).with_partition_size(1 << 40);
        let topic = DescribeLogDirsTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![partition]);
        let dir = DescribeLogDirsResult::default()
            .with_log_dir(StrBytes::from_static_str("/data"))
            .with_topics(vec![topic])
            .with_total_bytes(9)
            .with_usable_bytes(8);
        let response = DescribeLogDirsResponse::default().with_results(vec![dir]);
        let (mut four, mut five) = (BytesMut::new(), BytesMut::new());
        encode_log_dirs(&mut four, 4, 77, &response).unwrap();
        encode_log_dirs(&mut five, 5, 77, &response).unwrap();
        // The directory's tags and the answer's end both; before them stands the new byte, and the size counts it.
        let mut expected = four.to_vec();
        expected.insert(expected.len() - 2, 0);
        expected[3] += 1;
        assert_eq!(five.to_vec(), expected);
    }
}
