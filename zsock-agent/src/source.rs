//! Where records come from: the running kernel.
//!
//! `kernel` loads the programs and hands over bytes, `decode` makes [`decode::Raw`] records of them, `order` sorts them by time,
//! `assemble` turns them into [`crate::record::Record`]s.

pub mod assemble;
pub mod btf;
pub mod cgroup;
pub mod clock;
pub mod decode;
pub mod kernel;
pub mod namespaces;
pub mod order;
pub mod process;
