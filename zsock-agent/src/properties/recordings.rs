//! Recordings: lines of JSON that somebody else wrote, or changed.

use serde_json::{Value, json};

use super::{Reader, sample_records};
use crate::record::Record;

/// A recording of any bytes, and one of real records in which the bytes change one field after another.
///
/// # Panics
/// Where the property does not hold.
pub fn recordings(bytes: &[u8]) {
    let mut reader = Reader::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(record) = serde_json::from_slice::<Record>(line) {
            reader.push(&record);
        }
    }
    changed(bytes, &mut reader);
    reader.end();
}

/// Reads one of the sample records after another. Of each, some fields have another value.
fn changed(bytes: &[u8], reader: &mut Reader) {
    let samples: Vec<Value> = sample_records()
        .iter()
        .map(|record| serde_json::to_value(record).expect("records are JSON"))
        .collect();
    for change in bytes.chunks_exact(8) {
        let [sample, at, first, second, socket, other, third, fourth] = change else { return };
        let mut record = samples[usize::from(*sample) % samples.len()].clone();
        // Few sockets, at times that go forth and back.
        if let Some(id) = record.pointer_mut("/socket/id") {
            *id = json!(format!("{:x}", socket % 4));
        }
        record["ts"] = json!(format!("2023-11-14T22:{:02}:{:02}.5Z", at / 60, at % 60));
        if other % 2 == 0 {
            replace(&mut record, usize::from(*first), &hostile(*second));
            replace(&mut record, usize::from(*third), &hostile(*fourth));
        }
        // From a tree, and from text, where numbers are read by another way.
        let text = record.to_string();
        let from_tree = serde_json::from_value::<Record>(record);
        let Ok(from_text) = serde_json::from_str::<Record>(&text) else { continue };
        assert_eq!(from_tree.ok().as_ref(), Some(&from_text));
        reader.push(&from_text);
    }
}

/// Puts `value` in the place of the field with this number, counted through the whole record.
fn replace(record: &mut Value, number: usize, value: &Value) {
    let mut fields = Vec::new();
    places(record, &mut String::new(), &mut fields);
    if let Some(place) = fields.get(number % fields.len().max(1)).and_then(|place| record.pointer_mut(place))
    {
        *place = value.clone();
    }
}

/// The place of every value in `value` but itself.
fn places(value: &Value, at: &mut String, found: &mut Vec<String>) {
    let length = at.len();
    let mut visit = |key: &str, value: &Value| {
        at.push('/');
        at.push_str(&key.replace('~', "~0").replace('/', "~1"));
        found.push(at.clone());
        places(value, at, found);
        at.truncate(length);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| visit(key, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| visit(&at.to_string(), item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A value that a field may not expect.
fn hostile(choice: u8) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(u32::MAX),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(u64::MAX / 1_000_000),
        json!(1.5),
        json!(1e300),
        json!(-0.1),
        json!(""),
        json!("\u{1b}[2J\u{202e}<script>\"\n\u{0}"),
        json!("x".repeat(5_000)),
        json!("0.0.0.0:0"),
        json!("[::]:65535"),
        json!("0.0.0.0/0:1"),
        json!("ESTABLISHED"),
        json!("state(255)"),
        json!("ETIMEDOUT"),
        json!("rto"),
        json!("verdict"),
        json!("retransmit"),
        json!("opened"),
        json!("closed"),
        json!("stuck_retransmission"),
        json!("1970-01-01T00:00:00Z"),
        json!("2554-07-21T23:34:33.709551615Z"),
        json!("9999-12-31T23:59:59Z"),
        json!("ffffffffffffffff"),
        json!([]),
        json!({}),
        json!([[[[{"a": [1]}]]]]),
    ];
    values[usize::from(choice) % values.len()].clone()
}
