//! The descriptor that records go to, and whether anybody can read from it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What failed where it does not take what it is given, and what to do.
pub const UNWRITTEN: &str = "write to stdout: make room where it goes, or send it elsewhere";

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
pub fn open() -> io::Result<Stdout> {
    io::stdout().as_fd().try_clone_to_owned().map(|stdout| Stdout(stdout.into()))
}

/// The process's stdout. That nobody is left to read it is told as of a pipe, whatever it is.
#[derive(Debug)]
pub struct Stdout(File);

impl Stdout {
    /// Whether it is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }

    /// How wide lines may be: as `COLUMNS` says, which `watch` sets, or else as the terminal is. Any width where it is none.
    #[must_use]
    pub fn columns(&self) -> Option<usize> {
        let told = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok());
        let measured = || terminal_size::terminal_size_of(&self.0).map(|(width, _)| usize::from(width.0));
        told.or_else(measured).filter(|columns| *columns > 0)
    }
}

impl AsFd for Stdout {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Write for Stdout {
    /// Waits for room where stdout is in non-blocking mode, as some parents leave it: nobody asked for less than all.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    // Whatever came of it, the next attempt tells.
                    let _ = poll(&mut polled, PollTimeout::NONE);
                }
                // What a terminal says that hung up; a disk says it as well.
                Err(error) if error.raw_os_error() == Some(libc::EIO) && is_abandoned(&self.0) => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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
    use std::io::{Read as _, pipe};
    use std::os::fd::{FromRawFd as _, OwnedFd};

    use nix::fcntl::OFlag;

    use super::*;

    #[test]
    fn a_terminal_that_hung_up_is_a_reader_that_is_gone() {
        let (mut screen, mut terminal) = (-1, -1);
        let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
        // SAFETY: both numbers are there to be written to, and the kernel chooses what is not given.
        let opened = unsafe { libc::openpty(&raw mut screen, &raw mut terminal, name, settings, size) };
        assert_eq!(opened, 0);
        // SAFETY: both were opened here, and nobody else has them.
        let [screen, terminal] = [screen, terminal].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let mut stdout = Stdout(terminal.into());
        assert!(stdout.is_terminal() && !is_abandoned(&stdout.0));
        stdout.write_all(b"seen").unwrap();
        drop(screen);
        assert!(is_abandoned(&stdout.0));
        assert_eq!(stdout.write(b"unseen").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn in_non_blocking_mode_all_of_it_gets_written() {
        let (mut reader, pipe) = pipe().unwrap();
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        // More than the pipe holds, so that there is a time without room.
        let all = vec![b'z'; 4 << 20];
        let writer = std::thread::spawn({
            let all = all.clone();
            move || Stdout(OwnedFd::from(pipe).into()).write_all(&all)
        });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(writer.join().unwrap().is_ok() && read == all, "{} bytes came", read.len());
    }

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
