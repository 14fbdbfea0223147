//! What most lines have in common with the one before: it is copied, not written anew.

use std::sync::Arc;

use super::line::Line;
use crate::record::{KeepaliveSettings, Socket, SocketId};

/// What is longer is not kept: a control group's path may have thousands of bytes, each of them escaped.
const MOST_KEPT_BYTES: usize = 4096;

/// How a value was written last.
#[derive(Debug)]
pub(super) struct Again<T> {
    last: Option<T>,
    written: Vec<u8>,
}

impl<T> Default for Again<T> {
    fn default() -> Self {
        Self { last: None, written: Vec::new() }
    }
}

impl<T: PartialEq + Clone> Again<T> {
    /// Appends the fields that tell a value, as `write` does; where it is the same as the last time, a copy of what was written then.
    #[inline]
    pub(super) fn append(&mut self, line: &mut Line<'_>, value: &T, write: impl FnOnce(&mut Line<'_>)) {
        if self.last.as_ref() == Some(value) {
            return line.fields(&self.written);
        }
        self.written.clear();
        write(&mut Line::at_the_end_of(&mut self.written));
        line.fields(&self.written);
        if self.written.len() > MOST_KEPT_BYTES {
            *self = Self::default();
        } else {
            self.last = Some(value.clone());
        }
    }
}

/// How the sockets were written that were told of last, each in a place by its id: the kernel counts them up, so those of the same time
/// have different ones.
#[derive(Debug)]
pub(super) struct Sockets(Vec<Again<Arc<Socket>>>);

impl Default for Sockets {
    fn default() -> Self {
        Self((0..=u8::MAX).map(|_| Again::default()).collect())
    }
}

impl Sockets {
    #[inline]
    pub(super) fn at(&mut self, id: SocketId) -> &mut Again<Arc<Socket>> {
        let [place, ..] = id.0.to_le_bytes();
        &mut self.0[usize::from(place)]
    }
}

/// What is the same in most lines of a socket, or of a host.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    pub(super) host: Again<Arc<str>>,
    pub(super) sockets: Sockets,
    pub(super) netns: Again<u32>,
    pub(super) troubles: Again<Troubles>,
    pub(super) keepalive: Again<KeepaliveSettings>,
}

/// The counters of a socket that are zero while all is well, in the order of the fields: of retransmissions and probes, and of bytes that
/// wait.
pub(super) type Troubles = ([Option<u32>; 4], [Option<u64>; 3]);

#[cfg(test)]
mod tests {
    use super::super::line::key;
    use super::*;

    #[test]
    fn what_is_the_same_is_not_written_anew_and_what_is_not_is() {
        let (mut lines, mut times, mut again) = (Vec::new(), 0, Again::default());
        for number in [1_u32, 1, 2, 1, 1] {
            let line = &mut Line::at_the_end_of(&mut lines);
            again.append(line, &number, |line| {
                times += 1;
                line.number(key!("n"), number);
            });
        }
        assert_eq!((str::from_utf8(&lines), times), (Ok(r#","n":1,"n":1,"n":2,"n":1,"n":1"#), 3));
    }

    #[test]
    fn what_is_long_is_not_kept() {
        let (mut lines, mut again) = (Vec::new(), Again::default());
        let path = "p".repeat(MOST_KEPT_BYTES);
        for _ in 0..2 {
            again
                .append(&mut Line::at_the_end_of(&mut lines), &path, |line| line.text(key!("cgroup"), &path));
            assert_eq!((&again.last, again.written.capacity()), (&None, 0));
        }
        let once = format!(r#","cgroup":"{path}""#);
        assert_eq!(str::from_utf8(&lines), Ok(once.repeat(2).as_str()));
    }
}
