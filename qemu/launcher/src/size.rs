//! Sizes as people type and read them: `50M` means 50 MiB, as in QEMU.

use parse_size::Config;

/// Bytes of one MiB.
pub const MIB: u64 = 1 << 20;

/// Parses `4096`, `64K`, `50M`, `2G`, `2GiB`.
///
/// # Errors
/// A line that says what is wrong with `text`.
pub fn parse(text: &str) -> Result<u64, String> {
    Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("`{text}` is not a size ({error}); write for example 64K, 50M or 2G"))
}

/// The shortest exact form with a binary suffix: `52428800` becomes `50M`.
pub fn format(bytes: u64) -> String {
    for (suffix, bits) in [("G", 30), ("M", 20), ("K", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << bits) {
            return format!("{}{suffix}", bytes >> bits);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_survive_a_round_trip() {
        for (text, bytes) in [("0", 0), ("4097", 4097), ("64K", 65536), ("50M", 52_428_800), ("2G", 2 << 30)]
        {
            assert_eq!(parse(text), Ok(bytes));
            assert_eq!(format(bytes), text);
        }
        assert_eq!(parse("2GiB"), Ok(2 << 30));
        assert!(parse("-1M").is_err() && parse("many").is_err() && parse("").is_err());
    }
}
