//! A command line, whatever it is: see `zsock_agent::properties::selectors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zsock_agent::properties::selectors(bytes));
