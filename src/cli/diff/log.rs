//! Reading an access log line by line: the gateway's own JSON format, as far as a request can be made of it.
//!
//! Everything is bounded: a line's length, the number of distinct requests and their bytes. What is left out is counted.

use std::collections::HashMap;
use std::io::{self, BufRead, Read as _};

use serde::Deserialize;

/// The longest line that is read, in bytes; the gateway's own are shorter than a tenth of it.
pub const MAX_LINE_BYTES: u64 = 64 * 1024;
/// The most distinct requests that are compared.
pub const MAX_DISTINCT: usize = 100_000;
/// The most bytes that they may have together.
const MAX_DISTINCT_BYTES: usize = 64 * 1024 * 1024;

/// What makes two requests of a log the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Logged {
    /// The method.
    pub method: String,
    /// The host; empty where the log has none.
    pub host: String,
    /// The path, with the query where the log has one.
    pub target: String,
    /// The listener's name; empty where the log has none.
    pub listener: String,
}

/// How often a request stands in the log, and by which route it was answered then.
#[derive(Debug, Default)]
pub struct Seen {
    /// Lines.
    pub lines: u64,
    /// The route that the first of them names.
    pub route: Option<String>,
}

/// The requests of a log.
#[derive(Debug, Default)]
pub struct Log {
    /// Each distinct one.
    pub requests: HashMap<Logged, Seen>,
    /// Lines that are no entry of an access log, or too long.
    pub unreadable: u64,
    /// Where the first of them stands, counted from 1.
    pub first_unreadable: Option<u64>,
    /// Lines that came when there were too many distinct requests already.
    pub beyond: u64,
    /// Whether any line has a query.
    pub has_queries: bool,
    bytes: usize,
}

/// The members that are looked at; the log has more.
#[derive(Deserialize)]
struct Line {
    method: String,
    path: String,
    #[serde(default)]
    host: String,
    query: Option<String>,
    #[serde(default)]
    listener: String,
    route: Option<String>,
}

impl Log {
    /// Reads to the end.
    ///
    /// # Errors
    /// The file cannot be read further.
    pub fn read(mut input: impl BufRead) -> io::Result<Self> {
        let mut log = Self::default();
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            let read = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(log);
            }
            number += 1;
            let is_whole = line.last() == Some(&b'\n') || (read as u64) < MAX_LINE_BYTES;
            if !is_whole {
                skip_line(&mut input)?;
                log.note_unreadable(number);
            } else if !line.trim_ascii().is_empty() {
                match serde_json::from_slice::<Line>(&line) {
                    Ok(line) => log.add(line),
                    Err(_) => log.note_unreadable(number),
                }
            }
        }
    }

    fn note_unreadable(&mut self, number: u64) {
        self.unreadable += 1;
        self.first_unreadable.get_or_insert(number);
    }

    fn add(&mut self, line: Line) {
        let query = line.query.filter(|query| !query.is_empty());
        self.has_queries |= query.is_some();
        let target = match query {
            Some(query) => format!("{}?{query}", line.path),
            None => line.path,
        };
        let key = Logged { method: line.method, host: line.host, target, listener: line.listener };
        if let Some(seen) = self.requests.get_mut(&key) {
            seen.lines += 1;
            return;
        }
        let bytes = key.method.len() + key.host.len() + key.target.len() + key.listener.len();
        if self.requests.len() >= MAX_DISTINCT || self.bytes + bytes > MAX_DISTINCT_BYTES {
            self.beyond += 1;
            return;
        }
        self.bytes += bytes;
        let route = line.route.filter(|route| route != "-" && !route.starts_with('_'));
        self.requests.insert(key, Seen { lines: 1, route });
    }
}

/// Reads on to the end of a line without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        match chunk.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                input.consume(end + 1);
                return Ok(());
            }
            None => {
                let length = chunk.len();
                input.consume(length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_is_counted_and_what_is_no_line_is_told() {
        let text = concat!(
            r#"{"method":"GET","path":"/a","host":"x","route":"r","status":200}"#,
            "\n\nnot json\n",
            r#"{"method":"GET","path":"/a","host":"x","route":"r","status":304}"#,
            "\n",
            r#"{"method":"GET","path":"/a","query":"b=1","route":"-"}"#,
        );
        let log = Log::read(text.as_bytes()).expect("read");
        let key = |host: &str, target: &str| Logged {
            method: "GET".into(),
            host: host.into(),
            target: target.into(),
            listener: String::new(),
        };
        assert_eq!(log.requests[&key("x", "/a")].lines, 2);
        assert_eq!(log.requests[&key("x", "/a")].route.as_deref(), Some("r"));
        assert_eq!(log.requests[&key("", "/a?b=1")].route, None);
        assert_eq!((log.unreadable, log.first_unreadable, log.has_queries), (1, Some(3), true));
    }

    #[test]
    fn a_line_without_end_is_one_unreadable_line() {
        let long = "x".repeat(3 * 64 * 1024);
        let text = format!("{long}\n{{\"method\":\"GET\",\"path\":\"/a\"}}\n{long}");
        let log = Log::read(text.as_bytes()).expect("read");
        assert_eq!((log.requests.len(), log.unreadable), (1, 2));
    }

    #[test]
    fn distinct_requests_are_bounded() {
        let line = |n: usize| format!("{{\"method\":\"GET\",\"path\":\"/{n}\"}}\n");
        let text: String = (0..MAX_DISTINCT + 3).map(line).chain([line(0)]).collect();
        let log = Log::read(text.as_bytes()).expect("read");
        assert_eq!((log.requests.len(), log.beyond), (MAX_DISTINCT, 3));
        let first = log.requests.iter().find(|(key, _)| key.target == "/0").expect("kept");
        assert_eq!(first.1.lines, 2, "one that is known is counted on");
    }
}
