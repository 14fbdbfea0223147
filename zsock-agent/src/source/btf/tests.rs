//! Types of kernels, whole, damaged and malicious.

use std::collections::BTreeSet;
use std::iter;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Each kernel's release, and its types packed by zstd.
const KERNELS: &[(&str, &[u8])] = include!("../../../tests/data/btf/list.rs");

/// Kinds of types, as the second word of one has them.
const INT: u32 = 1 << 24;
const POINTER: u32 = 2 << 24;
const ARRAY: u32 = 3 << 24;
const STRUCT: u32 = 4 << 24;
const TYPEDEF: u32 = 8 << 24;
const FUNCTION: u32 = 12 << 24;
/// Of a structure: its members' offsets have a width in the upper eight bits.
const HAS_BIT_FIELDS: u32 = 1 << 31;

/// Names that the types below have, and where in the strings they begin.
const NAMES: &[u8] = b"\0sock\0sk_err\0";
const SOCK: u32 = 1;
const SK_ERR: u32 = 6;

const FIELD: Field =
    Field { name: "sk_err", paths: &["sock.sk_err"], size_bytes: 4, is_required: false, is_bits: false };

/// BTF of these types, whose numbers begin with 1.
fn btf(types: &[&[u32]], names: &[u8]) -> Vec<u8> {
    let records: Vec<u8> = types.concat().into_iter().flat_map(u32::to_le_bytes).collect();
    let (of_types, of_names) = (records.len().try_into().unwrap(), names.len().try_into().unwrap());
    let header = [0x0001_eb9f_u32, 24, 0, of_types, of_types, of_names];
    header.into_iter().flat_map(u32::to_le_bytes).chain(records).chain(names.iter().copied()).collect()
}

/// Where `FIELD` is among these types.
fn found(types: &[&[u32]]) -> Option<Place> {
    Types::parse(&btf(types, NAMES)).expect("types").place(&FIELD)
}

/// `sock`, whose one member is `sk_err` of type 2.
fn sock(flags: u32, offset: u32) -> [u32; 6] {
    [SOCK, STRUCT | flags | 1, 64, SK_ERR, 2, offset]
}

/// An `int` of so many bytes.
fn int(bytes: u32) -> [u32; 4] {
    [SK_ERR, INT, bytes, bytes * 8]
}

/// All that is ever asked of types; what was resolved.
fn ask_everything(types: &Types) -> Vec<Place> {
    let mut places = Vec::new();
    let Ok(_) = Offsets::resolve(|field| {
        places.extend(types.place(field));
        Ok::<_, Infallible>(0)
    });
    let _ = types.offsets();
    for name in ["tcp_retransmit_skb", "tcp_send_reset", "inet_sock_set_state"] {
        let _ = types.tracepoint_arguments(name);
    }
    let _ = (types.has_function("tcp_write_timer"), types.enum_names("sk_rst_reason", "SK_RST_REASON_"));
    places
}

#[test]
fn bytes_that_are_no_types_are_refused() {
    assert!(Types::parse(b"").is_err());
    assert!(Types::parse(b"\x9f\xeb\x01\x00garbage").is_err());
    assert!(Types::parse(&[0x9f, 0xeb, 1, 0].repeat(64)).is_err());
}

#[test]
fn a_member_is_where_its_type_can_be_read_and_missing_where_it_cannot() {
    let whole = |byte, size_bytes| Some(Place { byte, bits: None, size_bytes });
    assert_eq!(found(&[&sock(0, 96), &int(4)]), whole(12, 4));
    assert_eq!(found(&[&sock(0, 96), &int(8)]), whole(12, 8));
    assert_eq!(found(&[&sock(0, 96), &int(2)]), None, "too small");
    assert_eq!(found(&[&sock(0, 97), &int(4)]), None, "not at a byte");
    assert_eq!(found(&[&sock(0, u32::MAX - 7), &int(4)]), None, "beyond what an instruction reaches");
    let bits = |shift: u32, width: u32| sock(HAS_BIT_FIELDS, width << 24 | (96 + shift));
    assert_eq!(found(&[&bits(0, 32), &int(4)]), whole(12, 4), "a bit field that is all of a number");
    assert_eq!(found(&[&bits(0, 16), &int(4)]), None, "a field that is read whole");
    assert_eq!(found(&[&bits(0, 0), &int(4)]), whole(12, 4), "no bit field among some");

    let of_bits = |shift, width| {
        let types = Types::parse(&btf(&[&bits(shift, width), &int(4)], NAMES)).expect("types");
        types.place(&Field { size_bytes: 1, is_bits: true, ..FIELD })
    };
    assert_eq!(of_bits(3, 5), Some(Place { byte: 12, bits: Some((3, 5)), size_bytes: 4 }));
    assert_eq!(of_bits(4, 5), None, "across two bytes");
    assert_eq!(of_bits(0, 9), None, "more than a byte");
}

#[test]
fn types_that_lead_in_circles_lead_nowhere() {
    assert_eq!(found(&[&sock(0, 0), &[0, TYPEDEF, 2]]), None);
    assert_eq!(found(&[&sock(0, 0), &[0, TYPEDEF, 3], &[0, TYPEDEF, 2]]), None);
    // An array of itself, and one of arrays whose sizes do not fit.
    assert_eq!(found(&[&sock(0, 0), &[0, ARRAY, 0, 2, 2, 1]]), None);
    assert_eq!(found(&[&sock(0, 0), &[0, ARRAY, 0, 3, 3, 1 << 31], &[0, ARRAY, 0, 4, 4, 9], &int(4)]), None);
    // A structure without a name that has itself as a member without one.
    assert_eq!(found(&[&[SOCK, STRUCT | 1, 8, 0, 2, 0], &[0, STRUCT | 1, 8, 0, 2, 0]]), None);
    assert_eq!(found(&[&sock(0, 0)]), None, "of a type that is not there");
    assert_eq!(found(&[&sock(0, 0), &[0, POINTER, 77]]), Some(Place { byte: 0, bits: None, size_bytes: 8 }));
}

#[test]
fn structures_that_multiply_are_not_looked_through_to_their_end() {
    let levels: Vec<[u32; 9]> = (2..32).map(|next| [0, STRUCT | 2, 8, 0, next, 0, 0, next, 0]).collect();
    let mut types: Vec<&[u32]> = levels.iter().map(<[u32; 9]>::as_slice).collect();
    let first = [SOCK, STRUCT | 2, 8, 0, 2, 0, 0, 2, 0];
    let last = int(4);
    types[0] = &first;
    types.push(&last);
    assert_eq!(found(&types), None);
}

#[test]
fn names_without_an_end_are_refused() {
    assert!(Types::parse(&btf(&[&int(4)], NAMES)).is_ok());
    let long: Vec<u8> = iter::once(0).chain(iter::repeat_n(b'a', 1 << 20)).chain([0]).collect();
    assert!(Types::parse(&btf(&[&int(4)], &long)).is_err());
    assert!(Types::parse(&btf(&[&int(4)], b"\0sock")).is_err());
}

/// Types of a kernel of which some words were overwritten, mostly with what may be the number of a type or a count of members.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![4 => 0_u32..3_000, 1 => any::<u32>(), 1 => Just(u32::MAX), 1 => (0_u32..0x2000).prop_map(|low| low << 20)];
    let kernel =
        prop::sample::select(KERNELS).prop_map(|(_, packed)| zstd::decode_all(packed).expect("packed types"));
    (kernel, vec((any::<prop::sample::Index>(), word), 0..10), any::<prop::sample::Index>(), 0_u8..8)
        .prop_map(|(mut bytes, words, end, cut)| {
            for (at, word) in words {
                let at = at.index(bytes.len() / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            if cut == 0 {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        })
}

/// Any bytes behind a header that leads into them.
fn arbitrary() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 0..2_000), 0_u32..2_000, 0_u32..2_000, 0_u32..2_000).prop_map(
        |(bytes, of_types, at, of_names)| {
            let header = [0x0001_eb9f, 24, 0, of_types / 4 * 4, at, of_names];
            header.into_iter().flat_map(u32::to_le_bytes).chain(bytes).chain([0]).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn damaged_types_are_refused_or_read_as_far_as_they_go(bytes in damaged()) {
        if let Ok(types) = Types::parse(&bytes) {
            for place in ask_everything(&types) {
                prop_assert!(place.byte < 1 << 15 && place.bits.is_none_or(|(shift, width)| shift + width <= 8));
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_are_refused_or_read_as_far_as_they_go(bytes in prop_oneof![vec(any::<u8>(), 0..200), arbitrary()]) {
        if let Ok(types) = Types::parse(&bytes) {
            ask_everything(&types);
        }
    }
}

/// Types of the kinds that are asked for by name, which are found without a look at the others.
fn is_found(kind: &Type) -> bool {
    matches!(kind, Type::Struct(_) | Type::Enum(_) | Type::Typedef(_) | Type::Func(_))
}

#[test]
fn one_walk_finds_what_a_walk_for_each_name_does() {
    for (release, packed) in KERNELS {
        let types = Types::parse(&zstd::decode_all(*packed).expect("packed types")).expect("types");
        let found = types.found.borrow();
        assert_eq!(found.len(), names_at_start().iter().collect::<BTreeSet<_>>().len(), "{release}");
        assert!(found.values().filter(|numbers| !numbers.is_empty()).count() > 10, "{release}");
        for (name, numbers) in found.iter() {
            let mut walked = types.btf.resolve_ids_by_name(name).expect("a walk");
            walked.retain(|number| is_found(&types.btf.resolve_type_by_id(*number).expect("a type")));
            let numbers: Vec<u32> = numbers.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, walked, "{release}: {name}");
        }
    }
}

#[test]
fn the_stand_in_has_what_programs_attach_to_by_the_kernels_numbers_and_nothing_else() {
    let names = b"\0btf_trace_tcp_send_reset\0tcp_write_timer\0sock\0";
    let (tracepoint, timer, struct_sock) = (1, 26, 42);
    let tracepoint = [tracepoint, TYPEDEF, 1];
    // A type of the same name and of another kind comes first.
    let types =
        [&int(4)[..], &[timer, TYPEDEF, 1], &[struct_sock, STRUCT, 8], &tracepoint, &[timer, FUNCTION, 0]];
    let types = Types::parse(&btf(&types, names)).expect("types");
    let stand_in = Types::parse(&types.stand_in()).expect("types");
    let numbers = |name| stand_in.btf.resolve_ids_by_name(name).expect("a walk");
    assert_eq!(numbers("btf_trace_tcp_send_reset"), [4]);
    assert_eq!(numbers("tcp_write_timer"), [5]);
    let is_nothing = |number| matches!(stand_in.btf.resolve_type_by_id(number), Ok(Type::Fwd(_)));
    assert!((1..=3).all(is_nothing));
    assert_eq!(stand_in.btf.base().type_id_range(), (0, 5));
    assert_eq!(stand_in.tracepoint_arguments("tcp_send_reset"), None, "numbers are all that is asked of it");
    assert!(stand_in.has_function("tcp_write_timer"));
}
