//! Records of the wire, whatever they are: see `zsock_agent::properties::ring_buffer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zsock_agent::properties::ring_buffer(bytes));
