//! The output thread: whoever makes records is never held up by whoever reads or stores them.
//!
//! Records wait in a queue bounded by bytes. One that finds it full is dropped and counted, so a reader or a disk that is too slow
//! costs records, never memory and never the trace.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;

use super::batch::{Batch, Rendered};
use crate::privileges::landlock;
use crate::time::Time;

mod waiting;

use waiting::Waiting;

/// This part of the queue is kept for verdicts: they matter more than the events around them.
const VERDICTS_SHARE: usize = 4;

/// How long the end waits for a reader that takes nothing.
pub const END_PATIENCE: Duration = Duration::from_secs(2);

/// A reader that takes a little in each [`END_PATIENCE`] is waited for this many times, not for ever.
const END_ROUNDS: u32 = 5;

/// The most given to one `write`: as much as a pipe holds, so that what a reader took is known piece by piece.
const PIECE_BYTES: usize = 64 << 10;

/// A batch that has become that large should be pushed. Each one wakes the thread, which costs as much as to write many records.
pub const BATCH_BYTES: usize = 256 << 10;

/// How long a record waits for others to be written with it; a busy trace then makes few, large writes, and a reader
/// still sees a record within 100 ms.
const GATHER: Duration = Duration::from_millis(20);

/// Until the next try where stdout is in non-blocking mode, as some parents leave it, and full.
const RETRY: Duration = Duration::from_millis(10);

/// Records that found the queue full, or could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// When the first of them was.
    pub since: Time,
}

/// The sending side of the output thread.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    capacity_bytes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The thread waits for no more than so much to work on at once.
    piece_bytes: usize,
    /// There is something to write, or the end has come.
    work: Condvar,
    /// The thread has ended.
    ended: Condvar,
    /// The thread has ended before it was told to.
    stopped: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Records that the thread has not taken yet, one after the other.
    waiting: Waiting,
    /// What is left to write of each record, oldest first, those that the thread is writing included.
    unwritten: VecDeque<usize>,
    unwritten_bytes: usize,
    dropped: Option<Dropped>,
    dropped_since_start: u64,
    /// What the thread does with records fails, and they are dropped.
    failing: bool,
    ending: bool,
    /// How the thread ended; `None` while it runs.
    outcome: Option<io::Result<()>>,
}

impl Writer {
    /// Starts the thread that writes to `output` and lets at most `capacity_bytes` wait.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(output: impl Write + Send + 'static, capacity_bytes: usize) -> io::Result<Self> {
        Self::spawn("zsock-output", capacity_bytes, PIECE_BYTES, move |intake| {
            match landlock::confine_writer(&[]) {
                Ok(told) => log::info!("the output thread is {told}"),
                Err(error) => log::info!("the output thread is not confined: {error:#}"),
            }
            write_all(output, intake)
        })
    }

    /// Starts a thread of this name that does `work` with what is queued, some `piece_bytes` at once, until there is nothing more.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(
        name: &str,
        capacity_bytes: usize,
        piece_bytes: usize,
        work: impl FnOnce(&Intake) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { piece_bytes, ..Shared::default() });
        let intake = Intake(Arc::clone(&shared));
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let outcome = work(&intake);
            intake.0.lock().outcome = Some(outcome);
            intake.0.ended.notify_all();
            intake.0.stopped.notify_one();
        })?;
        Ok(Self { shared, capacity_bytes })
    }

    /// Queues the records of a batch and empties it. Those for which the queue has no room are counted as dropped at their time; for
    /// verdicts there is room where events find none any more. Never blocks. Returns whether all of them found room.
    pub fn push(&self, batch: &mut Batch) -> bool {
        let for_events = self.capacity_bytes - self.capacity_bytes / VERDICTS_SHARE;
        let mut all_fit = true;
        self.change(|queue| {
            if queue.unwritten_bytes + batch.as_bytes().len() <= for_events {
                return queue.take(batch);
            }
            for (record, bytes) in batch.iter() {
                let capacity_bytes = if record.is_verdict { self.capacity_bytes } else { for_events };
                if queue.unwritten_bytes + bytes.len() > capacity_bytes {
                    all_fit = false;
                    queue.drop_records(1, record.at);
                } else {
                    queue.add(record, bytes);
                }
            }
        });
        batch.clear();
        all_fit
    }

    /// Counts a record of this time as dropped that nobody made, for it would have found no room.
    pub fn pass_over(&self, at: Time) {
        self.shared.lock().drop_records(1, at);
    }

    /// Queues records even where the queue is full: for the few that close a trace and tell what was dropped.
    pub fn push_past_limit(&self, batch: &mut Batch) {
        self.change(|queue| queue.take(batch));
        batch.clear();
    }

    /// Whether at least half of the queue is free.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shared.lock().unwritten_bytes <= self.capacity_bytes / 2
    }

    /// Whether a verdict may find room.
    #[must_use]
    pub fn has_room_for_verdicts(&self) -> bool {
        self.shared.lock().unwritten_bytes < self.capacity_bytes
    }

    /// Whether what the thread does with records failed the last time. It tries again with the next.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.lock().failing
    }

    /// What was dropped since this was last called.
    #[must_use]
    pub fn take_dropped(&self) -> Option<Dropped> {
        self.shared.lock().dropped.take()
    }

    /// How many records were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped_since_start
    }

    /// Whether writing has ended early: the reader is gone, or an error that [`Writer::finish`] returns.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.lock().outcome.is_some()
    }

    /// Waits until [`Writer::is_stopped`]; for one task at a time.
    pub async fn stopped(&self) {
        while !self.is_stopped() {
            self.shared.stopped.notified().await;
        }
    }

    /// Has everything that waits written, and gives up where the reader takes nothing for `patience`.
    /// Returns how many records the reader did not take; none are counted where it has gone on purpose.
    ///
    /// # Errors
    /// Writing failed for another reason than a reader that is gone.
    pub fn finish(self, patience: Duration) -> io::Result<u64> {
        let mut queue = self.shared.lock();
        queue.ending = true;
        self.shared.work.notify_one();
        for _ in 0..END_ROUNDS {
            let left_bytes = queue.unwritten_bytes;
            let running = |queue: &mut Queue| queue.outcome.is_none();
            let waited = self.shared.ended.wait_timeout_while(queue, patience, running);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            if let Some(outcome) = queue.outcome.take() {
                return outcome.map(|()| 0);
            }
            if queue.unwritten_bytes == left_bytes {
                break;
            }
        }
        Ok(queue.unwritten.len() as u64)
    }

    /// Changes the queue while the thread runs, and wakes that where there is more to do for it.
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.shared.lock();
        if queue.outcome.is_some() {
            return;
        }
        let before = queue.waiting.bytes();
        change(&mut queue);
        let after = queue.waiting.bytes();
        // The thread sleeps for the first record of a piece, and then until the piece is full.
        let piece_bytes = self.shared.piece_bytes;
        if (before == 0 && after > 0) || (before < piece_bytes && after >= piece_bytes) {
            self.shared.work.notify_one();
        }
    }
}

impl Queue {
    /// Takes in all of a batch.
    fn take(&mut self, batch: &mut Batch) {
        self.unwritten.extend(batch.records.iter().map(|record| record.length));
        self.unwritten_bytes += batch.bytes.len();
        self.waiting.take(&mut batch.bytes);
    }

    fn add(&mut self, record: Rendered, bytes: &[u8]) {
        self.unwritten.push_back(record.length);
        self.unwritten_bytes += bytes.len();
        self.waiting.add(bytes);
    }

    fn drop_records(&mut self, count: u64, at: Time) {
        self.dropped.get_or_insert(Dropped { count: 0, since: at }).count += count;
        self.dropped_since_start += count;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock panics half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiving side of the queue, for the thread.
#[derive(Debug)]
pub struct Intake(Arc<Shared>);

impl Intake {
    /// Puts what is to be written next in the place of `records`, whole records, after waiting for the first of them, and then for `gather`
    /// or until there is a piece of them. Says whether there is any: there is none at the end.
    #[must_use]
    pub fn next(&self, gather: Duration, records: &mut Vec<u8>) -> bool {
        let mut queue = self.0.lock();
        let idle = |queue: &mut Queue| queue.waiting.bytes() == 0 && !queue.ending;
        queue = self.0.work.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |queue: &mut Queue| queue.waiting.bytes() < self.0.piece_bytes && !queue.ending;
        let gathered = self.0.work.wait_timeout_while(queue, gather, gathering);
        queue = gathered.unwrap_or_else(PoisonError::into_inner).0;
        queue.waiting.give(self.0.piece_bytes, records);
        !records.is_empty()
    }

    /// Takes note that `bytes` are out of the queue.
    pub fn written(&self, mut bytes: usize) {
        let mut queue = self.0.lock();
        queue.unwritten_bytes -= bytes;
        while let Some(left) = queue.unwritten.front_mut() {
            if *left > bytes {
                *left -= bytes;
                break;
            }
            bytes -= *left;
            queue.unwritten.pop_front();
        }
    }

    /// Counts records as dropped that could not be stored from `since` on. Drops are told when [`Intake::works`] again.
    pub fn fails(&self, count: u64, since: Time) {
        let mut queue = self.0.lock();
        queue.failing = true;
        queue.drop_records(count, since);
    }

    /// Takes note that records are stored again.
    pub fn works(&self) {
        self.0.lock().failing = false;
    }
}

/// The thread: writes what comes until the end, and ends well where the reader is gone.
fn write_all(mut output: impl Write, intake: &Intake) -> io::Result<()> {
    let mut records = Vec::new();
    while intake.next(GATHER, &mut records) {
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            match output.write(&rest[..rest.len().min(PIECE_BYTES)]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    rest = &rest[bytes..];
                    intake.written(bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
