//! A report as one HTML file that needs nothing else: no network, no server, no other file.
//!
//! What processes and recordings say is data on that page and nothing else: it stands as JSON in an element that no browser runs,
//! without a character that could end the element, and the script shows it as text only. A policy in the page allows this one script
//! and this one style sheet, by their hashes, so whatever slipped through would neither run nor load anything.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use sha2::{Digest as _, Sha256};

use crate::report::Report;

mod bars;
mod data;
#[cfg(any(test, fuzzing))]
pub(crate) mod samples;
mod spans;
#[cfg(test)]
mod tests;

/// The page around its parts, whose places are marked with `@policy@`, `@style@`, `@data@` and `@script@`.
const TEMPLATE: &str = include_str!("html/page.html");

/// How it looks.
const STYLE: &str = include_str!("html/page.css");

/// What it does, a module in parts.
const SCRIPT: &str = concat!(
    include_str!("html/model.js"),
    include_str!("html/scale.js"),
    include_str!("html/drawing.js"),
    include_str!("html/lanes.js"),
    include_str!("html/timeline.js"),
    include_str!("html/page.js"),
);

/// Writes `report` as a page.
///
/// # Errors
/// What `out` cannot take.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let [before, after] = around_data();
    out.write_all(before.as_bytes())?;
    data::page(report).serialize(&mut Serializer::with_formatter(&mut *out, Unmarked))?;
    out.write_all(after.as_bytes())
}

/// The page before its data and after: the same for every report.
pub(crate) fn around_data() -> [String; 2] {
    let policy = format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src '{}'; script-src '{}'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let (before, after) = TEMPLATE.split_once("@data@").unwrap_or((TEMPLATE, ""));
    [before.replace("@policy@", &policy).replace("@style@", STYLE), after.replace("@script@", SCRIPT)]
}

/// An inline element of this content, as a policy names it.
fn hash(content: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(content)))
}

/// JSON without the characters that HTML or JavaScript could take for something else: escapes stand for them.
struct Unmarked;

impl Formatter for Unmarked {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, marked) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut characters = marked.chars();
            if let Some(character) = characters.next() {
                write!(out, "\\u{:04x}", u32::from(character))?;
            }
            rest = characters.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}
