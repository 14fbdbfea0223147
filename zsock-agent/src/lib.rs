//! zsock finds zombie sockets: TCP connections that are dead or stuck while everything looks up.
//!
//! One way through, one engine:
//!
//! ```text
//! kernel events (ring buffer) ─┐
//! look at sockets (iterators) ─┴→ decode → order → assemble ─→ records ─→ ENGINE ─→ sinks (text, NDJSON)
//!                                                              recorded ─┘
//! ```
//!
//! Invariants:
//! - Only `source::kernel` names `aya`, only `source` touches the system.
//! - The engine is given [`record::Record`]s and nothing else: it reads no clock and does no I/O, so a recording
//!   is judged as the live stream was.
//! - A fact that is unknown is absent. Nothing fills it with a default.

mod append;
pub mod audit;
pub mod budget;
pub mod cli;
pub mod detect;
pub mod doctor;
pub mod engine;
pub mod keepalive;
pub mod kernel_rules;
pub mod privileges;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod record;
pub mod recording;
pub mod report;
pub mod run;
pub mod select;
pub mod sink;
pub mod source;
mod spare;
pub mod time;
