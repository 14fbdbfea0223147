//! The periodic pass: when it begins, what it cost, and when the next one may come.

use std::time::Duration;

use caps::Capability;
use tokio::time::Instant;

use crate::privileges::capabilities;
use crate::sink::metrics::Passes;
use crate::source::clock;
use crate::source::kernel::Kernel;
use crate::source::kernel::looks::Pass;

/// A pass takes no more than a tenth of the time, by the processor's time: on a busy machine it may be long under way.
const SHARE: u32 = 10;

/// A pass begins after this much of the interval, in percent, so that what it finds is out within the interval.
const EARLY_PERCENT: u32 = 85;

/// When passes come.
pub(super) struct Schedule {
    interval: Duration,
    /// Passes come so many times as seldom as they might.
    rarity: u32,
    /// What the last one took, processor time.
    took: Duration,
    next: Instant,
    running: Option<Running>,
    /// The interval that was told last where it was longer than the one asked for.
    slowed: Option<Duration>,
    /// Whether it was told that network namespaces cannot be looked into.
    told_refusal: bool,
    passes: Passes,
}

struct Running {
    pass: Pass,
    began: Instant,
    /// Processor time.
    took: Duration,
}

impl Schedule {
    /// Passes every `interval`, the first at once.
    pub(super) fn every(interval: Duration) -> Self {
        let next = Instant::now();
        // What is lost without the capability to enter them was said at the start.
        let told_refusal = capabilities::lacks(Capability::CAP_SYS_ADMIN);
        Self {
            interval,
            rarity: 1,
            took: Duration::ZERO,
            next,
            running: None,
            slowed: None,
            told_refusal,
            passes: Passes::default(),
        }
    }

    /// Lets passes come half as often as they might, for good. Returns the time between two of them, if they take as long as the last one.
    pub(super) fn halve(&mut self) -> Duration {
        self.rarity *= 2;
        self.slowed = None;
        self.interval_of(self.took)
    }

    /// The time from one pass to the next where each takes so much processor time.
    fn interval_of(&self, took: Duration) -> Duration {
        self.interval.max(took * SHARE) * self.rarity
    }

    /// Waits until a pass is to begin or to go on.
    pub(super) async fn due(&self) {
        if self.running.is_none() {
            tokio::time::sleep_until(self.next).await;
        }
    }

    /// Whether a pass is to begin now.
    pub(super) fn begins(&self) -> bool {
        self.running.is_none() && self.next <= Instant::now()
    }

    /// Takes over a pass that began at `began` and has taken so much processor time.
    pub(super) fn begun(&mut self, pass: Pass, began: Instant, took: Duration) {
        self.running = Some(Running { pass, began, took });
    }

    /// Puts the next pass off after one that could not begin.
    pub(super) fn failed(&mut self) {
        self.next = Instant::now() + self.interval_of(Duration::ZERO);
    }

    /// Takes one step of the pass that is under way. Returns whether that was the last.
    pub(super) fn step(&mut self, kernel: &mut Kernel) -> bool {
        let Some(running) = &mut self.running else { return false };
        let before = clock::thread_cpu();
        let goes_on = kernel.step(&mut running.pass);
        running.took += clock::thread_cpu().saturating_sub(before);
        if !goes_on && let Some(done) = self.running.take() {
            self.end(done);
        }
        !goes_on
    }

    /// What passes cost so far.
    pub(super) fn passes(&self) -> Passes {
        self.passes
    }

    fn end(&mut self, Running { pass, began, took }: Running) {
        if let Some((namespace, error)) = pass.failed.first() {
            let level = if self.told_refusal { log::Level::Debug } else { log::Level::Warn };
            log::log!(
                level,
                "{} network namespaces cannot be looked into, {namespace} among them: {error:#}; what is silent there is not seen",
                pass.failed.len()
            );
            self.told_refusal = true;
        }
        let (interval, wanted) = (self.interval_of(took), self.interval_of(Duration::ZERO));
        // The first one leaves out nothing, and may be slow alone.
        let was_slow = self.interval_of(self.took) > wanted;
        self.took = took;
        self.next = began + (interval * EARLY_PERCENT / 100).max(took * SHARE);
        let told = self.slowed.unwrap_or(wanted);
        if was_slow && (interval > told * 2 || interval > told && self.slowed.is_none()) {
            log::warn!(
                "a pass over all sockets takes {took:.1?}: they come every {interval:.1?} instead of every {wanted:.1?}, so that zsock \
                 stays light; verdicts that time alone reveals come later"
            );
            self.slowed = Some(interval);
        } else if interval == wanted && self.slowed.take().is_some() {
            log::warn!("passes over all sockets come every {interval:.1?} again");
        }
        log::debug!("pass: {took:.1?} for {} network namespaces that are not at rest", pass.walked);
        self.passes = Passes {
            count: self.passes.count + 1,
            cpu: self.passes.cpu + took,
            interval: Some(interval),
            unseen_namespaces: Some(pass.failed.len() as u64),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_that_became_rare_after_a_slow_one_are_no_rarer_than_their_steps_once_they_are_quick_again() {
        let [quick, slow] = [5, 500].map(Duration::from_millis);
        let mut schedule = Schedule::every(Duration::from_secs(1));
        schedule.took = slow;
        let told = [1, 2, 3, 4].map(|_| schedule.halve().as_secs());
        assert_eq!(told, [10, 20, 40, 80]);
        assert_eq!(schedule.interval_of(quick), Duration::from_secs(16));
    }
}
