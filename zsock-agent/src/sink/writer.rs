//! The output thread: whoever makes records is never held up by whoever reads them.
//!
//! Records wait in a queue bounded by bytes. One that finds it full is dropped and counted, so a reader that is too slow
//! costs records, never memory and never the trace.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;

use crate::privileges::landlock;
use crate::time::Time;

/// This part of the queue is kept for verdicts: they matter more than the events around them.
const VERDICTS_SHARE: usize = 4;

/// How long the end waits for a reader that takes nothing.
pub const END_PATIENCE: Duration = Duration::from_secs(2);

/// A reader that takes a little in each [`END_PATIENCE`] is waited for this many times, not for ever.
const END_ROUNDS: u32 = 5;

/// The most given to one `write`: as much as a pipe holds, so that what a reader took is known piece by piece.
const PIECE_BYTES: usize = 64 << 10;

/// How long a record waits for others to be written with it; a busy trace then makes few, large writes, and a reader
/// still sees a record within 100 ms.
const GATHER: Duration = Duration::from_millis(20);

/// Until the next try where stdout is in non-blocking mode, as some parents leave it, and full.
const RETRY: Duration = Duration::from_millis(10);

/// Records that found the queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// When the first of them was pushed.
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
    waiting: Vec<u8>,
    /// What is left to write of each record, oldest first, those that the thread is writing included.
    unwritten: VecDeque<usize>,
    unwritten_bytes: usize,
    dropped: Option<Dropped>,
    dropped_since_start: u64,
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
        let shared = Arc::new(Shared::default());
        let threads_own = Arc::clone(&shared);
        thread::Builder::new().name("zsock-output".to_owned()).spawn(move || {
            match landlock::confine_writer(&[]) {
                Ok(told) => log::info!("the output thread is {told}"),
                Err(error) => log::info!("the output thread is not confined: {error:#}"),
            }
            let outcome = write_all(output, &threads_own);
            threads_own.lock().outcome = Some(outcome);
            threads_own.ended.notify_all();
            threads_own.stopped.notify_one();
        })?;
        Ok(Self { shared, capacity_bytes })
    }

    /// Queues a record, or counts it as dropped at `at` where the queue is full. Never blocks.
    pub fn push(&self, record: &[u8], at: Time) {
        self.push_within(self.capacity_bytes - self.capacity_bytes / VERDICTS_SHARE, record, at);
    }

    /// The same for a verdict, for which there is room where events find none any more.
    pub fn push_verdict(&self, record: &[u8], at: Time) {
        self.push_within(self.capacity_bytes, record, at);
    }

    fn push_within(&self, capacity_bytes: usize, record: &[u8], at: Time) {
        let mut queue = self.shared.lock();
        if queue.outcome.is_some() {
            return;
        }
        if queue.unwritten_bytes + record.len() > capacity_bytes {
            queue.dropped.get_or_insert(Dropped { count: 0, since: at }).count += 1;
            queue.dropped_since_start += 1;
        } else {
            self.queue(queue, record);
        }
    }

    /// Queues a record even where the queue is full: for the few that close a trace and tell what was dropped.
    pub fn push_past_limit(&self, record: &[u8]) {
        let queue = self.shared.lock();
        if queue.outcome.is_none() {
            self.queue(queue, record);
        }
    }

    /// Whether at least half of the queue is free: the time to tell of drops.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shared.lock().unwritten_bytes <= self.capacity_bytes / 2
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

    fn queue(&self, mut queue: MutexGuard<'_, Queue>, record: &[u8]) {
        let before = queue.waiting.len();
        queue.waiting.extend_from_slice(record);
        queue.unwritten.push_back(record.len());
        queue.unwritten_bytes += record.len();
        // The thread sleeps for the first record of a piece, and then until the piece is full.
        if before == 0 || (before < PIECE_BYTES && queue.waiting.len() >= PIECE_BYTES) {
            self.shared.work.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock panics half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next, after waiting for it; `None` at the end.
    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = self.lock();
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.ending;
        queue = self.work.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |queue: &mut Queue| queue.waiting.len() < PIECE_BYTES && !queue.ending;
        let gathered = self.work.wait_timeout_while(queue, GATHER, gathering);
        queue = gathered.unwrap_or_else(PoisonError::into_inner).0;
        (!queue.waiting.is_empty()).then(|| std::mem::take(&mut queue.waiting))
    }

    /// Takes note that the reader took `bytes`.
    fn written(&self, mut bytes: usize) {
        let mut queue = self.lock();
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
}

/// The thread: writes what comes until the end, and ends well where the reader is gone.
fn write_all(mut output: impl Write, shared: &Shared) -> io::Result<()> {
    while let Some(records) = shared.next() {
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            match output.write(&rest[..rest.len().min(PIECE_BYTES)]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    rest = &rest[bytes..];
                    shared.written(bytes);
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
mod tests {
    use std::fs::OpenOptions;
    use std::io::{PipeWriter, Read as _, pipe};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    /// 64 bytes, so that records fill a pipe without a rest.
    fn record(number: u32) -> Vec<u8> {
        format!("{number:>63}\n").into_bytes()
    }

    fn records(numbers: impl IntoIterator<Item = u32>) -> String {
        String::from_utf8(numbers.into_iter().flat_map(record).collect()).unwrap()
    }

    fn at(second: u32) -> Time {
        Time::from_unix_ns(u64::from(second) * 1_000_000_000)
    }

    /// Makes the pipe hold 64 KiB, whatever the system's default is: 1,024 records.
    fn hold_64_kib(pipe: &PipeWriter) {
        assert_eq!(fcntl(pipe, FcntlArg::F_SETPIPE_SZ(64 << 10)).unwrap(), 64 << 10);
    }

    fn wait_until(condition: impl Fn() -> bool) {
        while !condition() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_record_reaches_the_reader_without_others_behind_it() {
        let (mut reader, pipe) = pipe().unwrap();
        let writer = Writer::start(pipe, 1 << 20).unwrap();
        writer.push(&record(1), at(1));
        let mut seen = [0; 64];
        reader.read_exact(&mut seen).unwrap();
        assert_eq!(seen.as_slice(), record(1));
        assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
    }

    #[test]
    fn a_slow_reader_gets_every_record_whole_and_in_order() {
        let (mut reader, pipe) = pipe().unwrap();
        let writer = Writer::start(pipe, 1 << 20).unwrap();
        let slow = thread::spawn(move || {
            let (mut all, mut bite) = (Vec::new(), [0; 100]);
            while let Ok(bytes @ 1..) = reader.read(&mut bite) {
                all.extend_from_slice(&bite[..bytes]);
                thread::yield_now();
            }
            String::from_utf8(all).unwrap()
        });
        for number in 0..10_000 {
            writer.push(&record(number), at(number));
        }
        assert_eq!(writer.take_dropped(), None);
        assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
        assert_eq!(slow.join().unwrap(), records(0..10_000));
    }

    #[test]
    fn records_that_find_the_queue_full_are_dropped_and_counted_events_before_verdicts() {
        let (mut reader, pipe) = pipe().unwrap();
        hold_64_kib(&pipe);
        let writer = Writer::start(pipe, 128 << 10).unwrap();
        // 1,024 records fill the pipe and 1,536 the part of the queue that is not kept for verdicts.
        for number in 0..1_024 {
            writer.push(&record(number), at(number));
        }
        wait_until(|| writer.shared.lock().unwritten_bytes == 0);
        for number in 1_024..5_000 {
            writer.push(&record(number), at(number));
        }
        assert!(!writer.has_room());
        assert_eq!(writer.take_dropped(), Some(Dropped { count: 5_000 - 2_560, since: at(2_560) }));
        for number in 5_000..6_000 {
            writer.push_verdict(&record(number), at(number));
        }
        assert_eq!(writer.take_dropped(), Some(Dropped { count: 1_000 - 512, since: at(5_512) }));
        assert_eq!(writer.take_dropped(), None);

        // The reader wakes up: there is room, and the trace goes on.
        let mut seen = vec![0; 3_072 * 64];
        reader.read_exact(&mut seen).unwrap();
        assert_eq!(String::from_utf8(seen).unwrap(), records((0..2_560).chain(5_000..5_512)));
        wait_until(|| writer.has_room());
        writer.push(&record(6_000), at(6_000));
        assert_eq!(writer.take_dropped(), None);
        assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, records([6_000]));
    }

    #[test]
    fn the_last_words_are_queued_even_where_the_queue_is_full() {
        let (mut reader, pipe) = pipe().unwrap();
        let writer = Writer::start(pipe, 64).unwrap();
        writer.push_past_limit(&record(1));
        writer.push_past_limit(&record(2));
        assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, records([1, 2]));
    }

    #[test]
    fn the_end_gives_up_on_a_reader_that_takes_nothing_and_says_how_much_it_missed() {
        let (reader, pipe) = pipe().unwrap();
        hold_64_kib(&pipe);
        let writer = Writer::start(pipe, 1 << 20).unwrap();
        for number in 0..1_024 {
            writer.push(&record(number), at(number));
        }
        wait_until(|| writer.shared.lock().unwritten_bytes == 0);
        for number in 0..300 {
            writer.push(&record(number), at(number));
        }
        assert_eq!(writer.finish(Duration::from_millis(50)).unwrap(), 300);
        drop(reader);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_ends_the_writing_quietly() {
        let (reader, pipe) = pipe().unwrap();
        let writer = Writer::start(pipe, 1 << 20).unwrap();
        assert!(!writer.is_stopped());
        drop(reader);
        writer.push(&record(1), at(1));
        writer.stopped().await;
        assert!(writer.is_stopped());
        writer.push(&record(2), at(2));
        assert_eq!(writer.take_dropped(), None);
        assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let writer = Writer::start(full, 1 << 20).unwrap();
        writer.push(&record(1), at(1));
        writer.stopped().await;
        assert_eq!(writer.finish(END_PATIENCE).unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_pipe_in_non_blocking_mode_loses_nothing() {
        let (mut reader, pipe) = pipe().unwrap();
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let writer = Writer::start(pipe, 1 << 20).unwrap();
        for number in 0..5_000 {
            writer.push(&record(number), at(number));
        }
        let all = thread::spawn(move || io::read_to_string(&mut reader).unwrap());
        assert_eq!(writer.finish(END_PATIENCE).unwrap(), 0);
        assert_eq!(all.join().unwrap(), records(0..5_000));
    }
}
