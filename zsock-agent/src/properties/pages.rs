//! Reports as pages: strings that somebody else wrote.

use serde_json::Value;

use crate::record::printable;
use crate::sink::html::{around_data, samples, write};

/// A page in which every string of a recording is this one.
///
/// # Panics
/// Where the property does not hold.
pub fn pages(bytes: &[u8]) {
    let hostile = String::from_utf8_lossy(bytes);
    let mut page = Vec::new();
    write(&samples::report(&hostile), &mut page).expect("memory takes it");
    let page = String::from_utf8(page).expect("a page is UTF-8");
    let [before, after] = around_data();
    let data = page.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
    let data = data.expect("all but the data is the same on every page");
    assert!(
        !data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']),
        "nothing ends the element of the data: {data}"
    );
    assert_eq!(printable(data), data, "nothing on it hides");
    let data: Value = serde_json::from_str(data).expect("it is JSON");
    let host = data["runs"][0]["host"].as_u64().and_then(|place| usize::try_from(place).ok());
    let host = host.expect("a host is a place in the strings");
    assert_eq!(data["strings"][host], *printable(&hostile), "what is read is what was written");
}
