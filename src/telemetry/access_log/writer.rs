//! The thread that writes batches to the sink. The only place of the access log that may wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{BATCH_BYTES, Batch, CHANNEL_BATCHES, Shared};

/// No line waits longer than this for its batch to fill.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// A batch that grew beyond this through unusually long lines is not used again.
const KEEP_BYTES: usize = 2 * BATCH_BYTES;

/// Where the writer writes.
pub(super) trait Out: Write + Send {
    /// Opens the target anew, if it is one that can be moved away.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out for io::Stdout {}
impl Out for io::Stderr {}

/// A file that is appended to.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = Self::append(&path)?;
        Ok(Self { path, file })
    }

    fn append(path: &PathBuf) -> io::Result<File> {
        // Addresses of clients stand in it: for the owner only.
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Out for LogFile {
    fn reopen(&mut self) -> io::Result<()> {
        self.file = Self::append(&self.path)?;
        Ok(())
    }
}

/// Puts a batch back for later use.
pub(super) fn give_back(spare: &Mutex<Vec<Batch>>, mut batch: Batch) {
    batch.clear();
    let is_useful = (1..=KEEP_BYTES).contains(&batch.bytes.capacity());
    let mut spare = spare.lock();
    if is_useful && spare.len() < CHANNEL_BATCHES {
        spare.push(batch);
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: Receiver<Batch>,
    out: Box<dyn Out>,
    /// The sink refused the last batch. Said once, not for every batch.
    is_failing: bool,
    /// The last write may have ended within a line.
    is_torn: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, queue: Receiver<Batch>, out: Box<dyn Out>) -> Self {
        Self { shared, queue, out, is_failing: false, is_torn: false }
    }

    pub(super) fn run(mut self) {
        let mut sweep_at = Instant::now() + SWEEP_EVERY;
        loop {
            let wait = sweep_at.saturating_duration_since(Instant::now());
            let received = self.queue.recv_timeout(wait);
            // Read before anything is taken from the shards: what was recorded before the wish is then written.
            let is_gone = matches!(received, Err(RecvTimeoutError::Disconnected));
            let is_stopping = is_gone || self.shared.stop.load(Ordering::Acquire);
            let wanted = self.shared.flushes.lock().wanted;
            if let Ok(batch) = received {
                self.write(batch);
            }
            let is_wanted = wanted > self.shared.flushes.lock().done;
            if is_stopping || is_wanted || Instant::now() >= sweep_at {
                self.sweep();
                sweep_at = Instant::now() + SWEEP_EVERY;
            }
            self.reopen_if_wanted();
            if is_stopping {
                self.queue.try_iter().for_each(|batch| self.shared.drop_lines(batch.lines));
            }
            self.finish_flush(wanted, is_stopping);
            if is_stopping {
                return;
            }
        }
    }

    /// Writes what waits in the channel and in the shards.
    fn sweep(&mut self) {
        // At most a channel's worth, so that a sweep ends also under load.
        for _ in 0..CHANNEL_BATCHES {
            let Ok(batch) = self.queue.try_recv() else { break };
            self.write(batch);
        }
        let shared = Arc::clone(&self.shared);
        for shard in shared.shards.all() {
            let mut shard = shard.lock();
            if shard.batch.lines == 0 {
                continue;
            }
            let empty = shared.spare.lock().pop().unwrap_or_default();
            let batch = std::mem::replace(&mut shard.batch, empty);
            // The lock is given back before the sink is asked: it may take its time.
            drop(shard);
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Batch) {
        // Here and not once per round: a line recorded after the wish must not go to the old file.
        self.reopen_if_wanted();
        if batch.lines > 0 {
            match self.write_bytes(&batch.bytes) {
                Ok(()) => self.is_failing = false,
                Err(error) => {
                    self.shared.drop_lines(batch.lines);
                    if !self.is_failing {
                        tracing::error!(%error, "access log cannot be written; lines are dropped and counted");
                    }
                    self.is_failing = true;
                    self.is_torn = true;
                }
            }
        }
        give_back(&self.shared.spare, batch);
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.out.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    fn reopen_if_wanted(&mut self) {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            match self.out.reopen() {
                Ok(()) => self.is_torn = false,
                Err(error) => tracing::error!(%error, "access log cannot be reopened; the old file is kept"),
            }
        }
    }

    fn finish_flush(&self, wanted: u64, is_stopping: bool) {
        let mut flushes = self.shared.flushes.lock();
        flushes.done = flushes.done.max(wanted);
        flushes.ended |= is_stopping;
        self.shared.flushed.notify_all();
    }
}
