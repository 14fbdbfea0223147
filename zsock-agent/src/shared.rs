//! Values that many sockets have in common, kept once for all of them.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// More are not remembered at once: then those in use live on with their users, and new ones are shared among the new.
const KEPT: usize = 4096;

/// Values, each of them once.
#[derive(Debug)]
pub(crate) struct Shared<T: ?Sized> {
    /// Whoever wrote a recording, or a peer, may have chosen some of it: the hash has a key that they do not know.
    known: HashSet<Arc<T>, RandomState>,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { known: HashSet::default() }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    /// The value that equals this one, which becomes it where there is none.
    pub(crate) fn of(&mut self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        if let Some(known) = self.known.get(value.borrow()) {
            return Arc::clone(known);
        }
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        let new = value.into();
        self.known.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_kept_once_and_the_memory_is_bounded() {
        let mut shared = Shared::<str>::default();
        let first = shared.of("a");
        assert!(Arc::ptr_eq(&first, &shared.of("a")));
        assert!(!Arc::ptr_eq(&first, &shared.of("b")));
        for other in 0..2 * KEPT {
            shared.of(format!("{other}").as_str());
            assert!(shared.known.len() <= KEPT);
        }
        assert_eq!(shared.of("a"), first);
    }
}
