//! Files of `/proc`, whatever they are: see `zsock_agent::properties::proc_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zsock_agent::properties::proc_files(bytes));
