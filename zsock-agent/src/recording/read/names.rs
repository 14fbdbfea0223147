//! Strings that many records have in common.

use std::sync::Arc;

/// Remembered at once.
const KEPT: usize = 512;

/// The strings read last, each at a place that its length and its ends choose. One that is not there any more is made anew, so that
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

/// Where a string is remembered.
fn place(text: &[u8]) -> usize {
    let four = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    let middle = text.get(text.len() / 2).map_or(0, |byte| u64::from(*byte));
    let mixed = four(text.first_chunk()) ^ four(text.last_chunk()) << 24 ^ middle << 56 ^ text.len() as u64;
    // The golden ratio spreads what differs little; the highest bits differ most.
    usize::try_from(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55).unwrap_or_default() % KEPT
}

#[cfg(test)]
mod tests {
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
        assert_eq!(names.of(b"\xff"), None);
    }
}
