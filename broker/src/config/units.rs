//! Sizes and durations as people write them: `16MiB`, `20ms`.

use std::time::Duration;

/// Reads a number of bytes: a bare number, or one followed by B, KB, KiB, MB, MiB, GB or GiB.
///
/// # Errors
/// What is wrong, with an example of what is right.
pub fn bytes(text: &str) -> Result<u64, String> {
    let factor = |unit: &str| match unit {
        "" | "b" => Some(1),
        "kb" => Some(1_000),
        "kib" | "k" => Some(1 << 10),
        "mb" => Some(1_000_000),
        "mib" | "m" => Some(1 << 20),
        "gb" => Some(1_000_000_000),
        "gib" | "g" => Some(1 << 30),
        _ => None,
    };
    quantity(text, factor).ok_or_else(|| format!("{text:?} is not a size; write it as \"16MiB\""))
}

/// Reads a duration: a number followed by us, ms, s, m, h or d.
///
/// # Errors
/// What is wrong, with an example of what is right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let factor = |unit: &str| match unit {
        "us" | "µs" => Some(1),
        "ms" => Some(1_000),
        "s" => Some(1_000_000),
        "m" | "min" => Some(60_000_000),
        "h" => Some(3_600_000_000),
        "d" => Some(86_400_000_000),
        _ => None,
    };
    quantity(text, factor)
        .map(Duration::from_micros)
        .ok_or_else(|| format!("{text:?} is not a duration; write it as \"20ms\""))
}

fn quantity(text: &str, factor: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = factor(&unit.trim().to_lowercase())?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A number of bytes for people.
pub fn show_bytes(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size {
            let whole = bytes / size;
            return if bytes.is_multiple_of(size) {
                format!("{whole}{unit}")
            } else {
                format!("{:.1}{unit}", bytes as f64 / size as f64)
            };
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_ten_and_of_two() {
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        assert_eq!(bytes("16 mb"), Ok(16_000_000));
        assert_eq!(bytes("512"), Ok(512));
        assert!(bytes("MiB").is_err() && bytes("1.5GiB").is_err() && bytes("-1").is_err());
        assert!(bytes("99999999999GiB").is_err());
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert!(duration("20").is_err() && duration("ms").is_err());
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(show_bytes(16 << 20), "16MiB");
        assert_eq!(show_bytes(1536), "1.5KiB");
        assert_eq!(show_bytes(12), "12B");
    }
}
