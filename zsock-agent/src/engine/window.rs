//! Probes of the peer's window, as far as they were told.

use std::time::Duration;

use crate::record::{Cause, Event, What, ZeroWindowProbe};
use crate::time::Time;

/// The longest tick of the kernel's clock: by it, what was received may seem as much older than it is.
const TICK: Duration = Duration::from_millis(10);

/// What the probes of a window say. With data in flight the retransmission timer does the persist timer's work: its time-outs at a
/// closed window are probes too.
#[derive(Debug, Default)]
pub(crate) struct WindowProbes {
    /// When the last one was sent.
    pub(crate) last_at: Option<Time>,
    /// When the one before was sent.
    pub(crate) previous_at: Option<Time>,
    /// The last one found its predecessor answered.
    pub(crate) previous_answered: Option<bool>,
    /// In a row without progress although the window was open.
    pub(crate) open_window: u32,
    /// In a row at a closed window.
    pub(crate) closed_window: u32,
    /// When the first of those was told.
    pub(crate) closed_since: Option<Time>,
    /// How many of those before the last one were answered; absent where it was not told of each of them.
    pub(crate) answered: Option<u32>,
    /// What was waiting to be sent with the last one.
    unsent_bytes: Option<u64>,
    /// Every one since the window was last seen open was told.
    is_whole: bool,
}

impl WindowProbes {
    /// Takes in an event. `last_received_at` is the last sign of life from the peer.
    pub(super) fn note(&mut self, at: Time, event: &Event, last_received_at: Option<Time>) {
        let window = event.tcp.send_window_bytes;
        if let What::ZeroWindowProbe(ZeroWindowProbe { probe, answered, .. }) = event.what {
            if window == Some(0) {
                let found_answer = answered.or_else(|| self.found_answer(event, last_received_at));
                self.count_closed(at, Some(probe), found_answer);
            }
            self.count_open(event);
            self.previous_at = self.last_at.replace(at);
            self.previous_answered = answered;
        }
        if let What::Retransmit(retransmit) = &event.what
            && window == Some(0)
        {
            if matches!(retransmit.cause, Some(Cause::Rto) | None) && !retransmit.failed {
                self.count_closed(at, None, self.found_answer(event, last_received_at));
            }
            self.previous_at = self.last_at.replace(at);
            self.previous_answered = None;
        }
        if let What::Sample(sample) = &event.what
            && let Some(probes) = sample.window_probes
            && window == Some(0)
        {
            self.count_unseen(at, probes);
        }
        if window > Some(0) {
            self.forget_closed();
        }
    }

    /// An ACK moved the connection.
    pub(super) fn note_progress(&mut self) {
        self.open_window = 0;
        self.forget_closed();
    }

    /// Records were lost; progress may be among them.
    pub(super) fn note_loss(&mut self) {
        self.open_window = 0;
        self.is_whole = false;
    }

    fn count_open(&mut self, event: &Event) {
        let unsent_before = std::mem::replace(&mut self.unsent_bytes, event.tcp.unsent_bytes);
        if unsent_before != self.unsent_bytes {
            self.open_window = 0;
        }
        if event.tcp.send_window_bytes > Some(0) {
            self.open_window += 1;
        }
    }

    /// Counts one at a closed window. Its number as told counts across what was lost, and begins anew after data went through.
    fn count_closed(&mut self, at: Time, told: Option<u32>, found_answer: Option<bool>) {
        let next = if self.is_whole { self.closed_window.saturating_add(1) } else { told.unwrap_or(1) };
        self.closed_window = told.map_or(next, |told| told.min(next)).max(1);
        let goes_on = self.is_whole && self.closed_window > 1;
        if !goes_on {
            self.closed_since = Some(at);
            self.answered = (self.closed_window == 1).then_some(0);
        } else if let Some(answered) = self.answered {
            self.answered = found_answer.map(|found| answered + u32::from(found));
        }
        self.is_whole = true;
    }

    /// Takes over a count of probes that were not told one by one.
    fn count_unseen(&mut self, at: Time, probes: u32) {
        if probes > self.closed_window {
            self.closed_window = probes;
            self.closed_since = self.closed_since.or(Some(at));
            self.answered = None;
        }
    }

    /// Whether something came from the peer since the last one; absent where that is not known.
    fn found_answer(&self, event: &Event, last_received_at: Option<Time>) -> Option<bool> {
        let is_answered = last_received_at?.after(TICK) >= self.last_at?;
        (is_answered || event.tcp.last_received_ms.is_some()).then_some(is_answered)
    }

    fn forget_closed(&mut self) {
        self.closed_window = 0;
        self.closed_since = None;
        self.answered = None;
        self.is_whole = true;
    }
}
