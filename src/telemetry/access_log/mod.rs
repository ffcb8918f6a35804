//! The access log: one JSON line per request.
//!
//! ```text
//! worker:  record(line) -> own shard's batch (16 KiB) --full--> channel (64 batches, 1 MiB) -> writer thread -> sink
//!                                    ^---------------- every 250 ms, what there is -----------------'
//! ```
//!
//! A worker never waits for the sink: when the channel is full, the batch is dropped and its lines are counted. A worker's
//! lock is its shard's own, shared with nobody but the writer's sweep. In steady state nothing is allocated: batches go round.
//! Lines of one worker are in order, except that a sweep may overtake a batch that was filled in the same moment; each line
//! carries its time.
//!
//! What is never logged: headers other than `User-Agent`, the query, bodies, the upstream's host.

mod encode;
mod writer;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::metrics::catalogue::Metric;
use super::metrics::cells::Sharded;
use super::metrics::{Metrics, RegisterError};
use encode::Clock;
use writer::{Out, Writer};

/// A batch is handed over when it has as many bytes.
const BATCH_BYTES: usize = 16 * 1024;
/// Batches that may wait for the sink: 1 MiB of lines. As many again may lie empty, ready to be used.
const CHANNEL_BATCHES: usize = 64;
/// How long [`AccessLog::flush`] and [`AccessLog::shutdown`] wait for a sink that does not take anything.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Standard error, beside the events.
    Stderr,
    /// Appended to a file that only its owner may read; see [`AccessLog::reopen`].
    File(PathBuf),
    /// Nowhere.
    Off,
}

impl Sink {
    /// The `sink` label of the metric.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::File(_) => "file",
            Self::Off => "off",
        }
    }
}

/// One request, as it is written. Members without a value are left out.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// When the request began.
    pub time: SystemTime,
    /// The request id that the client and the upstream saw.
    pub request_id: &'a str,
    /// The listener's name.
    pub listener: &'a str,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// The method as the client sent it.
    pub method: &'a str,
    /// The host that was asked for.
    pub host: &'a str,
    /// The route's name, empty when there was none.
    pub route: &'a str,
    /// The path; what stands behind `?` or `#` is left out.
    pub path: &'a str,
    /// The status the client got.
    pub status: u16,
    /// Who made the answer.
    pub source: &'a str,
    /// What the cache said.
    pub cache: Option<&'a str>,
    /// Why the answer was not stored, or why a stale one was given.
    pub cache_reason: Option<&'a str>,
    /// The limit that refused.
    pub limit: Option<&'a str>,
    /// The upstream's name in the YAML.
    pub upstream: Option<&'a str>,
    /// From the first byte of the request to the last of the answer.
    pub duration: Duration,
    /// From sending the request to the upstream to the last byte of its answer.
    pub upstream_duration: Option<Duration>,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// The client's `User-Agent`, whatever bytes it has.
    pub user_agent: Option<&'a [u8]>,
    /// The protocol: `HTTP/1.1`, `HTTP/2`.
    pub protocol: &'a str,
    /// What went wrong: a text of ours, never of the upstream.
    pub error: Option<&'static str>,
}

/// Lines that wait to be written, and how many there are.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

#[derive(Debug, Default)]
struct Shard {
    batch: Batch,
    clock: Clock,
}

/// What workers and the writer share.
#[derive(Debug, Default)]
struct Shared {
    shards: Sharded<Mutex<Shard>>,
    /// Empty batches to be used again.
    spare: Mutex<Vec<Batch>>,
    dropped: AtomicU64,
    reopen: AtomicBool,
    stop: AtomicBool,
    flushes: Mutex<Flushes>,
    flushed: Condvar,
}

/// A flush is done when `done` has reached the number that it got from `wanted`.
#[derive(Debug, Default)]
struct Flushes {
    wanted: u64,
    done: u64,
    ended: bool,
}

impl Shared {
    fn drop_lines(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    batches: SyncSender<Batch>,
}

/// The access log. One per process, shared by all workers.
#[derive(Debug)]
pub struct AccessLog {
    sink: Sink,
    running: Option<Running>,
}

impl AccessLog {
    /// Opens the sink and starts the writer thread.
    ///
    /// # Errors
    /// The file cannot be opened, or there are no threads left.
    pub fn start(sink: Sink) -> io::Result<Self> {
        let out: Box<dyn Out> = match &sink {
            Sink::Off => return Ok(Self { sink, running: None }),
            Sink::Stdout => Box::new(io::stdout()),
            Sink::Stderr => Box::new(io::stderr()),
            Sink::File(path) => Box::new(writer::LogFile::open(path.clone())?),
        };
        Self::start_with(sink, out)
    }

    fn start_with(sink: Sink, out: Box<dyn Out>) -> io::Result<Self> {
        let (batches, queue) = sync_channel(CHANNEL_BATCHES);
        let shared = Arc::<Shared>::default();
        let writer = Writer::new(Arc::clone(&shared), queue, out);
        std::thread::Builder::new().name(String::from("access-log")).spawn(move || writer.run())?;
        Ok(Self { sink, running: Some(Running { shared, batches }) })
    }

    /// Writes one line, or drops and counts it. Never waits for the sink.
    pub fn record(&self, line: &Line<'_>) {
        let Some(Running { shared, batches }) = &self.running else { return };
        if shared.stop.load(Ordering::Relaxed) {
            shared.drop_lines(1);
            return;
        }
        let mut shard = shared.shards.local().lock();
        let Shard { batch, clock } = &mut *shard;
        encode::line(&mut batch.bytes, clock, line);
        batch.lines += 1;
        if batch.bytes.len() < BATCH_BYTES {
            return;
        }
        let empty = shared.spare.lock().pop().unwrap_or_default();
        let full = std::mem::replace(batch, empty);
        if let Err(TrySendError::Full(mut back) | TrySendError::Disconnected(mut back)) =
            batches.try_send(full)
        {
            shared.drop_lines(back.lines);
            back.clear();
            let empty = std::mem::replace(batch, back);
            writer::give_back(&shared.spare, empty);
        }
    }

    /// How many lines were dropped since the start, because the sink was too slow or refused them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.running.as_ref().map_or(0, |running| running.shared.dropped.load(Ordering::Relaxed))
    }

    /// Lets the metrics read [`AccessLog::dropped`]. Does nothing when the log is off.
    ///
    /// # Errors
    /// None as long as the catalogue has the metric as it is here.
    pub fn register(&self, metrics: &Metrics) -> Result<(), RegisterError> {
        let Some(running) = &self.running else { return Ok(()) };
        let shared = Arc::clone(&running.shared);
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 lines")]
        let read = Box::new(move || shared.dropped.load(Ordering::Relaxed) as f64);
        metrics.register_counter_fn(Metric::LogLinesDroppedTotal, &[self.sink.as_str()], read)
    }

    /// Opens the file anew, after it was moved away: what is recorded after this call goes to the new file, and what still
    /// waits may go there too. When that fails the old one is kept, and an event says so. Nothing to do for the other sinks.
    pub fn reopen(&self) {
        if let Some(running) = &self.running {
            running.shared.reopen.store(true, Ordering::Release);
            self.wake();
        }
    }

    /// Waits until everything recorded before is with the sink; `false` when it took more than 5 seconds.
    pub fn flush(&self) -> bool {
        let Some(Running { shared, .. }) = &self.running else { return true };
        let mut flushes = shared.flushes.lock();
        flushes.wanted += 1;
        let ticket = flushes.wanted;
        self.wake();
        let waited = shared.flushed.wait_while_for(
            &mut flushes,
            |flushes| flushes.done < ticket && !flushes.ended,
            FLUSH_DEADLINE,
        );
        !waited.timed_out()
    }

    /// Writes what there is and ends the writer thread; `false` when the sink did not take it within 5 seconds. Lines
    /// recorded afterwards are dropped and counted. To be called once no request is in flight.
    pub fn shutdown(&self) -> bool {
        if let Some(running) = &self.running {
            running.shared.stop.store(true, Ordering::Release);
        }
        self.flush()
    }

    /// An empty batch wakes the writer; when the channel is full, it is awake.
    fn wake(&self) {
        if let Some(running) = &self.running {
            let _ = running.batches.try_send(Batch::default());
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.lines = 0;
    }
}

#[cfg(test)]
mod tests;
