//! Of a kernel's types those that the table of fields needs, as BTF of its own.
//!
//! A structure on the way to a field keeps every member, so that fields can be added to the table without fetching kernels. What
//! its members are made of is kept as far as it has a size; other structures are hollow, and all that is pointed to is `void`.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result, bail};

use super::raw::{Type, Types, kind};
use super::wanted::Wanted;

/// The BTF of what `wanted` wants of the types in `bytes`.
///
/// # Errors
/// When `bytes` is no BTF, or of a kind that is not known here.
pub(super) fn minimise(bytes: &[u8], wanted: &Wanted) -> Result<Vec<u8>> {
    let source = Types::parse(bytes)?;
    let mut copy = Copy { source: &source, whole: BTreeSet::new(), ids: HashMap::new(), order: Vec::new() };
    for path in &wanted.paths {
        copy.whole.extend(on_path(&source, path)?);
    }
    copy.whole.extend(source.find(kind::ENUM, |name| wanted.enums.contains(name))?);
    // Whole structures come first: whoever looks for a name takes the first that has it.
    for id in copy.whole.clone() {
        copy.id(Item::Type(id));
    }
    for id in source.find(kind::TYPEDEF, |name| wanted.prototypes.contains(name))? {
        copy.id(Item::Tracepoint(id));
    }
    for id in source.find(kind::FUNCTION, |name| wanted.functions.contains(name))? {
        copy.id(Item::Type(id));
    }
    copy.finish()
}

/// The structures that lie on a path, by number. A path that this kernel does not have ends early.
fn on_path(source: &Types, path: &str) -> Result<Vec<u32>> {
    let mut names = path.split('.');
    let root = names.next().unwrap_or_default();
    let Some(&root) = source.find(kind::STRUCT, |name| name == root)?.first() else { return Ok(Vec::new()) };
    let mut found = vec![root];
    for name in names {
        let Some(member) = found.last().map(|outer| member(source, *outer, name)).transpose()?.flatten()
        else {
            break;
        };
        let inner = peel(source, member)?;
        if !matches!(source.get(inner)?.kind(), kind::STRUCT | kind::UNION) {
            break;
        }
        found.push(inner);
    }
    // The last name is a field: what it is made of is not looked into.
    found.truncate(path.split('.').count() - 1);
    Ok(found)
}

/// The type of a member, through structures without a name.
fn member(source: &Types, outer: u32, wanted: &str) -> Result<Option<u32>> {
    for member in source.get(outer)?.members(3) {
        let (name, of) = (source.string(member[0])?, member[1]);
        let inner = source.get(of)?;
        if name == wanted {
            return Ok(Some(of));
        }
        if name.is_empty() && matches!(inner.kind(), kind::STRUCT | kind::UNION) {
            let found = self::member(source, of, wanted)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// The type behind typedefs and qualifiers.
fn peel(source: &Types, mut id: u32) -> Result<u32> {
    while let kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG =
        source.get(id)?.kind()
    {
        id = source.get(id)?.target();
    }
    Ok(id)
}

/// Something that the copy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    /// A type of the kernel.
    Type(u32),
    /// The typedef of a tracepoint, of which even what it points to is kept.
    Tracepoint(u32),
    /// A pointer to the type of that number.
    PointerTo(u32),
    /// The one pointer that stands for all others.
    Pointer,
}

/// The copy in the making: numbers are given out in the order in which types are first needed.
struct Copy<'a> {
    source: &'a Types,
    whole: BTreeSet<u32>,
    ids: HashMap<Item, u32>,
    order: Vec<Item>,
}

impl Copy<'_> {
    /// The number in the copy.
    fn id(&mut self, item: Item) -> u32 {
        if item == Item::Type(0) {
            return 0;
        }
        let next = u32::try_from(self.order.len() + 1).expect("fewer types than the kernel has");
        let order = &mut self.order;
        *self.ids.entry(item).or_insert_with(|| {
            order.push(item);
            next
        })
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        let mut strings = Strings::default();
        let mut types = Vec::new();
        while let Some(&item) = self.order.get(types.len()) {
            let copied = self.copied(item, &mut strings)?;
            types.push(copied);
        }
        Types::to_bytes(&types, &strings.bytes)
    }

    fn copied(&mut self, item: Item, strings: &mut Strings) -> Result<Type> {
        let id = match item {
            Item::Pointer => return Ok(Type::new(0, kind::POINTER, 0)),
            Item::PointerTo(target) => return Ok(Type::new(0, kind::POINTER, self.id(Item::Type(target)))),
            Item::Type(id) | Item::Tracepoint(id) => id,
        };
        let source = self.source;
        let original = source.get(id)?;
        let mut copy = original.clone();
        match original.kind() {
            kind::STRUCT | kind::UNION if self.is_whole(id)? => self.members(&mut copy, 3, strings)?,
            kind::ENUM if self.is_whole(id)? => {
                for value in copy.words[3..].chunks_exact_mut(2) {
                    value[0] = strings.add(source.string(value[0])?);
                }
            }
            kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 => copy = original.hollow(),
            kind::PROTOTYPE => {
                copy.words[2] = self.reference(original.target())?;
                self.members(&mut copy, 2, strings)?;
            }
            kind::ARRAY => {
                copy.words[3] = self.reference(original.words[3])?;
                copy.words[4] = self.reference(original.words[4])?;
            }
            kind::TYPEDEF if matches!(item, Item::Tracepoint(_)) => {
                let pointer = source.get(original.target())?;
                copy.words[2] = self.id(Item::PointerTo(pointer.target()));
            }
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::FUNCTION => {
                copy.words[2] = self.reference(original.target())?;
            }
            kind::INT | kind::FORWARD | kind::FLOAT => {}
            other => bail!("a type of kind {other} is part of a structure"),
        }
        copy.words[0] = strings.add(source.string(original.name())?);
        Ok(copy)
    }

    /// Whether its members are kept: they are of whatever has no name, for nothing else finds it.
    fn is_whole(&self, id: u32) -> Result<bool> {
        let is_anonymous = self.source.get(id)?.name() == 0;
        Ok(self.whole.contains(&id) || is_anonymous)
    }

    fn members(&mut self, copy: &mut Type, width: usize, strings: &mut Strings) -> Result<()> {
        for member in copy.words[3..].chunks_exact_mut(width) {
            member[0] = strings.add(self.source.string(member[0])?);
            member[1] = self.reference(member[1])?;
        }
        Ok(())
    }

    /// The number in the copy of a type that is referred to.
    fn reference(&mut self, id: u32) -> Result<u32> {
        let item = match self.source.get(id).context("a reference leads nowhere")?.kind() {
            kind::POINTER => Item::Pointer,
            _ => Item::Type(id),
        };
        Ok(self.id(item))
    }
}

/// The strings of the copy, each once. The first is empty.
struct Strings {
    bytes: Vec<u8>,
    offsets: HashMap<String, u32>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { bytes: vec![0], offsets: HashMap::from([(String::new(), 0)]) }
    }
}

impl Strings {
    fn add(&mut self, name: &str) -> u32 {
        if let Some(offset) = self.offsets.get(name) {
            return *offset;
        }
        let offset = u32::try_from(self.bytes.len()).expect("shorter than the strings of the kernel");
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.offsets.insert(name.to_owned(), offset);
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types as C has them: `int`, a structure of it, and `sock` with one of those, a pointer to one and a structure without a name.
    fn source() -> Vec<u8> {
        let names = b"\0int\0other\0value\0sock\0held\0pointed\0inner\0btf_trace_hit\0";
        let [int, other, value, sock, held, pointed, inner, hit] = [1, 5, 11, 17, 22, 27, 35, 41];
        let raw = |words: &[u32]| Type { words: words.to_vec() };
        let types = [
            raw(&[int, kind::INT << 24, 4, 32]),
            raw(&[other, kind::STRUCT << 24 | 1, 8, value, 1, 0]),
            raw(&[0, kind::POINTER << 24, 2]),
            raw(&[0, kind::STRUCT << 24 | 1, 4, inner, 1, 0]),
            raw(&[sock, kind::STRUCT << 24 | 3, 24, held, 2, 0, pointed, 3, 64, 0, 4, 128]),
            raw(&[0, kind::PROTOTYPE << 24 | 2, 0, 0, 3, 0, 1]),
            raw(&[0, kind::POINTER << 24, 6]),
            raw(&[hit, kind::TYPEDEF << 24, 7]),
        ];
        Types::to_bytes(&types, names).expect("short")
    }

    /// The copy of what these paths need, a line for each type.
    fn copied(paths: &[&'static str]) -> Vec<String> {
        let wanted = Wanted {
            paths: paths.to_vec(),
            prototypes: ["btf_trace_hit".to_owned()].into(),
            functions: BTreeSet::new(),
            enums: BTreeSet::new(),
        };
        let types = Types::parse(&minimise(&source(), &wanted).expect("types")).expect("types");
        let line = |id: u32| {
            let one = types.get(id).ok()?;
            let members = if one.kind() == kind::STRUCT { one.members(3).collect() } else { Vec::new() };
            let members: Vec<_> = members
                .iter()
                .map(|member| format!("{} {}", types.string(member[0]).expect("a name"), member[1]))
                .collect();
            Some(format!(
                "{} {} {}",
                one.kind(),
                types.string(one.name()).expect("a name"),
                members.join(", ")
            ))
        };
        (1..).map_while(line).collect()
    }

    #[test]
    fn a_structure_on_the_way_is_whole_and_what_it_holds_has_its_size() {
        let tracepoint = ["8 btf_trace_hit "];
        assert_eq!(
            copied(&["sock.inner"]),
            [
                "4 sock held 3, pointed 4,  5",
                tracepoint[0],
                "4 other ",
                "2  ",
                "4  inner 7",
                "2  ",
                "1 int ",
                "13  "
            ]
        );
        assert!(copied(&["sock.held.value"]).iter().any(|line| line.starts_with("4 other value ")));
        assert_eq!(copied(&["gone.inner"]), ["8 btf_trace_hit ", "2  ", "13  ", "2  ", "1 int "]);
    }
}
