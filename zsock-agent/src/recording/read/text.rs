//! The text of a recording: the stored bytes themselves, or what their zstd frames hold.

use std::fmt;
use std::io::{self, Read};

use memchr::memmem;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use super::stored::Stored;

/// What a zstd frame begins with.
const FRAME: &[u8] = b"\x28\xb5\x2f\xfd";

/// What one begins with that holds no text, after a byte `0x50` to `0x5f`.
const SKIPPABLE: &[u8] = b"\x2a\x4d\x18";

/// The largest window of a frame, as a power of two: what zstd itself takes unless told otherwise.
const LARGEST_WINDOW: u32 = 27;

/// Files that begin so hold no text, and what they are.
const FOREIGN: [(&[u8], &str); 12] = [
    (b"\x1f\x8b", "is compressed by gzip; give it through `zcat`"),
    (b"\xfd7zXZ\0", "is compressed by xz; give it through `xzcat`"),
    (b"BZh", "is compressed by bzip2; give it through `bzcat`"),
    (b"\x04\x22\x4d\x18", "is compressed by lz4; give it through `lz4cat`"),
    (b"PK\x03\x04", "is a ZIP archive"),
    (b"\x7fELF", "is a program or a library"),
    (b"\xd4\xc3\xb2\xa1", "is a capture of packets"),
    (b"\xa1\xb2\xc3\xd4", "is a capture of packets"),
    (b"\x4d\x3c\xb2\xa1", "is a capture of packets"),
    (b"\xa1\xb2\x3c\x4d", "is a capture of packets"),
    (b"\x0a\x0d\x0d\x0a", "is a capture of packets"),
    (b"\xff\xfe", "is UTF-16; zsock writes UTF-8"),
];

/// What comes next of a text.
#[derive(Debug)]
pub(super) enum More {
    /// So many bytes.
    Text(Passage),
    /// A passage that could not be read. What follows is not what came next.
    Damage { at_byte: u64, why: String },
    /// Nothing more.
    End,
}

/// Where bytes of a text come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    pub(super) length: usize,
    /// Where they, or the frame that holds them, begin in the file.
    pub(super) at_byte: u64,
    /// They stand there as they are.
    pub(super) is_plain: bool,
}

/// The text of one file.
#[derive(Debug)]
pub(super) struct Text {
    stored: Stored,
    form: Form,
}

/// How a text is stored.
enum Form {
    /// Nothing was read yet.
    Unknown,
    Plain,
    /// The next bytes begin a frame, or should.
    Between(Decoder<'static>),
    /// They are in the frame that begins here.
    Within(Decoder<'static>, u64),
    /// The frame that begins here is not whole, which is still to be told.
    Torn(u64),
    Over,
}

impl fmt::Debug for Form {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Plain => "Plain",
            Self::Between(_) => "Between",
            Self::Within(..) => "Within",
            Self::Torn(_) => "Torn",
            Self::Over => "Over",
        })
    }
}

impl Text {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { stored: Stored::new(input), form: Form::Unknown }
    }

    /// How many bytes were read from the file.
    pub(super) fn read_bytes(&self) -> u64 {
        self.stored.read_bytes()
    }

    /// Reads on, into `place`: until it is full, or to the end of a frame.
    pub(super) fn read(&mut self, place: &mut [u8]) -> More {
        let at_byte = self.stored.at();
        self.try_read(place).unwrap_or_else(|error| {
            self.form = Form::Over;
            More::Damage { at_byte, why: format!("cannot be read further: {error}") }
        })
    }

    fn try_read(&mut self, place: &mut [u8]) -> io::Result<More> {
        loop {
            match std::mem::replace(&mut self.form, Form::Over) {
                Form::Unknown => {
                    if let Some(damage) = self.find_form()? {
                        return Ok(damage);
                    }
                }
                Form::Plain => {
                    let at_byte = self.stored.at();
                    let length = self.stored.read(place)?;
                    if length == 0 {
                        return Ok(More::End);
                    }
                    self.form = Form::Plain;
                    return Ok(More::Text(Passage { length, at_byte, is_plain: true }));
                }
                Form::Between(decoder) => {
                    if let Some(damage) = self.begin_frame(decoder)? {
                        return Ok(damage);
                    }
                }
                Form::Within(decoder, at_byte) => {
                    let more = self.read_frame(decoder, at_byte, place)?;
                    if !matches!(more, More::Text(Passage { length: 0, .. })) {
                        return Ok(more);
                    }
                }
                Form::Torn(at_byte) => {
                    return Ok(More::Damage { at_byte, why: "ends in the midst of a zstd frame".to_owned() });
                }
                Form::Over => return Ok(More::End),
            }
        }
    }

    /// Tells by the first bytes how the text is stored.
    fn find_form(&mut self) -> io::Result<Option<More>> {
        self.stored.read_ahead_to(FRAME.len() + 2)?;
        let start = self.stored.ahead();
        if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Ok(Some(More::Damage { at_byte: 0, why: (*what).to_owned() }));
        }
        // A frame's magic number is no UTF-8, so text holds none. Its first frame may be the damaged one.
        let is_text = start.trim_ascii_start().starts_with(b"{") || start.starts_with("\u{feff}".as_bytes());
        let is_compressed = begins_frame(start) || !is_text && memmem::find(start, FRAME).is_some();
        self.form = if is_compressed { Form::Between(decoder()?) } else { Form::Plain };
        Ok(None)
    }

    /// Begins the next frame. What stands there instead of one is damage.
    fn begin_frame(&mut self, mut decoder: Decoder<'static>) -> io::Result<Option<More>> {
        self.stored.forget();
        self.stored.read_ahead_to(FRAME.len())?;
        let at_byte = self.stored.at();
        let start = self.stored.ahead();
        if start.is_empty() {
            return Ok(None);
        }
        if begins_frame(start) {
            decoder.reinit()?;
            self.form = Form::Within(decoder, at_byte);
            return Ok(None);
        }
        if FRAME.starts_with(start) {
            self.form = Form::Torn(at_byte);
            return Ok(None);
        }
        self.stored.seek(FRAME, at_byte)?;
        self.form = Form::Between(decoder);
        let why = format!("{} bytes are no zstd frame", self.stored.at() - at_byte);
        Ok(Some(More::Damage { at_byte, why }))
    }

    /// Reads on in a frame. Of one that is damaged nothing more is given, of one that is not whole what there is.
    fn read_frame(
        &mut self,
        mut decoder: Decoder<'static>,
        at_byte: u64,
        place: &mut [u8],
    ) -> io::Result<More> {
        let mut length = 0;
        while length < place.len() {
            let mut input = InBuffer::around(self.stored.ahead());
            let mut output = OutBuffer::around(&mut place[length..]);
            let result = decoder.run(&mut input, &mut output);
            let (consumed, written) = (input.pos(), output.pos());
            length += written;
            self.stored.consume(consumed);
            match result {
                Err(error) => {
                    self.stored.seek(FRAME, at_byte + FRAME.len() as u64)?;
                    self.form = Form::Between(decoder);
                    return Ok(More::Damage {
                        at_byte,
                        why: format!("a zstd frame cannot be read: {error}"),
                    });
                }
                Ok(0) => {
                    self.form = Form::Between(decoder);
                    return Ok(More::Text(Passage { length, at_byte, is_plain: false }));
                }
                Ok(_) if written > 0 || consumed > 0 => {}
                Ok(_) if self.stored.read_ahead()? => {}
                // One whose length is damaged takes those after it for its own.
                Ok(_) if self.stored.seek(FRAME, at_byte + FRAME.len() as u64)? => {
                    self.form = Form::Between(decoder);
                    let why = "a zstd frame cannot be read: another begins before its end".to_owned();
                    return Ok(More::Damage { at_byte, why });
                }
                Ok(_) => {
                    self.form = Form::Torn(at_byte);
                    return Ok(More::Text(Passage { length, at_byte, is_plain: false }));
                }
            }
        }
        self.form = Form::Within(decoder, at_byte);
        Ok(More::Text(Passage { length, at_byte, is_plain: false }))
    }
}

fn begins_frame(bytes: &[u8]) -> bool {
    let is_skippable = |(first, rest): (&u8, &[u8])| first & 0xf0 == 0x50 && rest.starts_with(SKIPPABLE);
    bytes.starts_with(FRAME) || bytes.split_first().is_some_and(is_skippable)
}

fn decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW))?;
    Ok(decoder)
}
