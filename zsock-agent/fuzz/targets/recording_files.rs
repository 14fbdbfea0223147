//! A recording as a file, whatever it holds: see `zsock_agent::properties::recording_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zsock_agent::properties::recording_files(bytes));
