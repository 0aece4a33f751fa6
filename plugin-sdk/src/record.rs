//! Borrowed views over a batch: nothing is copied, nothing is parsed before it is asked for.

use serde::de::DeserializeOwned;

/// Words of the index that belong to one record.
const WORDS: usize = 8;
/// The length word of a key or value that is null.
const NULL: u32 = u32::MAX;

/// A batch of records.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    data: &'a [u8],
    index: &'a [[u32; WORDS]],
}

impl<'a> Batch<'a> {
    /// A batch over bytes and the index into them, laid out as `wit/types.wit` says. For tests; the host brings its own.
    pub fn new(data: &'a [u8], index: &'a [u32]) -> Self {
        Self { data, index: index.as_chunks().0 }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no record. The host never calls with none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'a>> + use<'a> {
        let data = self.data;
        self.index.iter().map(move |words| Record { data, words })
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    data: &'a [u8],
    words: &'a [u32; WORDS],
}

impl<'a> Record<'a> {
    /// The key, if it is not null.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.span(self.words[0], self.words[1])
    }

    /// The value, if it is not null.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.span(self.words[2], self.words[3])
    }

    /// The value as text, if it is not null and valid UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        str::from_utf8(self.value()?).ok()
    }

    /// The value read as JSON.
    ///
    /// # Errors
    /// What serde_json says of it; a null value is read as `null`.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(self.value().unwrap_or(b"null"))
    }

    /// The headers, in order; a name may come more than once.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        Headers { rest: self.span(self.words[4], self.words[5]).unwrap_or_default() }
    }

    /// The value of the last header with this name, as Kafka's `lastHeader`.
    pub fn header(&self, name: &str) -> Option<Header<'a>> {
        self.headers().filter(|header| header.name == name).last()
    }

    /// Milliseconds since the Unix epoch; -1 where there is none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        (u64::from(self.words[6]) | u64::from(self.words[7]) << 32).cast_signed()
    }

    #[inline]
    fn span(&self, from: u32, len: u32) -> Option<&'a [u8]> {
        if len == NULL {
            return None;
        }
        self.data.get(from as usize..from as usize + len as usize)
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value, if it is not null.
    pub value: Option<&'a [u8]>,
}

/// A record's headers, one after the other.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let mut rest = std::mem::take(&mut self.rest);
        // The host has checked the encoding; a name that is not UTF-8 reads as empty.
        let name = str::from_utf8(take(&mut rest)??).unwrap_or_default();
        let value = take(&mut rest)?;
        self.rest = rest;
        Some(Header { name, value })
    }
}

/// A length and as many bytes. The outer `None` is an encoding that ends too early, the inner one null.
#[allow(clippy::option_option, reason = "the two mean different things")]
fn take<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let mut raw = 0_u32;
    let mut shift = 0;
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        raw |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let len = (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed();
    let Ok(len) = usize::try_from(len) else { return Some(None) };
    let (bytes, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_key_value_headers_and_timestamp() {
        //            key    value     a header "h" = "x", a header "h" = null
        let data = b"k  {\"a\":1} \x02h\x02x\x02h\x01";
        let index = [0, 1, 3, 7, 11, 7, 5, 0, 0, NULL, 0, NULL, 0, 0, u32::MAX, u32::MAX];
        let batch = Batch::new(data, &index);
        let records: Vec<Record<'_>> = batch.records().collect();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].key(), records[0].timestamp()), (Some(b"k".as_slice()), 5));
        assert_eq!(records[0].json::<serde_json::Value>().unwrap()["a"], 1);
        let headers: Vec<_> = records[0].headers().collect();
        assert_eq!(headers, [Header { name: "h", value: Some(b"x") }, Header { name: "h", value: None }]);
        assert_eq!(records[0].header("h").unwrap().value, None);
        assert_eq!((records[1].key(), records[1].value(), records[1].timestamp()), (None, None, -1));
        assert_eq!(records[1].headers().count(), 0);
    }

    #[test]
    fn headers_that_end_too_early_end_the_iteration() {
        for data in [b"\x02".as_slice(), b"\x02h", b"\x02h\x08ab", b"\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(Headers { rest: data }.count(), 0, "{data:?}");
        }
    }
}
