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

fn place(text: &[u8]) -> usize {
    let end = |chunk: Option<&[u8; 4]>| chunk.map_or(0, |chunk| u32::from_le_bytes(*chunk));
    let middle = text.get(text.len() / 2).copied().map_or(0, u32::from);
    let mixed =
        end(text.first_chunk()) ^ end(text.last_chunk()).rotate_left(13) ^ middle << 7 ^ (text.len() as u32);
    (mixed.wrapping_mul(0x9e37_79b1) >> 23) as usize % KEPT
}
