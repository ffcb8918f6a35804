//! One line of JSON, appended to a batch without allocating.
//!
//! Texts may hold anything a client can send. Quotes, backslashes and all control characters (also DEL and U+0080 to U+009F,
//! which terminals obey) are escaped; bytes that are no UTF-8 become U+FFFD; long texts are cut. So a line is always one line
//! and always JSON (RFC 8259 §7).

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Line;

/// The most bytes of a path that are written.
const MAX_PATH_BYTES: usize = 2048;
/// The most bytes of any other text that are written.
const MAX_TEXT_BYTES: usize = 512;

/// `2026-11-22T10:00:00`, kept for the second it was made for.
#[derive(Debug)]
pub(super) struct Clock {
    second: u64,
    text: [u8; 19],
}

impl Default for Clock {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00" }
    }
}

impl Clock {
    /// Appends `time` as RFC 3339 in UTC with microseconds. A time before 1970 is written as 1970.
    fn write(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            self.text = civil(self.second);
        }
        out.extend_from_slice(&self.text);
        let mut fraction = *b".000000Z";
        digits(&mut fraction[1..7], u64::from(since.subsec_micros()));
        out.extend_from_slice(&fraction);
    }
}

/// Writes `number` right-aligned into `place`.
fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Date and time of a second since 1970, in the proleptic Gregorian calendar, for years up to 9999.
fn civil(second: u64) -> [u8; 19] {
    let (days, of_day) = (second / 86_400, second % 86_400);
    // Count years from 1 March, so that the leap day is the last of a year; 719468 days lie between 0000-03-01 and 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March to July and August to December have the same 153 days in the same order.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], of_day / 3600);
    digits(&mut text[14..16], of_day / 60 % 60);
    digits(&mut text[17..19], of_day % 60);
    text
}

/// Appends `line` and a newline.
pub(super) fn line(out: &mut Vec<u8>, clock: &mut Clock, line: &Line<'_>) {
    out.extend_from_slice(br#"{"time":""#);
    clock.write(out, line.time);
    out.push(b'"');
    text(out, "request_id", line.request_id);
    text(out, "listener", line.listener);
    key(out, "client");
    // Displaying an address into a Vec cannot fail and does not allocate.
    let _ = write!(out, "\"{}\"", line.client);
    text(out, "method", line.method);
    text(out, "host", line.host);
    text(out, "route", line.route);
    key(out, "path");
    let path = line.path.split(['?', '#']).next().unwrap_or_default();
    quoted(out, path.as_bytes(), MAX_PATH_BYTES);
    number(out, "status", u64::from(line.status));
    text(out, "source", line.source);
    let texts = [
        ("cache", line.cache),
        ("cache_reason", line.cache_reason),
        ("limit", line.limit),
        ("upstream", line.upstream),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            text(out, name, value);
        }
    }
    number(out, "duration_us", microseconds(line.duration));
    if let Some(duration) = line.upstream_duration {
        number(out, "upstream_duration_us", microseconds(duration));
    }
    number(out, "request_bytes", line.request_bytes);
    number(out, "response_bytes", line.response_bytes);
    if let Some(agent) = line.user_agent {
        key(out, "user_agent");
        quoted(out, agent, MAX_TEXT_BYTES);
    }
    text(out, "protocol", line.protocol);
    if let Some(error) = line.error {
        text(out, "error", error);
    }
    out.extend_from_slice(b"}\n");
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn key(out: &mut Vec<u8>, name: &'static str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, name: &'static str, value: u64) {
    key(out, name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn text(out: &mut Vec<u8>, name: &'static str, value: &str) {
    key(out, name);
    quoted(out, value.as_bytes(), MAX_TEXT_BYTES);
}

/// Appends `bytes` as a JSON string; what is beyond `limit` bytes becomes `…`.
fn quoted(out: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    out.push(b'"');
    match bytes.get(..limit) {
        Some(start) if bytes.len() > limit => {
            // A character that the cut splits is left out: it is what the last chunk ends with.
            let split = start.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
            lossy(out, start.get(..limit - split).unwrap_or(start));
            out.extend_from_slice("…".as_bytes());
        }
        _ => lossy(out, bytes),
    }
    out.push(b'"');
}

fn lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nearly every text is plain ASCII; then one look at it is enough.
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(br"\ufffd");
        }
    }
}

/// Whether `bytes` can stand in a JSON string as they are. No early exit and no table: this way the compiler looks at sixteen
/// bytes at once.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, byte| {
        plain & (*byte >= 0x20) & (*byte < 0x7f) & (*byte != b'"') & (*byte != b'\\')
    })
}

/// Appends valid UTF-8, run by run between the bytes that need an escape.
fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| NEEDS_LOOK[usize::from(*byte)]) {
        let (run, tail) = rest.split_at(at);
        out.extend_from_slice(run);
        rest = match tail {
            // U+0080 to U+009F are C2 80 to C2 9F; what else begins with C2 is an ordinary character.
            [0xc2, second @ 0x80..=0x9f, after @ ..] => {
                control(out, *second);
                after
            }
            [0xc2, after @ ..] => {
                out.push(0xc2);
                after
            }
            [b'"', after @ ..] => {
                out.extend_from_slice(br#"\""#);
                after
            }
            [b'\\', after @ ..] => {
                out.extend_from_slice(br"\\");
                after
            }
            [other, after @ ..] => {
                control(out, *other);
                after
            }
            [] => tail,
        };
    }
    out.extend_from_slice(rest);
}

fn control(out: &mut Vec<u8>, code: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(br"\u00");
    out.push(HEX[usize::from(code >> 4)]);
    out.push(HEX[usize::from(code & 15)]);
}

/// Bytes at which a run ends.
static NEEDS_LOOK: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] =
            byte < 0x20 || byte == b'"' as usize || byte == b'\\' as usize || byte == 0x7f || byte == 0xc2;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(bytes: &[u8], limit: usize) -> String {
        let mut out = Vec::new();
        quoted(&mut out, bytes, limit);
        String::from_utf8(out).expect("a line is UTF-8")
    }

    fn at(second: u64) -> String {
        let mut out = Vec::new();
        Clock::default().write(&mut out, UNIX_EPOCH + Duration::new(second, 1_234_999));
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn times_are_rfc_3339_with_microseconds() {
        assert_eq!(at(0), "1970-01-01T00:00:00.001234Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.001234Z", "a leap day in a century year");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.001234Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.001234Z", "2100 has no leap day");
        assert_eq!(at(1_795_305_600), "2026-11-22T00:00:00.001234Z");
        assert_eq!(at(253_402_300_799), "9999-12-31T23:59:59.001234Z");
    }

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        assert_eq!(written(b"a\"b\\c", 99), r#""a\"b\\c""#);
        assert_eq!(written(b"a\r\nb\0\x1b[31m\x7f", 99), r#""a\u000d\u000ab\u0000\u001b[31m\u007f""#);
        assert_eq!(
            written("\u{9b}x".as_bytes(), 99),
            "\"\\u009bx\"",
            "a one-character escape sequence of terminals"
        );
        assert_eq!(written("\u{a0}é€😀".as_bytes(), 99), "\"\u{a0}é€😀\"", "ordinary text stays as it is");
    }

    #[test]
    fn what_is_no_utf_8_is_replaced() {
        assert_eq!(written(b"a\xffb\xc2", 99), r#""a\ufffdb\ufffd""#);
        assert_eq!(written(b"\xed\xa0\x80", 99), r#""\ufffd\ufffd\ufffd""#, "a surrogate is no character");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(written(b"abcd", 4), "\"abcd\"", "the limit itself fits");
        assert_eq!(written(b"abcde", 4), "\"abcd…\"");
        assert_eq!(written("abc€".as_bytes(), 5), "\"abc…\"", "half a character is left out");
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_json_string(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let json = written(&bytes, 1000);
            let back: String = serde_json::from_str(&json).expect("JSON");
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes).into_owned());
            let control = json.chars().any(char::is_control);
            prop_assert!(!control, "no control character is left");
        }

        #[test]
        fn any_time_agrees_with_another_calendar(second in 0_u64..253_402_300_800) {
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            let ours = at(second);
            prop_assert_eq!(http.get(12..16), ours.get(..4), "year");
            prop_assert_eq!(http.get(5..7), ours.get(8..10), "day");
            prop_assert_eq!(http.get(17..25), ours.get(11..19), "time");
        }
    }
}
