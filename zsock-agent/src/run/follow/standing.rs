//! How it all stands, for metrics.

use super::Trace;
use crate::sink::metrics::Standing;

impl Trace {
    /// Hands over to those who ask for metrics how it all stands.
    pub(super) fn tell_standing(&self) {
        let counters = self.kernel.counters().ok();
        let connections = self.kernel.connections().ok();
        self.output.metrics().stand(Standing {
            sockets: self.kernel.sockets_by_state(),
            established: connections.map(|connections| connections.established),
            closed: connections.map(|connections| connections.closed),
            kernel_records: counters.map(|counters| counters.produced),
            unstored: counters.map(|counters| counters.forgotten),
            remembered: self.assembler.remembered() as u64,
            forgotten: self.assembler.forgotten(),
            dropped: self.output.counters().sockets_dropped,
            passes: self.schedule.passes(),
            programs: self.program_runs(),
        });
    }
}
