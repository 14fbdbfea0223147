//! Records of the wire, as the ring buffer hands them over.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;

use zsock_common::offsets::Offsets;
use zsock_common::wire::{Kind, LookRecord, PastRecord, SocketRecord, Wire as _};

use super::Reader;
use crate::kernel_rules::Jiffies;
use crate::source::assemble::Assembler;
use crate::source::assemble::facts::Units;
use crate::source::clock::Clock;
use crate::source::decode::Raw;

/// Records of few sockets: each is a kind, a socket, a length and so many words, the rest of it zeroes.
///
/// # Panics
/// Where the property does not hold.
pub fn ring_buffer(bytes: &[u8]) {
    // Whatever it is, it is a record or none.
    let _ = Raw::decode(bytes);
    let mut assembler = assembler();
    let mut reader = Reader::new();
    let mut rest = bytes;
    let mut number = 0;
    while let Some(([kind, cookie, words], after)) = rest.split_first_chunk() {
        let (content, after) = after.split_at(after.len().min(usize::from(*words) * size_of::<u32>()));
        rest = after;
        if let Some(raw) = raw(usize::from(*kind), u64::from(cookie % 4), content) {
            number += 1;
            told_judged_and_read_back(&raw, number % 5 == 0, &mut assembler, &mut reader);
        }
    }
    reader.end();
}

/// A record of this kind and socket with this content.
fn raw(kind: usize, cookie: u64, content: &[u8]) -> Option<Raw> {
    const LONGEST: [usize; 3] = [SocketRecord::SIZE_BYTES, PastRecord::SIZE_BYTES, LookRecord::SIZE_BYTES];
    let mut bytes = vec![0; LONGEST.into_iter().max()?];
    let length = content.len().min(bytes.len());
    bytes[..length].copy_from_slice(&content[..length]);
    bytes[8..16].copy_from_slice(&cookie.to_ne_bytes());
    bytes[16..18].copy_from_slice(&(Kind::ALL[kind % Kind::ALL.len()] as u16).to_ne_bytes());
    Raw::decode(&bytes).ok()
}

fn told_judged_and_read_back(raw: &Raw, is_looked_at: bool, assembler: &mut Assembler, reader: &mut Reader) {
    assembler.learn(raw);
    let _ = assembler.needs_look(raw);
    if is_looked_at {
        assembler.begin_look();
        assembler.end_look(raw);
    }
    let mut told = Vec::new();
    assembler.assemble(raw, &mut told);
    for record in &told {
        reader.push(record);
    }
}

/// An assembler of a kernel whose clock ticks a thousand times a second and has every field.
pub(crate) fn assembler() -> Assembler {
    let hz = NonZeroU32::new(1000).expect("1000 is not zero");
    let Ok(offsets) = Offsets::resolve(|_| Ok::<_, Infallible>(0));
    let reasons = BTreeMap::from([(3, "TCP_ABORT_ON_CLOSE".to_owned())]);
    Assembler::new(
        Arc::from("web-1"),
        Clock::fixed(0),
        Units::new(Jiffies::new(hz), &offsets),
        reasons,
        1_000,
    )
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Any content of a known kind, of few sockets and with times that may run backwards. Many words are those that counters, flags
    /// and differences take badly.
    fn raws() -> impl Strategy<Value = Raw> {
        let words = prop_oneof![4 => Just(0_u32), 2 => 1_u32..9, 1 => Just(u32::MAX), 1 => Just(1 << 31), 3 => any::<u32>()];
        let size_words = SocketRecord::SIZE_BYTES.max(PastRecord::SIZE_BYTES) / size_of::<u32>();
        (0..Kind::ALL.len(), 0_u64..4, vec(words, size_words)).prop_filter_map(
            "every kind is shorter than the longest",
            |(kind, cookie, words)| {
                let content: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
                raw(kind, cookie, &content)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_the_kernel_side_writes_is_told_judged_rendered_and_read_back(raws in vec(raws(), 0..60)) {
            let mut assembler = assembler();
            let mut reader = Reader::new();
            for (number, raw) in raws.iter().enumerate() {
                told_judged_and_read_back(raw, number % 5 == 0, &mut assembler, &mut reader);
            }
            reader.end();
        }
    }
}
