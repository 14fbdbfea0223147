//! How the memory that `--max-memory` allows is divided. What it counts is what a control group is charged for: the agent's own pages, and
//! the kernel's maps, ring buffer and memory of sockets.
//!
//! Reads nothing and allocates nothing.

/// The agent and the maps of fixed size once the trace runs: 19 MB of its own, 5 MB of its file, 21 MB of maps and programs, and what is
/// not worth a row of its own (processes, control groups, destinations). Measured without sockets: the charge of the control group
/// (`memory.current`) without the ring buffer, and 8 MiB for the rest.
const RUNNING_BYTES: u64 = 48 << 20;

/// The same while it starts, when the kernel's types are in memory and the verifier works (`memory.peak` without the ring buffer): 73 MB, and some room.
const STARTING_BYTES: u64 = 80 << 20;

/// The least that sockets need: of less nobody has anything.
const LEAST_FOR_SOCKETS_BYTES: u64 = 8 << 20;

/// The ring buffer's size unless told otherwise, where there is room for it.
const BUFFER_BYTES: u32 = 8 << 20;

/// The least that `--buffer-size` takes.
pub const LEAST_BUFFER_BYTES: u32 = 64 << 10;

/// Unless told otherwise the ring buffer takes no more than this part.
const BUFFER_SHARE: u64 = 32;

/// The most that is read from the ring buffer at once.
pub const READ_BYTES: u32 = 8 << 20;

/// Records on their way through the agent, in readings of the ring buffer: those that wait for their turn, the batch that is being told, and
/// what the allocator keeps for itself.
const READINGS_UNDER_WAY: u64 = 4;

/// Text that waits for the reader, unless there is less room.
const QUEUE_BYTES: u64 = 8 << 20;

/// The queue takes no more than this part.
const QUEUE_SHARE: u64 = 16;

/// The kernel's storage of one socket, with the allocator's rounding: 200,000 sockets took 144 MB.
const STORAGE_BYTES: u64 = 768;

/// What the assembler keeps of one socket in trouble, its name, its past and its places in the tables included.
const TRACKED_BYTES: u64 = 960;

/// Of five parts of what is left for sockets, one is the kernel's, one the assembler's, three the engine's.
const PARTS: u64 = 5;

/// Who may take how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The ring buffer.
    pub buffer_bytes: u32,
    /// Text that waits for the reader of stdout.
    pub queue_bytes: usize,
    /// What the engine knows of sockets.
    pub engine_bytes: usize,
    /// Sockets that the assembler remembers.
    pub tracked_sockets: usize,
    /// Sockets that the kernel side gives storage.
    pub stored_sockets: u32,
}

impl Budget {
    /// Divides `max_bytes`, with a ring buffer of `buffer_bytes` where it was asked for.
    ///
    /// # Errors
    /// Less than it takes to start, with a sentence that says how much that is.
    pub fn divide(max_bytes: u64, buffer_bytes: Option<u32>) -> Result<Self, String> {
        let buffer_bytes = buffer_bytes.unwrap_or_else(|| default_buffer(max_bytes));
        let queue_bytes = QUEUE_BYTES.min(max_bytes / QUEUE_SHARE);
        let buffer = u64::from(buffer_bytes);
        let taken = RUNNING_BYTES + with_readings(buffer) + queue_bytes;
        let least = least(buffer);
        if max_bytes < least {
            return Err(format!(
                "with a ring buffer of {} zsock needs at least --max-memory {}MiB",
                size(buffer),
                least.div_ceil(1 << 20)
            ));
        }
        let part = max_bytes.saturating_sub(taken) / PARTS;
        Ok(Self {
            buffer_bytes,
            queue_bytes: to_usize(queue_bytes),
            engine_bytes: to_usize(part * (PARTS - 2)),
            tracked_sockets: to_usize(part / TRACKED_BYTES),
            stored_sockets: u32::try_from(part / STORAGE_BYTES).unwrap_or(u32::MAX),
        })
    }
}

/// The least `--max-memory` with a ring buffer of this size.
fn least(buffer: u64) -> u64 {
    let running = RUNNING_BYTES + with_readings(buffer) + LEAST_FOR_SOCKETS_BYTES;
    let with_queue = running * QUEUE_SHARE / (QUEUE_SHARE - 1);
    (STARTING_BYTES + buffer).max(with_queue.min(running + QUEUE_BYTES))
}

/// The ring buffer and what was read from it.
fn with_readings(buffer: u64) -> u64 {
    buffer + READINGS_UNDER_WAY * buffer.min(READ_BYTES.into())
}

/// The largest power of two within its share that leaves enough for the rest.
fn default_buffer(max_bytes: u64) -> u32 {
    let share = u32::try_from(max_bytes / BUFFER_SHARE).unwrap_or(u32::MAX);
    let mut buffer = 1 << share.clamp(LEAST_BUFFER_BYTES, BUFFER_BYTES).ilog2();
    while buffer > LEAST_BUFFER_BYTES && least(u64::from(buffer)) > max_bytes {
        buffer /= 2;
    }
    buffer
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A size as it is written on the command line.
fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{}MiB", bytes >> 20) } else { format!("{}KiB", bytes >> 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_parts_together_stay_within_the_whole() {
        for (mib, buffer) in
            [(82, None), (96, None), (128, None), (128, Some(8 << 20)), (1024, None), (8192, Some(1 << 30))]
        {
            let budget = Budget::divide(mib * MIB, buffer).unwrap();
            let sockets = budget.engine_bytes as u64
                + budget.tracked_sockets as u64 * TRACKED_BYTES
                + u64::from(budget.stored_sockets) * STORAGE_BYTES;
            let fixed = RUNNING_BYTES + with_readings(budget.buffer_bytes.into()) + budget.queue_bytes as u64;
            assert!(fixed + sockets <= mib * MIB, "{mib} MiB: {budget:?}");
            assert!(sockets >= LEAST_FOR_SOCKETS_BYTES - MIB, "{mib} MiB: {budget:?}");
        }
    }

    #[test]
    fn by_default_two_hundred_thousand_sockets_have_room_and_the_buffer_its_full_size() {
        let budget = Budget::divide(1 << 30, None).unwrap();
        assert_eq!(budget.buffer_bytes, 8 << 20);
        assert!(budget.tracked_sockets >= 200_000 && budget.stored_sockets >= 200_000, "{budget:?}");
    }

    #[test]
    fn a_small_budget_has_a_small_buffer_unless_one_is_asked_for() {
        assert_eq!(Budget::divide(96 * MIB, None).unwrap().buffer_bytes, 2 << 20);
        assert_eq!(Budget::divide(128 * MIB, None).unwrap().buffer_bytes, 4 << 20);
        assert_eq!(Budget::divide(128 * MIB, Some(1 << 20)).unwrap().buffer_bytes, 1 << 20);
    }

    #[test]
    fn what_is_too_little_to_start_is_refused_with_what_is_enough() {
        for buffer in [None, Some(64 << 10), Some(8 << 20), Some(1 << 30)] {
            let refusal = Budget::divide(MIB, buffer).unwrap_err();
            let enough = refusal.rsplit(' ').next().and_then(|last| last.strip_suffix("MiB")).unwrap();
            let enough: u64 = enough.parse().unwrap();
            assert!(Budget::divide(enough * MIB, buffer).is_ok(), "{refusal}");
            let size = buffer.or_else(|| Some(default_buffer(MIB)));
            assert!(Budget::divide((enough - 1) * MIB, size).is_err(), "{refusal}");
        }
    }
}
