//! Where records come from: the running kernel.
//!
//! `kernel` loads the programs and hands over bytes, `decode` makes [`decode::Raw`] records of them, `order` sorts them by time,
//! `assemble` turns them into [`crate::record::Record`]s. What no hook tells of processes, `fds` and `blocked` read from `/proc`, and `own` what zsock itself takes. `diag` asks
//! the kernel about sockets without any program in it, and has it destroy them.

pub mod accepts;
pub mod assemble;
pub mod blocked;
pub mod btf;
pub mod census;
pub mod cgroup;
pub mod clock;
pub mod decode;
pub mod diag;
pub mod fds;
pub mod held;
pub mod host;
pub mod kernel;
pub(crate) mod mountinfo;
pub mod namespaces;
pub mod order;
pub mod own;
pub mod process;
pub mod sysctl;
