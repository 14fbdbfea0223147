//! What holds for whatever the kernel side writes, sensible or not.

use proptest::collection::vec;
use proptest::prelude::*;
use zsock_common::wire::{Kind, PastRecord, SocketRecord, Wire as _};

use super::tests::assembler;
use crate::detect::Thresholds;
use crate::engine::Engine;
use crate::record::Record;
use crate::sink::{Palette, Renderer, Text};
use crate::source::decode::Raw;

/// Any bytes of a known kind, of few sockets and with times that may run backwards. Many words are those that counters, flags and
/// differences take badly.
fn raws() -> impl Strategy<Value = Raw> {
    let words = prop_oneof![4 => Just(0_u32), 2 => 1_u32..9, 1 => Just(u32::MAX), 1 => Just(1 << 31), 3 => any::<u32>()];
    let size_words = SocketRecord::SIZE_BYTES.max(PastRecord::SIZE_BYTES) / size_of::<u32>();
    (prop::sample::select(Kind::ALL), 0_u64..4, vec(words, size_words)).prop_filter_map(
        "every kind is shorter than the longest",
        |(kind, cookie, words)| {
            let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
            bytes[8..16].copy_from_slice(&cookie.to_ne_bytes());
            bytes[16..18].copy_from_slice(&(kind as u16).to_ne_bytes());
            Raw::decode(&bytes).ok()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_kernel_side_writes_is_told_judged_rendered_and_read_back(raws in vec(raws(), 0..60)) {
        let mut assembler = assembler();
        let mut engine = Engine::new(Thresholds::default());
        let mut text = Renderer::Text(Text::new(Palette::PLAIN));
        for (number, raw) in raws.iter().enumerate() {
            assembler.learn(raw);
            let _ = assembler.needs_look(raw);
            if number % 5 == 0 {
                assembler.begin_look();
                assembler.end_look(raw);
            }
            for record in assembler.assemble(raw) {
                let findings = engine.push(&record);
                let judged = findings.iter().map(|finding| (&finding.record, Some(&finding.timeline)));
                for (record, timeline) in judged.chain([(&record, None)]) {
                    let (mut line, mut told) = (Vec::new(), Vec::new());
                    Renderer::Ndjson.render(record, timeline, &mut |bytes| line.extend_from_slice(bytes));
                    prop_assert_eq!(&serde_json::from_slice::<Record>(&line).unwrap(), record);
                    text.render(record, timeline, &mut |bytes| told.extend_from_slice(bytes));
                    text.flush(record.at, &mut |bytes| told.extend_from_slice(bytes));
                    let told = String::from_utf8(told).unwrap();
                    let hides = |c: char| c != '\n' && c.is_control();
                    prop_assert!(!told.contains(hides), "{:?}", told);
                }
            }
        }
    }
}
