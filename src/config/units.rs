//! Values that carry their unit: durations, sizes, percentages, rates.
//!
//! A bare number is refused with a hint, because nobody remembers whether a `timeout: 30` is seconds. The text after the
//! line break of an error is its hint; `Section::decode` shows it as help.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::shape;
use crate::names::inline_schema;

/// A duration greater than zero, at most 366 days: `60s`, `5m`, `250ms`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timespan(pub Duration);

/// A duration that may be zero (`0s`), at most 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimespanOrZero(pub Duration);

/// A number of bytes: `64KiB` is 64 · 1024, `1MB` is 1 000 000. Letters may be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A share from `0%` to `100%`, kept as the number before the sign.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

/// A number of requests in a time: `50/s`, `1000/min`, `10000/h`, `1/day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub requests: NonZeroU32,
    /// In how long: a second, a minute, an hour or a day.
    pub window: Duration,
}

impl Rate {
    /// Whether `requests` in `window` are no more than this rate. Exact: nothing is rounded.
    #[must_use]
    pub fn covers(self, requests: u32, window: Duration) -> bool {
        // Below 2^32 requests and 2^95 nanoseconds: both products fit.
        u128::from(requests) * self.window.as_nanos() <= u128::from(self.requests.get()) * window.as_nanos()
    }
}

impl Percent {
    /// The share as a fraction from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for TimespanOrZero {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_bare_number(text) {
            return Err(BARE_DURATION.to_owned());
        }
        let span = humantime::parse_duration(text).map_err(|_| {
            match text.ends_with(|c: char| c.is_ascii_digit()) {
                true => "this is no duration\neach number needs its unit, as in `1h30m`".to_owned(),
                false => format!("this is no duration\n{DURATION_HINT}"),
            }
        })?;
        if span > LONGEST {
            return Err("a duration is at most 366 days".to_owned());
        }
        Ok(Self(span))
    }
}

impl FromStr for Timespan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<TimespanOrZero>()?.0 {
            Duration::ZERO => Err("this duration cannot be zero".to_owned()),
            span => Ok(Self(span)),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_bare_number(text) {
            return Err(BARE_SIZE.to_owned());
        }
        let size: bytesize::ByteSize = text.parse().map_err(|_| format!("this is no size\n{SIZE_HINT}"))?;
        // The parser saturates; a size that large is a mistake.
        if size.as_u64() > LARGEST {
            return Err("a size is at most 1 EiB".to_owned());
        }
        Ok(Self(size.as_u64()))
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text
            .strip_suffix('%')
            .map(str::trim_end)
            .filter(|number| is_bare_number(number))
            .and_then(|number| number.parse::<f64>().ok())
            .ok_or_else(|| BARE_PERCENT.to_owned())?;
        if number > 100.0 {
            return Err("a percentage is at most `100%`".to_owned());
        }
        Ok(Self(number))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_bare_number(text) {
            return Err(BARE_RATE.to_owned());
        }
        let Some((number, unit)) = text.split_once('/') else {
            return Err(format!("this is no rate\n{RATE_HINT}"));
        };
        let (number, unit) = (number.trim(), unit.trim());
        let window = RATE_UNITS.into_iter().find(|(name, _)| *name == unit).map(|(_, seconds)| seconds);
        let Some(seconds) = window else {
            return Err("a rate is per `s`, `min`, `h` or `day`\nsuch as `50/s` or `1000/min`".to_owned());
        };
        let requests =
            number.parse::<u32>().ok().filter(|_| number.chars().all(|c| c.is_ascii_digit())).ok_or_else(
                || format!("a rate begins with a whole number up to {}\n{RATE_HINT}", u32::MAX),
            )?;
        let requests = NonZeroU32::new(requests).ok_or_else(|| "a rate cannot be zero".to_owned())?;
        Ok(Self { requests, window: Duration::from_secs(seconds) })
    }
}

fn is_bare_number(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

impl fmt::Display for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl fmt::Display for TimespanOrZero {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that divides it: `64KiB`, `1000000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (factor, unit) = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(factor, _)| self.0 > 0 && self.0.is_multiple_of(*factor))
            .unwrap_or((1, "B"));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = RATE_UNITS.into_iter().find(|(_, seconds)| *seconds == self.window.as_secs());
        match unit {
            Some((unit, _)) => write!(f, "{}/{unit}", self.requests),
            None => write!(f, "{} in {}", self.requests, humantime::format_duration(self.window)),
        }
    }
}

/// Decodes a unit's text; refuses a bare number with the unit's hint.
struct UnitVisitor<T> {
    expecting: &'static str,
    bare: &'static str,
    of: std::marker::PhantomData<T>,
}

impl<T: FromStr<Err = String>> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<T, E> {
        Err(E::custom(self.bare))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<T, E> {
        Err(E::custom(self.bare))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<T, E> {
        Err(E::custom(self.bare))
    }
}

macro_rules! unit {
    ($name:ident, $kind:literal, $expecting:literal, $bare:expr, $pattern:expr, $message:literal, $examples:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let of = std::marker::PhantomData;
                deserializer.deserialize_any(UnitVisitor { expecting: $expecting, bare: $bare, of })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        inline_schema!($name, |_| shape::text($kind, $pattern, $message, &$examples));
    };
}

const DURATION_HINT: &str = "write `60s`, `5m` or `250ms`";
const SIZE_HINT: &str = "write `64KiB`, `8MiB` or `1MB`";
const BARE_DURATION: &str = "a duration needs a unit\nwrite `60s`, `5m` or `250ms`";
const BARE_SIZE: &str = "a size needs a unit\nwrite `64KiB`, `8MiB` or `1MB`";
const BARE_PERCENT: &str = "a percentage needs its sign\nwrite `20%`";
const RATE_HINT: &str = "write `50/s`, `1000/min`, `10000/h` or `1/day`";
const BARE_RATE: &str = "a rate needs a unit\nwrite `50/s`, `1000/min`, `10000/h` or `1/day`";
/// What a rate may be per, in seconds.
const RATE_UNITS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3600), ("day", 86_400)];
/// Longer than any sensible setting, short enough for every clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const LARGEST: u64 = 1 << 60;

/// What `humantime` reads, as a pattern for editors; `Timespan` asks for one digit that is not zero besides.
macro_rules! duration_pattern {
    ($prefix:literal) => {
        concat!(
            "^",
            $prefix,
            r"\s*([0-9][0-9\s]*(\.[0-9\s]+)?(ns|nsec|nanos|[uµ]s|usec|ms|msec|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?",
            r"|d|days?|w|wks?|weeks?|M|months?|y|yrs?|years?)\s*)+$"
        )
    };
}

unit!(
    Timespan,
    "duration",
    "a duration such as `60s`",
    BARE_DURATION,
    duration_pattern!("(?=.*[1-9])"),
    "a duration has a unit and is not zero, such as `250ms`, `30s` or `1h30m`",
    ["1h30m"]
);
unit!(
    TimespanOrZero,
    "duration",
    "a duration such as `60s`",
    BARE_DURATION,
    duration_pattern!(""),
    "a duration has a unit, such as `0s`, `250ms`, `30s` or `1h30m`",
    ["1h30m"]
);
unit!(
    ByteSize,
    "size",
    "a size such as `64KiB`",
    BARE_SIZE,
    r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*([Bb]|[KkMmGgTtPpEe]([Ii]?[Bb]?))$",
    "a size has a unit, such as `64KiB`, `8MiB` or `1MB` (`MiB` is 1024 · 1024 bytes, `MB` a million)",
    ["64KiB"]
);
unit!(
    Percent,
    "percentage",
    "a percentage such as `20%`",
    BARE_PERCENT,
    r"^0*(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+)\s*%$",
    "a percentage has its sign and is at most `100%`, such as `20%`",
    ["20%"]
);
unit!(
    Rate,
    "rate",
    "a rate such as `1000/min`",
    BARE_RATE,
    r"^\s*0*[1-9][0-9]*\s*/\s*(s|min|h|day)\s*$",
    "a rate is a number per `s`, `min`, `h` or `day`, such as `1000/min`",
    ["1000/min"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!("250ms".parse(), Ok(Timespan(Duration::from_millis(250))));
        assert_eq!("1h30m".parse(), Ok(Timespan(Duration::from_secs(5400))));
        assert_eq!("0s".parse(), Ok(TimespanOrZero(Duration::ZERO)));
        assert_eq!("366d".parse(), Ok(Timespan(LONGEST)));
        for bad in ["60", "0", "", "1.5", "-1s", "s", "5 parsecs", "367d", "99999999999999999999s"] {
            assert!(bad.parse::<Timespan>().is_err(), "{bad:?}");
        }
        assert!("0s".parse::<Timespan>().is_err(), "zero");
        assert!("0".parse::<TimespanOrZero>().is_err(), "zero without a unit");
    }

    #[test]
    fn sizes_carry_their_unit() {
        assert_eq!("64KiB".parse(), Ok(ByteSize(65536)));
        assert_eq!("1MB".parse(), Ok(ByteSize(1_000_000)));
        assert_eq!("2kb".parse(), Ok(ByteSize(2000)));
        assert_eq!("1 MiB".parse(), Ok(ByteSize(1 << 20)));
        for bad in ["64", "", "1XB", "-1KiB", "1.2.3MB", "99999999999EiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn percentages_carry_their_sign() {
        assert_eq!("20%".parse(), Ok(Percent(20.0)));
        assert_eq!("99.9 %".parse(), Ok(Percent(99.9)));
        for bad in ["20", "101%", "-1%", "%", "nan%", "inf%", "1e3%"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad:?}");
        }
        assert!((Percent(20.0).fraction() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn rates_carry_their_time_and_are_compared_exactly() {
        let rate = |text: &str| text.parse::<Rate>().expect(text);
        assert_eq!(rate("50/s").window, Duration::from_secs(1));
        assert_eq!(rate(" 1000 / min ").requests.get(), 1000);
        for text in ["50/s", "1000/min", "10000/h", "1/day"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for bad in
            ["1000", "0/s", "/s", "5/", "5/m", "5/week", "-5/s", "+5/s", "1.5/s", "5/s/s", "4294967296/s", ""]
        {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
        let hour = Duration::from_secs(3600);
        assert!(rate("60/h").covers(1, Duration::from_secs(60)), "the same, written otherwise");
        assert!(rate("1/min").covers(60, hour) && !rate("1/min").covers(61, hour));
        assert!(!rate("1/min").covers(1, Duration::from_nanos(59_999_999_999)), "by a nanosecond");
        assert!(!rate("4294967295/day").covers(u32::MAX, Duration::from_nanos(1)), "no overflow");
        assert!(rate("1/day").covers(1, LONGEST));
    }

    #[test]
    fn they_are_written_as_they_are_read() {
        assert_eq!(Timespan(Duration::from_secs(90)).to_string(), "1m 30s");
        assert_eq!(ByteSize(65536).to_string(), "64KiB");
        assert_eq!(ByteSize(1_000_000).to_string(), "1000000B");
        assert_eq!(ByteSize(0).to_string(), "0B");
        assert_eq!(Percent(20.0).to_string(), "20%");
    }
}
