//! Many idle connections, to be traced.

use anyhow::Result;

use super::interrupted;
use super::load::Ready;
use super::namespace::Namespace;

/// Connections of one process: both ends are its own, and the usual limit of descriptors is 20,000.
const PER_PROCESS: usize = 8_000;

/// Idle connections, gone with this value.
pub(crate) struct Crowd(#[expect(dead_code, reason = "they live as long as this")] Vec<Ready>);

impl Crowd {
    /// Makes so many sockets, two for a connection.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(crate) fn new(namespace: &Namespace, sockets: usize) -> Result<Self> {
        let connections = sockets / 2;
        let processes = (0..connections).step_by(PER_PROCESS).zip(1..).map(|(made, which): (usize, u8)| {
            interrupted()?;
            let some = PER_PROCESS.min(connections - made);
            Ready::start(namespace, &["crowd", &which.to_string(), &some.to_string()])
        });
        processes.collect::<Result<_>>().map(Self)
    }
}
