//! Quantities as Kubernetes writes them: one amount has many spellings.

/// Digits a quantity may have: every amount of them, in thousand-millionths and with any suffix, fits the number.
const DIGITS_MAX: usize = 15;
/// Decimal places of what is counted: thousand-millionths.
const PLACES: i32 = 9;

/// How much a quantity is, in thousand-millionths, rounded up; nothing for a text that is none, is negative or has more
/// digits than any real one.
#[must_use]
pub fn parse(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.len() + fraction.len();
    if digits == 0 || digits > DIGITS_MAX || fraction.contains('.') {
        return None;
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let (binary, decimal) = scale(suffix)?;
    shift(mantissa.checked_shl(binary)?, decimal - places + PLACES)
}

/// A suffix as powers of two and of ten.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i32 = exponent.parse().ok()?;
            (-18..=18).contains(&exponent).then_some((0, exponent))?
        }
    })
}

fn shift(number: u128, places: i32) -> Option<u128> {
    let factor = 10_u128.checked_pow(places.unsigned_abs())?;
    if places < 0 {
        Some(number.div_ceil(factor))
    } else {
        number.checked_mul(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_amount_has_many_spellings() {
        for (one, other) in [
            ("0.1", "100m"),
            ("1", "1000m"),
            ("1Gi", "1024Mi"),
            ("1Ei", "1024Pi"),
            ("1G", "1000000k"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("12E2", "1.2k"),
            ("0", "0m"),
            (".5", "500m"),
            ("+1", "1."),
            ("0.0000000001", "1n"),
        ] {
            assert!(parse(one).is_some(), "{one}");
            assert_eq!(parse(one), parse(other), "{one} and {other}");
        }
        assert_ne!(parse("1G"), parse("1Gi"));
        assert_ne!(parse("1m"), parse("1M"));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "",
            ".",
            "m",
            "-1",
            "1.2.3",
            "1 ",
            "1K",
            "1mi",
            "one",
            "1e",
            "1e99",
            "1e-99",
            "\"",
            "1234567890123456",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_largest_amounts_do_not_overflow() {
        for suffix in ["E", "Pi", "e18"] {
            let text = format!("{}{suffix}", "9".repeat(DIGITS_MAX));
            let _ = parse(&text);
        }
    }
}
