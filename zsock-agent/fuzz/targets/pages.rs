//! Strings on the page of a report, whatever they are: see `zsock_agent::properties::pages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zsock_agent::properties::pages(bytes));
