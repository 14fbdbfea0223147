//! The types of Debian's kernels that `cargo xtask btf` kept, and how two kernels differ.

use std::convert::Infallible;

use zsock_agent::source::btf::{Place, Types};
use zsock_common::offsets::{Field, Offsets};

/// Each kernel's release, and its types packed by zstd.
const KEPT: &[(&str, &[u8])] = include!("../data/btf/list.rs");

/// Every kernel whose types are kept, by its release.
pub(crate) fn kept() -> Vec<(&'static str, Types)> {
    let types =
        |packed: &[u8]| Types::parse(&zstd::decode_all(packed).expect("packed types")).expect("types");
    KEPT.iter().map(|(release, packed)| (*release, types(packed))).collect()
}

/// Every field of the table.
pub(crate) fn fields() -> Vec<&'static Field> {
    let mut fields = Vec::new();
    let Ok(_) = Offsets::resolve(|field| {
        fields.push(field);
        Ok::<_, Infallible>(0)
    });
    fields
}

/// A place as people read it: `byte/size`, of a bit field `byte:bit/width`.
pub(crate) fn shown(place: Option<Place>) -> String {
    match place {
        Some(Place { byte, bits: Some((shift, width)), .. }) => format!("{byte}:{shift}/{width}"),
        Some(Place { byte, bits: None, size_bytes }) => format!("{byte}/{size_bytes}"),
        None => "—".to_owned(),
    }
}

/// How the fields of one kernel differ from those of another, a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    /// Those that only one of them has.
    pub(crate) new_or_gone: Vec<String>,
    /// Those that are elsewhere.
    pub(crate) moved: Vec<String>,
}

impl Differences {
    /// What is different in `here` from `before`.
    pub(crate) fn between(before: &Types, here: &Types) -> Self {
        let mut differences = Self::default();
        for field in fields() {
            let (was, is) = (before.place(field), here.place(field));
            let into = match (was, is) {
                _ if was == is => continue,
                (Some(_), Some(_)) => &mut differences.moved,
                _ => &mut differences.new_or_gone,
            };
            into.push(format!("{}: {} was kept, {} is there", field.name, shown(was), shown(is)));
        }
        differences
    }
}
