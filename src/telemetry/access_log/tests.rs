//! The log as a reader of the sink sees it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::UNIX_EPOCH;

use super::*;

fn line(path: &str) -> Line<'_> {
    Line {
        time: UNIX_EPOCH + Duration::from_micros(1_795_305_600_000_042),
        request_id: "r-1",
        listener: "public",
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        method: "GET",
        host: "app.example",
        route: "weather",
        path,
        status: 200,
        source: "upstream",
        cache: Some("miss"),
        cache_reason: None,
        limit: None,
        upstream: Some("vendor"),
        duration: Duration::from_micros(1500),
        upstream_duration: Some(Duration::from_micros(1200)),
        request_bytes: 0,
        response_bytes: 321,
        user_agent: Some(b"curl/8 \"\xff\""),
        protocol: "HTTP/1.1",
        error: None,
    }
}

/// A sink in memory that can be made to wait.
struct Gate {
    written: Arc<Mutex<Vec<u8>>>,
    /// Takes one turn per write; when the other end is gone, it is open.
    turns: Receiver<()>,
    fails: bool,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.turns.recv();
        if self.fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out for Gate {}

fn gated(fails: bool) -> (AccessLog, Sender<()>, Arc<Mutex<Vec<u8>>>) {
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let (open, turns) = channel();
    let gate = Gate { written: Arc::clone(&written), turns, fails };
    let log = AccessLog::start_with(Sink::Stdout, Box::new(gate)).expect("a thread");
    (log, open, written)
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[test]
fn a_line_is_json_with_these_members() {
    let (log, open, written) = gated(false);
    drop(open);
    log.record(&line("/v1/now?token=hidden#x"));
    assert!(log.flush(), "the sink takes it");
    let text = String::from_utf8(written.lock().clone()).expect("UTF-8");
    assert_eq!(
        text,
        concat!(
            r#"{"time":"2026-11-22T00:00:00.000042Z","request_id":"r-1","listener":"public","client":"192.0.2.7","#,
            r#""method":"GET","host":"app.example","route":"weather","path":"/v1/now","status":200,"source":"upstream","#,
            r#""cache":"miss","upstream":"vendor","duration_us":1500,"upstream_duration_us":1200,"request_bytes":0,"#,
            r#""response_bytes":321,"user_agent":"curl/8 \"\ufffd\"","protocol":"HTTP/1.1"}"#,
            "\n"
        ),
        "the query is not there"
    );
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
}

#[test]
fn every_line_of_every_thread_arrives_once() {
    let (log, open, written) = gated(false);
    drop(open);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..100 {
                    log.record(&line(&format!("/{thread}/{number}")));
                }
            });
        }
    });
    assert!(log.shutdown(), "the sink takes it");
    assert_eq!(log.dropped(), 0, "400 lines are far below a full channel");
    let text = String::from_utf8(written.lock().clone()).expect("UTF-8");
    let mut paths: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("a whole line")["path"].to_string()
        })
        .collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 400);
}

#[test]
fn a_stuck_sink_drops_and_counts_but_never_blocks() {
    let (log, open, written) = gated(false);
    // More than the channel, the batch of this thread and the one in the writer's hand can hold.
    let long = format!("/{}", "x".repeat(2000));
    let sent = 2000_u64;
    for _ in 0..sent {
        log.record(&line(&long));
    }
    let dropped = log.dropped();
    assert!(dropped > 0, "3 MB do not fit into 1 MiB");
    drop(open);
    assert!(log.shutdown(), "the sink takes the rest");
    assert_eq!(log.dropped(), dropped, "nothing more was lost");
    assert_eq!(count_lines(&written.lock()) + dropped, sent, "every line was written or counted");
}

#[test]
fn what_the_sink_refuses_is_counted() {
    let (log, open, _) = gated(true);
    drop(open);
    log.record(&line("/"));
    log.record(&line("/"));
    assert!(log.flush(), "refusing is quick");
    assert_eq!(log.dropped(), 2);
    let metrics = Metrics::new();
    log.register(&metrics).expect("the catalogue has it");
    assert!(metrics.render().contains("portcullis_log_lines_dropped_total{sink=\"stdout\"} 2"));
}

#[test]
fn a_file_that_was_moved_is_opened_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let log = AccessLog::start(Sink::File(path.clone())).expect("a new file");
    log.record(&line("/first"));
    assert!(log.flush());
    std::fs::rename(&path, &moved).expect("moved");
    log.record(&line("/second"));
    assert!(log.flush());
    log.reopen();
    assert!(log.flush());
    log.record(&line("/third"));
    drop(log);
    let old = std::fs::read_to_string(&moved).expect("the old file");
    let new = std::fs::read_to_string(&path).expect("the new file");
    assert!(old.contains("/first") && old.contains("/second") && !old.contains("/third"), "{old}");
    assert!(new.contains("/third") && !new.contains("/second"), "{new}");
    let mode = std::fs::metadata(&path).expect("the new file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner only");
}

#[test]
fn a_file_is_appended_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    for _ in 0..2 {
        AccessLog::start(Sink::File(path.clone())).expect("a file").record(&line("/"));
    }
    assert_eq!(count_lines(&std::fs::read(&path).expect("the file")), 2, "dropping the log flushes it");
    AccessLog::start(Sink::File(folder.path().join("no/such/folder"))).expect_err("said at the start");
}

#[test]
fn after_the_end_lines_are_dropped_and_counted_and_off_does_nothing() {
    let (log, open, _) = gated(false);
    drop(open);
    assert!(log.shutdown());
    assert!(log.shutdown(), "twice does no harm");
    for _ in 0..2000 {
        log.record(&line("/"));
    }
    assert_eq!(log.dropped(), 2000, "nobody takes them any more");
    let off = AccessLog::start(Sink::Off).expect("nothing to open");
    off.record(&line("/"));
    off.reopen();
    assert!(off.shutdown());
    assert_eq!(off.dropped(), 0);
}

#[test]
fn every_member_of_a_line_is_in_the_documents() {
    let documents = include_str!("../../../docs/operations.md");
    let mut clock = Clock::default();
    let mut out = Vec::new();
    let (limit, cache_reason, error) = (Some("burst"), Some("no-store"), Some("deadline"));
    let whole = Line { limit, cache_reason, error, ..line("/") };
    encode::line(&mut out, &mut clock, &whole);
    let told: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    let members = told.as_object().expect("an object");
    assert!(members.len() >= 20, "all members: {members:?}");
    for member in members.keys() {
        assert!(documents.contains(&format!("`{member}`")), "`{member}` is not in docs/operations.md");
    }
}
