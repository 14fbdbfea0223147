//! Strings that many records have in common.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

/// Remembered at once.
const KEPT: usize = 512;

/// The strings read last, each at a place that a hash of it chooses. One that is not there any more is made anew, so that
/// names which somebody chose to meet at one place cost no more than any others.
#[derive(Debug)]
pub(super) struct Names {
    known: Box<[Option<Arc<str>>; KEPT]>,
}

impl Default for Names {
    fn default() -> Self {
        Self { known: Box::new([const { None }; KEPT]) }
    }
}

impl Names {
    /// This string, where it is one.
    pub(super) fn of(&mut self, text: &[u8]) -> Option<Arc<str>> {
        let place = &mut self.known[place(text)];
        if let Some(known) = place
            && known.as_bytes() == text
        {
            return Some(Arc::clone(known));
        }
        let new = Arc::from(str::from_utf8(text).ok()?);
        *place = Some(Arc::clone(&new));
        Some(new)
    }
}

/// Where a string is remembered. The highest bits of a hash differ most.
fn place(text: &[u8]) -> usize {
    usize::try_from(FxBuildHasher.hash_one(text) >> 55).unwrap_or_default() % KEPT
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_is_equal_is_shared_and_what_meets_at_one_place_is_told_apart() {
        let mut names = Names::default();
        let first = names.of(b"nginx").unwrap();
        assert!(Arc::ptr_eq(&first, &names.of(b"nginx").unwrap()));
        for number in 0..10 * KEPT {
            let text = format!("worker-{number}-of-a-pool");
            assert_eq!(&*names.of(text.as_bytes()).unwrap(), text);
        }
        assert_eq!(names.of(b"nginx").unwrap(), first);
        // Those of one host differ in little.
        let groups: Vec<_> = (0..40).map(|number| format!("/system.slice/pool-{number}.service")).collect();
        let places: HashSet<_> = groups.iter().map(|group| place(group.as_bytes())).collect();
        assert!(places.len() > 30, "{} places for 40 names", places.len());
        assert_eq!(names.of(b"\xff"), None);
    }
}
