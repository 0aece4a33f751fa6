//! Record batches written by hand, some of them wrong.

/// What a batch says; every field can be made a lie.
#[derive(Debug, Clone)]
pub struct Raw {
    pub magic: i8,
    pub attributes: i16,
    pub timestamp: i64,
    pub producer: (i64, i16, i32),
    pub values: Vec<&'static str>,
    /// How many records the header claims beyond those that are there.
    pub extra_count: i32,
    pub break_crc: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            magic: 2,
            attributes: 0,
            timestamp: 1_700_000_000_000,
            producer: (-1, -1, -1),
            values: vec!["one", "two", "three"],
            extra_count: 0,
            break_crc: false,
        }
    }
}

impl Raw {
    /// The bytes as a producer would send them.
    pub fn bytes(&self) -> bytes::Bytes {
        let count = i32::try_from(self.values.len()).expect("few");
        let mut body = Vec::new();
        body.extend(self.attributes.to_be_bytes());
        body.extend((count - 1 + self.extra_count).to_be_bytes());
        body.extend(self.timestamp.to_be_bytes());
        body.extend((self.timestamp + i64::from(count) - 1).to_be_bytes());
        body.extend(self.producer.0.to_be_bytes());
        body.extend(self.producer.1.to_be_bytes());
        body.extend(self.producer.2.to_be_bytes());
        body.extend((count + self.extra_count).to_be_bytes());
        for (delta, value) in (0..).zip(&self.values) {
            body.extend(record(delta, value));
        }
        let crc = crc32c::crc32c(&body) ^ u32::from(self.break_crc);
        let mut batch = Vec::new();
        batch.extend(0_i64.to_be_bytes());
        batch.extend(i32::try_from(9 + body.len()).expect("small").to_be_bytes());
        batch.extend((-1_i32).to_be_bytes());
        batch.extend(self.magic.to_be_bytes());
        batch.extend(crc.to_be_bytes());
        batch.extend(body);
        batch.into()
    }
}

/// One record without key or headers; all its varints fit into one byte.
fn record(delta: u8, value: &str) -> Vec<u8> {
    let zigzag = |number: usize| u8::try_from(number * 2).expect("a short value");
    let mut record = vec![0, delta * 2, delta * 2, 1, zigzag(value.len())];
    record.extend(value.bytes());
    record.push(0);
    record.insert(0, zigzag(record.len()));
    record
}
