//! The facade over kafka-protocol's message structs: bytes to requests, answers to bytes, and the same the other way
//! round for an outbound connection.

use crate::error::{DecodeError, EncodeError};
use crate::header::{SIZE_LEN, begin_response, end_response};
use crate::served::Served;
use crate::shapes::shape_of;
use crate::wire::{WireError, put_no_tags};
use crate::{ApiKey, Versions};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message, Request};

/// Reads the body of a request that came from the network.
///
/// # Errors
/// [`DecodeError::Version`] where it is not served, otherwise [`DecodeError::Malformed`] and [`DecodeError::Decoder`].
pub fn decode<T: Served>(body: Bytes, version: i16) -> Result<T, DecodeError> {
    let Some(shape) = shape_of(T::API).filter(|_| T::API.understood().contains(version)) else {
        return Err(DecodeError::Version { key: T::KEY, version });
    };
    shape.check(version, &body)?;
    T::read(body, version)
}

/// Appends a whole answer, size and header included.
///
/// # Errors
/// [`EncodeError`]; nothing is appended then.
pub fn encode_response<T: Encodable>(
    out: &mut BytesMut,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &T,
) -> Result<(), EncodeError> {
    let start = begin_response(out, key, version, correlation_id);
    let written = response.encode(out, key.layout_version(version));
    written.map_err(|e| {
        out.truncate(start);
        encode_error::<T>(version, &e)
    })?;
    end_response(out, start, 0);
    Ok(())
}

/// Appends a whole request, size and header included.
///
/// # Errors
/// [`EncodeError`]; nothing is appended then.
pub fn encode_request<T: Request>(
    out: &mut BytesMut,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    request: &T,
) -> Result<(), EncodeError> {
    let start = out.len();
    let fail = |out: &mut BytesMut, reason: String| {
        out.truncate(start);
        Err(EncodeError { message: std::any::type_name::<T>(), version, reason })
    };
    let Some(key) = ApiKey::from_code(T::KEY) else { return fail(out, format!("api key {} is unknown", T::KEY)) };
    out.put_i32(0);
    out.put_i16(T::KEY);
    out.put_i16(version);
    out.put_i32(correlation_id);
    out.put_i16(i16::try_from(client_id.len()).unwrap_or(0));
    out.put_slice(if client_id.len() <= i16::MAX as usize { client_id.as_bytes() } else { b"" });
    put_no_tags(out, key.is_flexible(version));
    if let Err(e) = request.encode(out, key.layout_version(version)) {
        return fail(out, e.to_string());
    }
    end_response(out, start, 0);
    Ok(())
}

fn encode_error<T>(version: i16, error: &impl ToString) -> EncodeError {
    EncodeError { message: std::any::type_name::<T>(), version, reason: error.to_string() }
}

/// Reads an answer's frame (without its size) on an outbound connection. The other side is trusted not to announce
/// arrays that it does not send.
///
/// # Errors
/// [`DecodeError::Correlation`] for another request's answer, [`DecodeError::Decoder`] for malformed ones.
pub fn decode_response<T: Request>(
    mut frame: Bytes,
    version: i16,
    correlation_id: i32,
) -> Result<T::Response, DecodeError> {
    let Some(key) = ApiKey::from_code(T::KEY) else { return Err(DecodeError::Version { key: T::KEY, version }) };
    let header = if key.response_header_version(version) >= 1 { 5 } else { 4 };
    if frame.len() < header {
        return Err(WireError::Short { at: 0, need: header, have: frame.len() }.into());
    }
    let found = frame.get_i32();
    if found != correlation_id {
        return Err(DecodeError::Correlation { expected: correlation_id, found });
    }
    // Answers carry no tags in their headers.
    frame.advance(header - SIZE_LEN);
    let layout = key.layout_version(version);
    T::Response::decode(&mut frame, layout).map_err(|e| DecodeError::Decoder(e.to_string()))
}

/// The versions of a message that kafka-protocol can write and that Kafka 4.3 serves.
pub fn common_versions<T: Request>() -> Option<Versions> {
    let served = ApiKey::from_code(T::KEY)?.understood();
    let theirs = <T as Message>::VERSIONS;
    let versions = Versions { min: served.min.max(theirs.min), max: served.max.min(theirs.max) };
    (versions.min <= versions.max).then_some(versions)
}
