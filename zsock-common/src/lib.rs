//! What crosses between zsock's kernel and user space, defined once: record layouts, field offsets, settings.
//!
//! Holds layouts and shared numbers only: no I/O, no logic.
#![no_std]

mod bits;
mod census;
mod maps;
pub mod offsets;
pub mod settings;
pub mod wire;
