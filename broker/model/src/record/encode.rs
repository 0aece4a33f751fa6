//! Records back into bytes: appends one record to a records section.

use super::{Headers, RecordError, varint_len, varlong_len, write_varint, write_varlong};

/// What a record's headers are made of.
#[derive(Clone, Copy, Debug)]
pub enum HeaderSource<'a> {
    /// No headers.
    None,
    /// Encoded headers, copied as they are.
    Encoded(Headers<'a>),
    /// Keys and values, in this order.
    Pairs(&'a [(&'a [u8], Option<&'a [u8]>)]),
}

impl<'a> From<Headers<'a>> for HeaderSource<'a> {
    fn from(headers: Headers<'a>) -> Self {
        Self::Encoded(headers)
    }
}

/// What a record is made of.
#[derive(Clone, Copy, Debug)]
pub struct RecordParts<'a> {
    /// Offsets after the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: HeaderSource<'a>,
}

/// Appends one record. Nothing is appended where it fails.
///
/// # Errors
/// [`RecordError::TooLarge`] where the record does not fit its 31-bit length.
#[inline]
pub fn record(out: &mut Vec<u8>, parts: &RecordParts<'_>) -> Result<(), RecordError> {
    let body = body_len(parts);
    let length = i32::try_from(body).map_err(|_| RecordError::TooLarge { bytes: body })?;
    out.reserve(varint_len(length) + body);
    write_varint(out, length);
    out.push(0);
    write_varlong(out, parts.timestamp_delta);
    write_varint(out, parts.offset_delta);
    nullable(out, parts.key);
    nullable(out, parts.value);
    match parts.headers {
        HeaderSource::None => out.push(0),
        HeaderSource::Encoded(headers) => out.extend_from_slice(headers.raw()),
        HeaderSource::Pairs(pairs) => header_pairs(out, pairs),
    }
    Ok(())
}

fn header_pairs(out: &mut Vec<u8>, pairs: &[(&[u8], Option<&[u8]>)]) {
    write_varint(out, length_of(pairs.len()));
    for (key, value) in pairs {
        nullable(out, Some(key));
        nullable(out, *value);
    }
}

#[inline]
fn nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(1),
        Some(bytes) => {
            write_varint(out, length_of(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// Bytes that [`record`] appends.
pub fn encoded_len(parts: &RecordParts<'_>) -> usize {
    let body = body_len(parts);
    varint_len(length_of(body)).saturating_add(body)
}

#[inline]
fn body_len(parts: &RecordParts<'_>) -> usize {
    let headers = match parts.headers {
        HeaderSource::None => 1,
        HeaderSource::Encoded(headers) => headers.raw().len(),
        HeaderSource::Pairs(pairs) => pairs.iter().fold(varint_len(length_of(pairs.len())), |sum, (key, value)| {
            sum.saturating_add(nullable_len(Some(key))).saturating_add(nullable_len(*value))
        }),
    };
    (1 + varlong_len(parts.timestamp_delta) + varint_len(parts.offset_delta))
        .saturating_add(nullable_len(parts.key))
        .saturating_add(nullable_len(parts.value))
        .saturating_add(headers)
}

#[inline]
fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_len(length_of(bytes.len())).saturating_add(bytes.len()))
}

/// A length for its field. One that does not fit makes the record itself too
/// large, which [`record`] finds out before it writes.
#[inline]
fn length_of(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
