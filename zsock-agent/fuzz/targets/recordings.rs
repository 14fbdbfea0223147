//! Lines of a recording, whatever they are: see `zsock_agent::properties::recordings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zsock_agent::properties::recordings(bytes));
