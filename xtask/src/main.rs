//! zsock's build, test and measuring commands.
fn main() {}
