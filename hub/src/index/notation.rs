//! Texts of the spec in their notations: images, address ranges, amounts, times. What the CRD refuses at the door is
//! refused here too, for an object from before the rule.

use std::net::IpAddr;

use remote_istio::limits;

/// Longest amount.
const QUANTITY_MAX_BYTES: usize = 32;

/// What an amount may end in, beside a power of ten.
const SUFFIXES: [&str; 16] = [
    "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
];

/// Shortest and longest time that a hub may be away unnoticed, seconds.
const LOST_AFTER_SECONDS: std::ops::RangeInclusive<u32> = 60..=30 * 86_400;

/// Every address range.
pub(super) const EVERYTHING: &str = "*";

/// An image by name, or nothing for the agent's own.
///
/// # Errors
/// Why it is none.
pub(super) fn image(text: &str) -> Result<String, String> {
    let text = text.trim();
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@".contains(&byte);
    let starts_well = text.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    if text.len() > limits::IMAGE_MAX_BYTES || !text.bytes().all(inner) || !starts_well {
        let short: String = text.chars().take(100).collect();
        return Err(format!(
            "{short:?} is no image: write it like docker.io/istio/citadel:1.0.5"
        ));
    }
    Ok(text.to_owned())
}

/// CIDRs with commas between, without spaces.
///
/// # Errors
/// The first that is none, and why.
pub(super) fn ranges(text: &str) -> Result<String, String> {
    if text.len() > limits::RANGES_MAX_BYTES {
        return Err(format!(
            "is longer than {} bytes: join ranges",
            limits::RANGES_MAX_BYTES
        ));
    }
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    let mut ranges = Vec::new();
    for range in text.split(',').map(str::trim) {
        if !is_cidr(range) {
            let short: String = range.chars().take(100).collect();
            return Err(format!(
                "{short:?} is no address range: write CIDRs with commas between, like 10.0.0.0/8,192.168.0.0/16"
            ));
        }
        ranges.push(range);
    }
    Ok(ranges.join(","))
}

/// As [`ranges`]; where nothing is said, everything.
///
/// # Errors
/// The first that is none, and why.
pub(super) fn included_ranges(text: &str) -> Result<String, String> {
    match text.trim() {
        "" | EVERYTHING => Ok(EVERYTHING.to_owned()),
        text => ranges(text),
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let is_plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    is_plain && length.parse::<u8>().is_ok_and(|length| length <= most)
}

/// An amount as Kubernetes writes it, not below zero.
///
/// # Errors
/// Why it is none.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    let text = text.trim();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let end = text.find(|sign: char| !(sign.is_ascii_digit() || sign == '.'));
    let (amount, suffix) = text.split_at(end.unwrap_or(text.len()));
    let amount = match amount.split_once('.') {
        Some((whole, part)) => number(whole) && number(part),
        None => number(amount),
    };
    let is_power = || {
        suffix
            .strip_prefix(['e', 'E'])
            .is_some_and(|power| power.len() <= 3 && number(power))
    };
    let suffix = SUFFIXES.contains(&suffix) || is_power();
    if amount && suffix && text.len() <= QUANTITY_MAX_BYTES {
        return Ok(text.to_owned());
    }
    let short: String = text.chars().take(100).collect();
    Err(format!("{short:?} is no amount: write it like 2, 100m or 64Mi"))
}

/// A time that the hub may be away: a number and s, m, h or d, in seconds.
///
/// # Errors
/// Why it is none.
pub(super) fn lost_after(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no time from 1m to 30d: write a number and one of s, m, h, d, like 10m");
    let text = text.trim();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number = &text[..text.len() - 1];
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    let seconds = seconds.filter(|seconds| digits && LOST_AFTER_SECONDS.contains(seconds));
    seconds.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_names_without_spaces_and_an_empty_one_is_the_agents_own() {
        for text in [
            "",
            "istio/citadel:1.0.5",
            "localhost:5000/a/b@sha256:00ff",
            " istio/citadel ",
        ] {
            assert_eq!(image(text), Ok(text.trim().to_owned()));
        }
        for text in ["-x", "a b", "a\nb", "ä", "a;b", &"a".repeat(1_025)] {
            assert!(image(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_are_cidrs_and_spaces_around_them_do_not_count() {
        assert_eq!(ranges(" 10.0.0.0/8 , fd00::/8"), Ok("10.0.0.0/8,fd00::/8".to_owned()));
        assert_eq!(ranges(""), Ok(String::new()));
        for text in [
            "*",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "a/8",
            "10.0.0.0/8,",
            ",",
            "fd00::/129",
        ] {
            assert!(ranges(text).is_err(), "{text}");
        }
    }

    #[test]
    fn everything_is_included_where_nothing_is_said() {
        for text in ["", " ", "*"] {
            assert_eq!(included_ranges(text), Ok("*".to_owned()));
        }
        assert_eq!(included_ranges("10.0.0.0/8"), Ok("10.0.0.0/8".to_owned()));
        assert!(included_ranges("*,10.0.0.0/8").is_err());
    }

    #[test]
    fn amounts_are_those_of_kubernetes_without_sign() {
        for text in ["0", "2", "0.5", "100m", "64Mi", "1e3", "1E3", "1E", "1.5Gi"] {
            assert_eq!(quantity(text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "m",
            "-1",
            "+1",
            "1.",
            ".5",
            "1 Mi",
            "1mi",
            "1e",
            "1e1234",
            "1KB",
            &"1".repeat(33),
        ] {
            assert!(quantity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_a_number_and_a_unit_within_their_bounds() {
        for (text, seconds) in [("60s", 60), ("1m", 60), ("10m", 600), ("2h", 7_200), ("30d", 2_592_000)] {
            assert_eq!(lost_after(text), Ok(seconds));
        }
        for text in [
            "",
            "m",
            "59s",
            "31d",
            "721h",
            "10",
            "1h30m",
            "-5m",
            "+5m",
            "99999999999d",
            "5µ",
        ] {
            assert!(lost_after(text).is_err(), "{text}");
        }
    }
}
