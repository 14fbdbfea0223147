//! A line of JSON that grows field by field: no spaces, keys with what stands around them, and no more looked at than has to be.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;

use crate::append;
use crate::record::{SocketId, State};
use crate::time::Time;

/// A field's name with the comma before it and the colon after it. Its length is known when this is compiled, which makes it quick to copy.
macro_rules! key {
    ($name:literal) => {
        const {
            const KEY: &[u8] = concat!(",\"", $name, "\":").as_bytes();
            KEY.first_chunk::<{ KEY.len() }>().unwrap()
        }
    };
}
pub(super) use key;

/// The end of a line that grows.
pub(super) struct Line<'a>(&'a mut Vec<u8>);

impl<'a> Line<'a> {
    pub(super) fn at_the_end_of(lines: &'a mut Vec<u8>) -> Self {
        Self(lines)
    }

    /// An object with the fields that `fill` gives it.
    #[inline]
    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        fill(self);
        // The first field begins with a comma as well.
        match self.0.get_mut(start) {
            Some(comma) => *comma = b'{',
            None => self.0.push(b'{'),
        }
        self.0.push(b'}');
    }

    #[inline]
    pub(super) fn key<const N: usize>(&mut self, key: &[u8; N]) {
        self.0.extend_from_slice(key);
    }

    /// Fields that were written before.
    #[inline]
    pub(super) fn fields(&mut self, written: &[u8]) {
        self.0.extend_from_slice(written);
    }

    #[inline]
    pub(super) fn number<const N: usize>(&mut self, key: &[u8; N], value: impl Into<u64>) {
        self.key(key);
        append::number(self.0, value);
    }

    /// A number, or nothing.
    #[inline]
    pub(super) fn known_number<const N: usize>(&mut self, key: &[u8; N], value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    #[inline]
    pub(super) fn bool<const N: usize>(&mut self, key: &[u8; N], value: bool) {
        self.key(key);
        // The length of each is known when this is compiled, that of one or the other is not.
        if value {
            self.0.extend_from_slice(b"true");
        } else {
            self.0.extend_from_slice(b"false");
        }
    }

    /// A field that is absent where it is false.
    #[inline]
    pub(super) fn flag<const N: usize>(&mut self, key: &[u8; N], value: bool) {
        if value {
            self.bool(key, true);
        }
    }

    /// A string of zsock's own, in which nothing is to be escaped.
    #[inline]
    pub(super) fn word<const N: usize>(&mut self, key: &[u8; N], word: &str) {
        self.key(key);
        self.quoted(word.as_bytes());
    }

    /// A string that somebody else chose.
    #[inline]
    pub(super) fn text<const N: usize>(&mut self, key: &[u8; N], text: &str) {
        self.key(key);
        self.string(text);
    }

    /// The same, or nothing.
    #[inline]
    pub(super) fn known_text<const N: usize>(&mut self, key: &[u8; N], text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// Several of them.
    pub(super) fn texts<const N: usize>(&mut self, key: &[u8; N], texts: &[String]) {
        self.key(key);
        self.0.push(b'[');
        for (place, text) in texts.iter().enumerate() {
            if place > 0 {
                self.0.push(b',');
            }
            self.string(text);
        }
        self.0.push(b']');
    }

    /// A field whose name is not known before, which is a number in most cases.
    pub(super) fn fact(&mut self, name: &str, value: &Value) {
        self.0.push(b',');
        self.string(name);
        self.0.push(b':');
        match value.as_u64() {
            Some(number) => append::number(self.0, number),
            None => super::write(value, self.0, super::Printable),
        }
    }

    /// What there is no quicker way for.
    pub(super) fn any<const N: usize>(&mut self, key: &[u8; N], value: &(impl Serialize + ?Sized)) {
        self.key(key);
        super::write(value, self.0, super::Printable);
    }

    #[inline]
    pub(super) fn time<const N: usize>(&mut self, key: &[u8; N], time: Time) {
        self.key(key);
        self.quoted(&time.text());
    }

    #[inline]
    pub(super) fn state<const N: usize>(&mut self, key: &[u8; N], state: State) {
        match state.name() {
            Some(name) => self.word(key, name),
            None => self.any(key, &state),
        }
    }

    #[inline]
    pub(super) fn socket_id<const N: usize>(&mut self, key: &[u8; N], id: SocketId) {
        self.key(key);
        self.0.push(b'"');
        append::hexadecimal(self.0, id.0);
        self.0.push(b'"');
    }

    #[inline]
    pub(super) fn address<const N: usize>(&mut self, key: &[u8; N], address: Option<SocketAddr>) {
        let Some(address) = address else { return };
        self.key(key);
        self.0.push(b'"');
        append::address(self.0, address);
        self.0.push(b'"');
    }

    #[inline]
    fn string(&mut self, text: &str) {
        if text.bytes().fold(true, |is_plain, byte| is_plain & IS_PLAIN[usize::from(byte)]) {
            self.quoted(text.as_bytes());
        } else {
            super::write(text, self.0, super::Printable);
        }
    }

    #[inline]
    fn quoted(&mut self, plain: &[u8]) {
        self.0.push(b'"');
        self.0.extend_from_slice(plain);
        self.0.push(b'"');
    }
}

/// Which bytes of a string stand for themselves, in JSON and on a terminal.
const IS_PLAIN: [bool; 256] = {
    let (mut is_plain, mut byte) = ([false; 256], b' ');
    while byte <= b'~' {
        is_plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    is_plain
};
