//! What the kernel says of sockets over netlink, whatever it is: see `zsock_agent::properties::netlink`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zsock_agent::properties::netlink(bytes));
