//! Output: how a record is shown, and how it gets out.
//!
//! Sinks render and never judge: every number that they show stands in the record.

pub mod writer;
