//! The descriptor that records go to, and whether anybody can read from it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`: Rust's own start puts `/dev/null` in the place of a closed stdout, and then nobody can tell.
// SAFETY: the loader calls each function of this section once, with arguments that C lets a function ignore.
#[unsafe(link_section = ".init_array")]
#[used]
static BEFORE_MAIN: extern "C" fn() = note_whether_closed;

extern "C" fn note_whether_closed() {
    // SAFETY: the number is not -1, and a closed descriptor is what the call is there to find.
    let stdout = unsafe { BorrowedFd::borrow_raw(1) };
    WAS_CLOSED.store(fcntl(stdout, FcntlArg::F_GETFD).is_err(), Ordering::Relaxed);
}

/// Whether the process was started without a stdout.
#[must_use]
pub fn was_closed() -> bool {
    WAS_CLOSED.load(Ordering::Relaxed)
}

/// The process's stdout, without the line buffer of [`io::stdout`].
///
/// # Errors
/// The descriptor cannot be duplicated.
pub fn open() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Whether nobody can read any more what is written to `output`: the pipe's reader is gone, or the terminal hung up.
/// Files, terminals and `/dev/null` stay open.
#[must_use]
pub fn is_abandoned(output: impl AsFd) -> bool {
    let mut polled = [PollFd::new(output.as_fd(), PollFlags::empty())];
    let ready = poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    ready && polled[0].revents().is_some_and(|events| events.intersects(gone))
}

#[cfg(test)]
mod tests {
    use std::io::pipe;

    use super::*;

    #[test]
    fn an_output_is_abandoned_when_its_reader_is_gone_and_not_before() {
        let (reader, pipe) = pipe().unwrap();
        assert!(!is_abandoned(&pipe));
        drop(reader);
        assert!(is_abandoned(&pipe));
        for path in ["/dev/null", "/dev/full", "/proc/self/exe"] {
            assert!(!is_abandoned(File::open(path).unwrap()), "{path}");
        }
    }
}
