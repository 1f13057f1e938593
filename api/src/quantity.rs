//! Quantities of resources: exact decimal numbers with Kubernetes' suffixes.

use std::fmt;
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

/// A quantity: a whole number of nano units, between -(2^63-1) and 2^63-1 units, and the format it was written in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(_text: &str) -> Result<Self, QuantityError> {
        Err(QuantityError::Format)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.nanos)
    }
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole number of units.
    pub fn new(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * 1_000_000_000,
            format,
        }
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * 1_000_000,
            format,
        }
    }

    /// Units, rounded up (away from zero).
    pub fn value(&self) -> i64 {
        0
    }

    /// Thousandths, rounded up; the largest i64 when it doesn't fit.
    pub fn milli_value(&self) -> i64 {
        0
    }
}
