//! Recordings: records of schema 1 as NDJSON, plain as `trace -o json` streams them or in zstd frames as `record` keeps them.

pub mod read;
pub mod recorder;
pub mod segments;
