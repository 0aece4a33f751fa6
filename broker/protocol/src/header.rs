//! What stands before every request and every answer.
//!
//! ```text
//! request:  size i32 | key i16 | version i16 | correlation id i32 | client id nullable string | [tags] | body
//! response: size i32 | correlation id i32 | [tags] | body
//! ```
//!
//! The tags stand there in flexible versions only (KIP-482); the client id is never compact.

use crate::ApiKey;
use crate::wire::{Reader, WireError};
use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Bytes of the size field that stands before every frame.
pub const SIZE_LEN: usize = 4;

/// Why a frame has no usable header. The connection cannot go on after that.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// A key that Kafka 4.3 does not know, or does not serve on a broker's listener.
    #[error("api key {0} is not known")]
    Key(i16),
    /// The header is cut short or malformed.
    #[error("malformed request header: {0}")]
    Malformed(#[from] WireError),
}

/// The header of a request. It shares the frame's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The request's kind.
    pub key: ApiKey,
    /// Its version, which need not be one that is served.
    pub version: i16,
    /// What the answer must repeat.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<Bytes>,
}

impl RequestHeader {
    /// Cuts the header off a frame (without its size field), so that the body is left.
    ///
    /// # Errors
    /// [`HeaderError::Key`] for unknown keys, [`HeaderError::Malformed`] for anything cut short.
    pub fn split_from(frame: &mut Bytes) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(frame);
        let code = reader.i16()?;
        let key = ApiKey::from_code(code).ok_or(HeaderError::Key(code))?;
        let version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let client_id = match reader.length16()? {
            None => None,
            Some(length) => {
                let at = reader.at();
                let text = reader.take(length)?;
                std::str::from_utf8(text).map_err(|_| WireError::Text { at })?;
                Some(frame.slice(at..at + length))
            }
        };
        // Of a version that nobody knows, not even the header's is known; ApiVersions is answered nevertheless.
        if key.is_flexible(version) && key.versions().contains(version) {
            skip_tags(&mut reader)?;
        }
        let body = reader.at();
        let _header = frame.split_to(body);
        Ok(Self { key, version, correlation_id, client_id })
    }

    /// The client's name for itself, as text.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref().and_then(|text| std::str::from_utf8(text).ok())
    }
}

fn skip_tags(reader: &mut Reader<'_>) -> Result<(), WireError> {
    for _ in 0..reader.varint()? {
        reader.varint()?;
        let length = reader.varint()? as usize;
        reader.take(length)?;
    }
    Ok(())
}

/// Starts an answer: leaves room for its size and writes its header. Give what this returns to [`end_response`].
pub fn begin_response(out: &mut BytesMut, key: ApiKey, version: i16, correlation_id: i32) -> usize {
    let start = out.len();
    out.put_i32(0);
    out.put_i32(correlation_id);
    if key.response_header_version(version) >= 1 {
        out.put_u8(0);
    }
    start
}

/// Ends an answer that began at `start`: writes its size, to which `elsewhere` bytes count that are sent but do not
/// stand in `out`.
pub fn end_response(out: &mut BytesMut, start: usize, elsewhere: u64) {
    let size = (out.len() - start - SIZE_LEN) as u64 + elsewhere;
    let size = i32::try_from(size).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(start..start + SIZE_LEN) {
        place.copy_from_slice(&size.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }

    #[test]
    fn a_header_is_cut_off_and_the_body_left() {
        let mut bytes = frame(&[0, 3, 0, 9, 0, 0, 0, 7, 0, 2, b'a', b'b', 0, 0xbb]);
        let header = RequestHeader::split_from(&mut bytes).unwrap();
        assert_eq!((header.key, header.version, header.correlation_id), (ApiKey::Metadata, 9, 7));
        assert_eq!(header.client_id(), Some("ab"));
        assert_eq!(&bytes[..], [0xbb]);
    }

    #[test]
    fn the_header_of_an_unknown_version_of_api_versions_is_understood() {
        let mut bytes = frame(&[0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]);
        let header = RequestHeader::split_from(&mut bytes).unwrap();
        assert_eq!((header.version, header.client_id), (99, None));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = [0, 3, 0, 9, 0, 0, 0, 7, 0, 2, b'a', b'b', 1, 5, 2, 1, 1];
        assert!(RequestHeader::split_from(&mut frame(&whole)).is_ok());
        for end in 0..whole.len() {
            assert!(RequestHeader::split_from(&mut frame(&whole[..end])).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert_eq!(RequestHeader::split_from(&mut frame(&[3, 231, 0, 0])), Err(HeaderError::Key(999)));
    }

    #[test]
    fn the_size_counts_bytes_that_are_sent_from_elsewhere() {
        let mut out = BytesMut::from(&b"before"[..]);
        let start = begin_response(&mut out, ApiKey::Fetch, 12, 5);
        end_response(&mut out, start, 1000);
        assert_eq!(&out[6..], [0, 0, 0x03, 0xed, 0, 0, 0, 5, 0]);
    }
}
