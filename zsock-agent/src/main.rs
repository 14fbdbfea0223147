//! The command line `zsock`.
fn main() {}
