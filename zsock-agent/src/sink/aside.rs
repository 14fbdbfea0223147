//! What zsock says of itself, to whoever listens: it never waits for a reader of stderr who does not read.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A pipe that takes anything at all takes so many bytes without a wait (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;

/// How long a reader that has kept up so far is waited for.
const PATIENCE_MS: u16 = 100;

/// Writes line by line what can be written at once. What cannot is dropped, and the next line is told after how many.
#[derive(Debug)]
pub struct Aside<W> {
    output: W,
    unheard: u64,
}

impl<W: Write + AsFd> Aside<W> {
    /// Nothing said yet.
    pub fn new(output: W) -> Self {
        Self { output, unheard: 0 }
    }

    /// Whether something can be written, if only that it cannot.
    fn has_room(&self, patience_ms: u16) -> bool {
        let mut polled = [PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)];
        loop {
            match poll(&mut polled, PollTimeout::from(patience_ms)) {
                Err(Errno::EINTR) => {}
                ready => return ready != Ok(0),
            }
        }
    }
}

impl<W: Write + AsFd> Write for Aside<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.has_room(if self.unheard == 0 { PATIENCE_MS } else { 0 }) {
            self.unheard += 1;
            return Ok(line.len());
        }
        let unheard = std::mem::take(&mut self.unheard);
        let before =
            if unheard > 0 { format!("(not written before this: {unheard})\n") } else { String::new() };
        let all = [before.as_bytes(), line].concat();
        for (place, piece) in all.chunks(PIECE_BYTES).enumerate() {
            if place > 0 && !self.has_room(PATIENCE_MS) {
                break;
            }
            self.output.write_all(piece)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};

    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;

    #[test]
    fn a_reader_that_reads_nothing_is_not_waited_for_and_told_later() {
        let (mut reader, pipe) = pipe().unwrap();
        let size = usize::try_from(fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(4096)).unwrap()).unwrap();
        let mut aside = Aside::new(pipe);
        for _ in 0..size / PIECE_BYTES {
            aside.write_all(&[b'.'; PIECE_BYTES]).unwrap();
        }
        // Longer than a piece, which ends in the middle.
        for line in [&b"one\n"[..], b"two\n", &[b'3'; 2 * PIECE_BYTES]] {
            aside.write_all(line).unwrap();
        }
        reader.read_exact(&mut vec![0; size]).unwrap();
        aside.write_all(b"four\n").unwrap();
        drop(aside);
        assert_eq!(io::read_to_string(reader).unwrap(), "(not written before this: 3)\nfour\n");
    }
}
