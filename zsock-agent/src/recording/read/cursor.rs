//! A place in a line of JSON in the form in which zsock writes it: no spaces, no escapes, fields in a known order.
//!
//! What is not in that form gives `None`, right or wrong.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use super::names::Names;
use crate::record::{Cause, Errno, Family, SocketId, State};
use crate::time::Time;

/// A place in a line.
pub(super) struct Cursor<'a, 'n> {
    rest: &'a [u8],
    /// What stands before the next field: `{` before the first of an object, then a comma.
    separator: u8,
    names: &'n mut Names,
}

impl<'a, 'n> Cursor<'a, 'n> {
    pub(super) fn new(line: &'a [u8], names: &'n mut Names) -> Self {
        Self { rest: line, separator: b'{', names }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Begins an object.
    pub(super) fn open(&mut self) -> Option<()> {
        self.separator = b'{';
        (self.rest.first() == Some(&b'{')).then_some(())
    }

    /// Ends an object.
    pub(super) fn close(&mut self) -> Option<()> {
        if self.separator == b'{' {
            self.eat(b"{")?;
        }
        self.separator = b',';
        self.eat(b"}")
    }

    /// The name of the field that has to come next.
    #[inline]
    pub(super) fn key<const N: usize>(&mut self, key: &[u8; N]) -> Option<()> {
        self.begins_field(key).then_some(())
    }

    /// The value of the field that has to come next.
    #[inline]
    pub(super) fn required<T, const N: usize>(
        &mut self,
        key: &[u8; N],
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        if self.begins_field(key) { read(self) } else { None }
    }

    /// The value of a field that may be absent.
    #[inline]
    #[expect(clippy::option_option, reason = "one is of this form, the other of the field")]
    pub(super) fn optional<T, const N: usize>(
        &mut self,
        key: &[u8; N],
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.begins_field(key) { read(self).map(Some) } else { Some(None) }
    }

    /// A field that is absent where it is false.
    #[inline]
    pub(super) fn flag<const N: usize>(&mut self, key: &[u8; N]) -> Option<bool> {
        if self.begins_field(key) { self.bool() } else { Some(false) }
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        if self.eat(b"true").is_some() { Some(true) } else { self.eat(b"false").map(|()| false) }
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        // So many digits always fit.
        const DIGITS: usize = 19;
        if let Some((value, length)) = short_number(self.rest) {
            self.rest = &self.rest[length..];
            return Some(value);
        }
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(length);
        let has_leading_zero = length > 1 && digits[0] == b'0';
        self.rest = rest;
        ((1..=DIGITS).contains(&length) && !has_leading_zero).then(|| number(digits))
    }

    /// A string of plain ASCII.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        self.eat(b"\"")?;
        let length = plain_length(self.rest);
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.eat(b"\"")?;
        Some(text)
    }

    /// A string that many records have.
    pub(super) fn name(&mut self) -> Option<Arc<str>> {
        let text = self.text()?;
        self.names.of(text)
    }

    pub(super) fn errno(&mut self) -> Option<Errno> {
        str::from_utf8(self.text()?).ok().map(Errno::from_name)
    }

    pub(super) fn state(&mut self) -> Option<State> {
        self.text().and_then(State::from_exact_name)
    }

    pub(super) fn cause(&mut self) -> Option<Cause> {
        Some(match self.text()? {
            b"syn" => Cause::Syn,
            b"syn_ack" => Cause::SynAck,
            b"rto" => Cause::Rto,
            b"fast" => Cause::Fast,
            b"tail_loss_probe" => Cause::TailLossProbe,
            b"slow_start" => Cause::SlowStart,
            _ => return None,
        })
    }

    pub(super) fn family(&mut self) -> Option<Family> {
        Some(match self.text()? {
            b"ipv4" => Family::Ipv4,
            b"ipv6" => Family::Ipv6,
            _ => return None,
        })
    }

    pub(super) fn socket_id(&mut self) -> Option<SocketId> {
        // One sign less, and it always fits.
        let text = self.text().filter(|text| (1..=16).contains(&text.len()))?;
        let mut id = 0;
        for sign in text {
            let digit = match *sign {
                digit @ b'0'..=b'9' => digit - b'0',
                digit @ b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            id = id << 4 | u64::from(digit);
        }
        Some(SocketId(id))
    }

    pub(super) fn address(&mut self) -> Option<SocketAddr> {
        let text = self.text()?;
        ipv4_address(text).or_else(|| str::from_utf8(text).ok()?.parse().ok())
    }

    /// `2023-11-14T22:13:20.000000007Z`.
    pub(super) fn time(&mut self) -> Option<Time> {
        self.eat(b"\"")?;
        let (text, rest) = self.rest.split_first_chunk::<30>()?;
        self.rest = rest;
        self.eat(b"\"")?;
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (29, b'Z')];
        if marks.iter().any(|(at, mark)| text[*at] != *mark) {
            return None;
        }
        let digits = |from: usize, to: usize| {
            let digits = &text[from..to];
            digits.iter().all(u8::is_ascii_digit).then(|| number(digits))
        };
        let days = days_since_1970(digits(0, 4)?, digits(5, 7)?, digits(8, 10)?)?;
        let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        Some(Time::from_unix_ns(seconds * 1_000_000_000 + digits(20, 29)?))
    }

    #[inline]
    fn begins_field<const N: usize>(&mut self, key: &[u8; N]) -> bool {
        let Some((first, rest)) = self.rest.split_first() else { return false };
        let Some((found, rest)) = rest.split_first_chunk::<N>() else { return false };
        let is_key = *first == self.separator && found == key;
        if is_key {
            self.rest = rest;
            self.separator = b',';
        }
        is_key
    }

    #[inline]
    fn eat<const N: usize>(&mut self, expected: &[u8; N]) -> Option<()> {
        let (found, rest) = self.rest.split_first_chunk::<N>()?;
        (found == expected).then(|| self.rest = rest)
    }
}

/// The number that these digits write.
#[inline]
fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// A byte of each kind, in all eight of a word.
const fn eight_times(byte: u8) -> u64 {
    u64::MAX / 0xff * byte as u64
}

/// How many bytes at the beginning stand in a string of JSON as they are: plain ASCII but `"` and `\`. Text is most of a line, so eight
/// of them are looked at in one step.
fn plain_length(text: &[u8]) -> usize {
    let mut length = 0;
    while let Some(eight) = text.get(length..).and_then(<[u8]>::first_chunk) {
        let eight = u64::from_le_bytes(*eight);
        // Each gives the highest bit of the first byte that is meant. A borrow may give those of later ones as well.
        let equals = |byte| {
            let differs = eight ^ eight_times(byte);
            differs.wrapping_sub(eight_times(1)) & !differs
        };
        let is_control = eight.wrapping_sub(eight_times(b' ')) & !eight;
        let ends = eight | is_control | equals(b'"') | equals(b'\\') | equals(0x7f);
        let ends = ends & eight_times(0x80);
        if ends != 0 {
            return length + ends.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let is_plain = |byte: &&u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    length + text[length..].iter().take_while(is_plain).count()
}

/// The number at the beginning and how many digits it has, where they are one to seven and a byte follows: nearly all are such. They are
/// read in one step, as a word.
fn short_number(text: &[u8]) -> Option<(u64, usize)> {
    let digits = u64::from_le_bytes(*text.first_chunk()?) ^ eight_times(b'0');
    // The highest bit of the first byte that is no digit, and perhaps those of later ones.
    let ends = (digits.wrapping_add(eight_times(0x80 - 10)) | digits) & eight_times(0x80);
    let length = ends.trailing_zeros() as usize / 8;
    let has_leading_zero = length > 1 && digits.to_le_bytes()[0] == 0;
    if !(1..8).contains(&length) || has_leading_zero {
        return None;
    }
    // Zeros in front make them eight: pairs of digits, then fours, then all.
    let eight = digits << (64 - 8 * length);
    let pairs = (eight * 10 + (eight >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some(((fours * 10_000 + (fours >> 32)) & 0xffff_ffff, length))
}

/// `10.0.1.4:443`.
fn ipv4_address(text: &[u8]) -> Option<SocketAddr> {
    let mut numbers = [0_u32; 5];
    let (mut place, mut digits) = (0, 0);
    for byte in text {
        match (byte, place) {
            (b'0'..=b'9', _) if digits == 0 || digits < 5 && numbers[place] > 0 => {
                numbers[place] = numbers[place] * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            (b'.', 0..3) | (b':', 3) if digits > 0 => (place, digits) = (place + 1, 0),
            _ => return None,
        }
    }
    let is_whole = place == 4 && digits > 0;
    let [a, b, c, d, port] = numbers;
    let [a, b, c, d] = [a, b, c, d].map(|part| u8::try_from(part).ok());
    let port = u16::try_from(port).ok().filter(|_| is_whole)?;
    Some(SocketAddrV4::new(Ipv4Addr::new(a?, b?, c?, d?), port).into())
}

/// Days from 1970-01-01 to a day of a year before 2500, in which nanoseconds still fit.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    const LENGTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::try_from(month).ok()?.checked_sub(1)?;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = LENGTHS.get(index)? + u64::from(is_leap && month == 2);
    if !(1970..2500).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    let leap_days = |years: u64| years / 4 - years / 100 + years / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    Some(years + BEFORE[index] + u64::from(is_leap && month > 2) + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<Time> {
        Cursor::new(format!("\"{text}\"").as_bytes(), &mut Names::default()).time()
    }

    #[test]
    fn every_day_of_the_years_in_which_it_may_be_is_the_one_that_jiff_reads() {
        let day = 86_400_000_000_000_u64;
        for days in
            (0..193_000).step_by(7).chain([58, 59, 365 * 30 + 7 + 58, 365 * 30 + 7 + 59, 365 * 30 + 7 + 60])
        {
            let at = Time::from_unix_ns(days * day + days % day);
            assert_eq!(time(&at.to_string()), Some(at), "{at}");
        }
        assert_eq!(
            time("2023-11-14T22:13:20.000000007Z"),
            Some(Time::from_unix_ns(1_700_000_000_000_000_007))
        );
    }

    #[test]
    fn a_time_that_is_none_or_is_written_otherwise_is_left_to_others() {
        for text in [
            "2023-02-29T22:13:20.000000007Z",
            "1900-02-29T22:13:20.000000007Z",
            "2023-13-01T22:13:20.000000007Z",
            "2023-00-01T22:13:20.000000007Z",
            "2023-11-00T22:13:20.000000007Z",
            "2023-11-14T24:13:20.000000007Z",
            "2023-11-14T22:60:20.000000007Z",
            "2023-11-14T22:13:60.000000007Z",
            "2023-11-14T22:13:20.000000007z",
            "2023-11-14T22:13:20.00000000 Z",
            "1969-11-14T22:13:20.000000007Z",
            "2600-11-14T22:13:20.000000007Z",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_of_every_length_are_read_whatever_follows_and_nothing_else_is_one() {
        let read = |text: &str| {
            let mut names = Names::default();
            let mut cursor = Cursor::new(text.as_bytes(), &mut names);
            let number = cursor.u64();
            number.map(|number| (number, str::from_utf8(cursor.rest).unwrap().to_owned()))
        };
        for digits in 1..=19 {
            for number in [
                10_u64.pow(digits) - 1,
                10_u64.pow(digits - 1),
                12_345_678_901_234_567_890 % 10_u64.pow(digits),
            ] {
                for rest in ["", ",", "}", "},\"a\":1,\"b\"", ":0000000", "/12345678", "\u{80}1234567"] {
                    assert_eq!(
                        read(&format!("{number}{rest}")),
                        Some((number, rest.to_owned())),
                        "{number}{rest}"
                    );
                }
            }
        }
        for text in
            ["", "-1", "01", "00,1234567", "0000000001", "12345678901234567890", "a1234567", ",", "\u{80}"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_ends_before_the_first_byte_that_is_not_plain() {
        for length in 0..20 {
            for byte in 0..=u8::MAX {
                let mut text = vec![b'a'; length];
                text.push(byte);
                text.extend_from_slice(b"\"!\x01 z");
                let is_plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                assert_eq!(plain_length(&text), length + usize::from(is_plain), "{byte:#x} after {length}");
                assert_eq!(plain_length(&text[..=length]), length + usize::from(is_plain));
            }
        }
    }

    #[test]
    fn addresses_are_those_that_the_standard_library_reads() {
        for text in [
            "0.0.0.0:0",
            "255.255.255.255:65535",
            "256.0.0.1:1",
            "1.2.3.4:65536",
            "01.2.3.4:1",
            "1.2.3.4:01",
            "1.2.3.4",
            "1.2.3:4",
            "1.2.3.4.5:6",
            "1..3.4:5",
            "1.2.3.4:5:6",
            "1.2.3.4:000001",
            "1.2.3.4:655350",
            "1.2.3.4:99999",
            "00.2.3.4:1",
            "1.2.3.4444:1",
            ":1",
            "1.2.3.4:",
            "[::1]:80",
            "[::ffff:1.2.3.4]:80",
            "::1",
            "",
        ] {
            let quoted = format!("\"{text}\"");
            let read = Cursor::new(quoted.as_bytes(), &mut Names::default()).address();
            assert_eq!(read, text.parse().ok(), "{text}");
        }
    }
}
