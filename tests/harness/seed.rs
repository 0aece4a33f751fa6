//! Random choices that a printed seed replays.

/// SplitMix64: small, and the same numbers everywhere.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// The seed in `MILLRACE_SEED`, or one of the machine's choosing; printed either way.
    pub fn from_environment(test: &str) -> Self {
        let seed = match std::env::var("MILLRACE_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("MILLRACE_SEED is no number: {text}")),
            Err(_) => u64::from_le_bytes(*uuid_bits().first_chunk().expect("sixteen bytes")),
        };
        eprintln!("{test}: replay with MILLRACE_SEED={seed}");
        Self(seed)
    }

    /// A fixed seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` up to, but not including, `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.number() % (high - low)
    }

    /// Bytes that no codec can make smaller.
    pub fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number().to_le_bytes()[0]).collect()
    }
}

fn uuid_bits() -> [u8; 16] {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").expect("the kernel has randomness"), &mut bytes)
        .expect("sixteen bytes of it");
    bytes
}
