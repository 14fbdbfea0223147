//! zsock's kernel side: one file a hook in `probes`, one an iterator in `looks`.
//!
//! Invariants: no hook runs per packet or per ACK; a healthy connection sends nothing to user space unless all events
//! are wanted; `read` is the only place that dereferences kernel memory; every record that finds no room is counted.
#![no_std]
#![no_main]
#![expect(
    clippy::inline_always,
    reason = "the verifier knows what is constant and what a pointer points to within a program, not across its functions"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the entry points that the macros of hooks make pass contexts by value"
)]
#![feature(asm_experimental_arch)]

mod arrays;
mod by_address;
mod emit;
mod filter;
mod looks;
mod maps;
mod memory;
mod probes;
mod process;
mod read;
mod rodata;
mod slots;
mod words;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier admits no program that could get here; there is nothing to unwind to.
    loop {}
}

/// Helpers that this uses are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
