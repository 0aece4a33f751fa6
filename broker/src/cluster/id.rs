//! Cluster ids in Kafka's form.

use millrace_model::Random;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Draws a cluster id: a random UUID as 22 characters of base64url, never with a '-' in front,
/// which tools would take for an option.
pub fn new_cluster_id(random: &dyn Random) -> String {
    loop {
        let id = base64url(random.uuid().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// Bytes as base64url without padding, which is how Kafka writes ids.
pub fn base64url(bytes: &[u8]) -> String {
    let digit = |value: u32| char::from(ALPHABET.get((value & 63) as usize).copied().unwrap_or(b'_'));
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        text.extend((0..=group.len()).map(|place| digit(bits >> (18 - 6 * place))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_model::SystemRandom;

    #[test]
    fn base64url_is_as_in_rfc_4648_without_padding() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff, 0xfe]), "-__-");
    }

    #[test]
    fn a_cluster_id_has_22_characters_and_no_dash_in_front() {
        for _ in 0..1000 {
            let id = new_cluster_id(&SystemRandom);
            assert!(id.len() == 22 && !id.starts_with('-'), "{id}");
        }
    }
}
