//! What is mounted where, from `/proc/self/mountinfo`. Names in it are whatever somebody mounted or called a directory.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Which directory of the file system is its root.
    pub(super) root: Vec<u8>,
    /// Where it is.
    pub(super) point: PathBuf,
    /// The file system's type.
    pub(super) kind: Vec<u8>,
}

/// Everything that is mounted; nothing where that cannot be read.
pub(super) fn mounts() -> Vec<Mount> {
    parse(&fs::read("/proc/self/mountinfo").unwrap_or_default()).collect()
}

/// The mounts of a table. What is no line of one is passed over.
pub(super) fn parse(table: &[u8]) -> impl Iterator<Item = Mount> {
    table.split(|byte| *byte == b'\n').filter_map(mount)
}

/// `25 1 0:5 / /proc rw,relatime shared:5 - proc proc rw`, with none or several optional fields before the dash.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (root, point) = (fields.nth(3)?, fields.next()?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let point = PathBuf::from(OsString::from_vec(unescaped(point)));
    Some(Mount { root: unescaped(root), point, kind: kind.to_vec() })
}

/// A field as it was before the kernel wrote blanks, line ends and backslashes as `\\` and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| after.get(..3).and_then(octal)).flatten();
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// Any bytes in the place of the table.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    for Mount { root, point, kind } in parse(bytes) {
        assert!(root.len() + point.as_os_str().len() + kind.len() < bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn mounts_are_read_with_the_names_that_they_were_given() {
        let table =
            b"31 25 0:27 /a\\134b /mnt/two\\040words\\012\xff rw shared:9 master:1 - cgroup2 cgroup2 rw\n\
                      190 25 0:4 net:[4026532201] /run/netns/blue rw - nsfs nsfs rw\n\
                      broken\n1 2 0:3 / /no/dash rw\n\xff";
        let mounts: Vec<Mount> = parse(table).collect();
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].root, b"/a\\b");
        assert_eq!(mounts[0].point.as_os_str().as_bytes(), b"/mnt/two words\n\xff");
        assert_eq!(mounts[0].kind, b"cgroup2");
        assert_eq!((&*mounts[1].root, &*mounts[1].kind), (&b"net:[4026532201]"[..], &b"nsfs"[..]));
    }

    #[test]
    fn a_backslash_without_three_octal_digits_is_one() {
        for field in [&b"a\\"[..], b"a\\04", b"a\\999", b"a\\777", b"a\\+12"] {
            assert_eq!(unescaped(field).first(), Some(&b'a'));
        }
        assert_eq!(unescaped(b"a\\04"), b"a\\04");
        assert_eq!(unescaped(b"a\\777"), b"a\\777");
    }
}
