//! Quantities of resources: exact decimal numbers with Kubernetes' suffixes.
//!
//! A quantity is a whole number of nano units; anything finer is rounded away from zero when it is parsed. Two
//! quantities are equal when their numbers are, whatever format they were written in.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;
use thiserror::Error;

/// The family of suffixes in which a quantity prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `1e3`
    DecimalExponent,
    /// `1Ki`
    BinarySi,
    /// `1k`, `100m`
    #[default]
    DecimalSi,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum QuantityError {
    /// Not of the form.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number isn't one.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// A quantity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;

/// Binary quantities are capped at this many units.
const MAX_BINARY: i128 = i64::MAX as i128;

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole number of units.
    pub fn new(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * (NANO / 1000),
            format,
        }
    }

    /// A number of bytes, printed with binary suffixes.
    pub fn bytes(value: i64) -> Self {
        Self::new(value, Format::BinarySi)
    }

    /// The format it prints in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Units, rounded away from zero; saturated where an i64 doesn't hold them.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded away from zero; saturated where an i64 doesn't hold them.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    /// The number as a float, for ratios and scores.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether it is a whole number of units.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// Units times `factor`, for overheads and counts.
    #[must_use]
    pub fn times(self, factor: i64) -> Self {
        Self {
            nanos: self.nanos.saturating_mul(i128::from(factor)),
            format: self.format,
        }
    }

    fn scaled(&self, unit: i128) -> i64 {
        let whole = self.nanos / unit;
        let rounded = if self.nanos % unit == 0 {
            whole
        } else {
            whole + self.nanos.signum()
        };
        rounded.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// The text as Kubernetes prints a quantity that it read: mostly the canonical form.
    pub fn canonical(text: &str) -> Result<Cow<'_, str>, QuantityError> {
        let parts = Parts::scan(text)?;
        let quantity = parts.quantity()?;
        if parts.prints_as_read() {
            return Ok(Cow::Borrowed(text));
        }
        let printed = quantity.to_string();
        Ok(if printed == text {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(printed)
        })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The sum, in the format of the first that isn't nothing.
    fn add(self, other: Self) -> Self {
        let format = if self.nanos == 0 {
            other.format
        } else {
            self.format
        };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            nanos: self.nanos.saturating_neg(),
            format: self.format,
        }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Parts::scan(text)?.quantity()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi && self.is_integer() {
            let mut amount = self.nanos / NANO;
            if amount.abs() >= 1024 {
                let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().copied();
                let mut suffix = suffixes.next().unwrap_or_default();
                while amount % 1024 == 0 {
                    let Some(next) = suffixes.next() else { break };
                    amount /= 1024;
                    suffix = next;
                }
                return write!(f, "{amount}{suffix}");
            }
        }
        let (mut amount, mut exponent) = (self.nanos, -9);
        while amount % 1000 == 0 && exponent < 18 {
            amount /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return match exponent {
                0 => write!(f, "{amount}"),
                _ => write!(f, "{amount}e{exponent}"),
            };
        }
        let suffix = match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            _ => "",
        };
        write!(f, "{amount}{suffix}")
    }
}

/// A quantity's text, taken apart.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    format: Format,
    base: u32,
    exponent: i64,
}

impl<'a> Parts<'a> {
    fn scan(text: &'a str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let rest = rest.trim_start_matches('0');
        let (whole, rest) = split_digits(rest);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent = letters.strip_prefix(['+', '-']).unwrap_or(letters);
        if !exponent.bytes().all(|b| b.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        let (base, exponent, format) = interpret(suffix)?;
        Ok(Self {
            negative,
            whole,
            fraction,
            format,
            base,
            exponent,
        })
    }

    /// Kubernetes keeps the text of quantities that are nearly canonical: `12E-3` and `+3Ki` as they are written.
    fn prints_as_read(&self) -> bool {
        if self.whole.is_empty() {
            return false;
        }
        let length = (self.whole.len() + self.fraction.len()) as i64;
        match self.format {
            Format::BinarySi => {
                // What may still be divided by two often is written with the next suffix.
                let last = self.whole.parse().unwrap_or(0i64);
                self.fraction.is_empty() && last & 7 != 0 && length + self.exponent * 3 / 10 < 15
            }
            Format::DecimalSi | Format::DecimalExponent => {
                let scale = self.exponent - self.fraction.len() as i64;
                length <= 18
                    && (-9..=i64::from(i32::MAX)).contains(&scale)
                    && scale % 3 == 0
                    && !format!("{}{}", self.whole, self.fraction).ends_with("000")
            }
        }
    }

    fn quantity(&self) -> Result<Quantity, QuantityError> {
        let digits = || {
            self.whole
                .bytes()
                .chain(self.fraction.bytes())
                .map(|b| i128::from(b - b'0'))
        };
        let mut format = self.format;
        // The number is mantissa * 10^shift * 2^binary nanos.
        let shift = 9 - self.fraction.len() as i64 + if self.base == 10 { self.exponent } else { 0 };
        let binary = if self.base == 2 { self.exponent } else { 0 };
        let mut mantissa: i128 = 0;
        let mut dropped = 0i64;
        let mut inexact = false;
        for digit in digits() {
            // Digits beyond what an i128 holds only matter for rounding.
            match mantissa.checked_mul(10).and_then(|m| m.checked_add(digit)) {
                Some(next) if dropped == 0 => mantissa = next,
                _ => {
                    dropped += 1;
                    inexact |= digit != 0;
                }
            }
        }
        if mantissa == 0 {
            return Ok(Quantity { nanos: 0, format });
        }
        let shift = shift + dropped;
        let mut nanos = if binary > 0 {
            mantissa.saturating_mul(1i128 << binary.min(60))
        } else {
            mantissa
        };
        if shift >= 0 {
            for _ in 0..shift.min(60) {
                nanos = nanos.saturating_mul(10);
            }
        } else {
            for _ in 0..shift.unsigned_abs().min(60) {
                inexact |= nanos % 10 != 0;
                nanos /= 10;
            }
            if inexact {
                nanos = nanos.saturating_add(1);
            }
        }
        if format == Format::BinarySi {
            nanos = nanos.min(MAX_BINARY * NANO);
            if nanos < NANO {
                format = Format::DecimalSi;
            }
        }
        Ok(Quantity {
            nanos: if self.negative { -nanos } else { nanos },
            format,
        })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(end)
}

fn interpret(suffix: &str) -> Result<(u32, i64, Format), QuantityError> {
    let (base, exponent) = match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (2, 10),
        "Mi" => (2, 20),
        "Gi" => (2, 30),
        "Ti" => (2, 40),
        "Pi" => (2, 50),
        "Ei" => (2, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            return Ok((10, i64::from(exponent), Format::DecimalExponent));
        }
    };
    Ok((
        base,
        exponent,
        if base == 2 {
            Format::BinarySi
        } else {
            Format::DecimalSi
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_print_canonically() {
        for (text, want) in [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("1000000", "1M"),
            ("1000k", "1M"),
            ("12e6", "12e6"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.1Ki", "1126400m"),
            ("0.3Mi", "314572800m"),
            ("9223372036854775807", "9223372036854775807"),
            ("100Ei", "9223372036854775807"),
            ("-1", "-1"),
            ("5M", "5M"),
            ("5000000", "5M"),
            (".5", "500m"),
            ("1.", "1"),
            ("k", "0"),
        ] {
            assert_eq!(
                text.parse::<Quantity>().map(|q| q.to_string()),
                Ok(want.to_owned()),
                "{text}"
            );
        }
        for (text, want) in [
            ("", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1x", QuantityError::Format),
            ("1 ", QuantityError::Format),
            ("true", QuantityError::Format),
            ("1e", QuantityError::Suffix),
            ("1i", QuantityError::Suffix),
            ("1KiKi", QuantityError::Suffix),
            ("1m5", QuantityError::Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(want), "{text}");
        }
    }

    #[test]
    fn values_round_away_from_zero_and_sums_keep_a_format() {
        let parse = |s: &str| s.parse::<Quantity>().unwrap();
        assert_eq!(parse("1100m").value(), 2);
        assert_eq!(parse("-1100m").value(), -2);
        assert_eq!(parse("1u").milli_value(), 1);
        assert_eq!(parse("100m").milli_value(), 100);
        assert_eq!(parse("1Gi").value(), 1 << 30);
        assert!(parse("1Gi") > parse("1G"));
        assert_eq!(parse("1"), parse("1000m"));
        assert_eq!((parse("0") + parse("1Gi")).to_string(), "1Gi");
        assert_eq!((parse("1Gi") - parse("512Mi")).to_string(), "512Mi");
        assert_eq!(
            ["100m", "0.9"]
                .map(parse)
                .into_iter()
                .sum::<Quantity>()
                .to_string(),
            "1"
        );
    }

    #[test]
    fn nearly_canonical_texts_are_kept() {
        for (text, want) in [
            ("1.250", "1.250"),
            ("1.25", "1250m"),
            ("1500m", "1500m"),
            ("1000m", "1"),
            ("1.000", "1"),
            ("12E-3", "12E-3"),
            ("12E-2", "120e-3"),
            ("+3Ki", "+3Ki"),
            ("03Mi", "03Mi"),
            ("+8Ki", "8Ki"),
            ("+3.5Ki", "3584"),
            ("1048577Gi", "1048577Gi"),
        ] {
            assert_eq!(Quantity::canonical(text).unwrap(), want);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "[+-]?[0-9]{0,12}(\\.[0-9]{0,9})?(|n|u|m|k|M|G|T|Ki|Mi|Gi|Ti|e-?[0-9])") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let printed = quantity.to_string();
                let again: Quantity = printed.parse().unwrap();
                prop_assert_eq!(again, quantity, "{}", printed);
                prop_assert_eq!(again.to_string(), printed);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
