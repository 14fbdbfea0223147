//! What to do without so that zsock keeps within `--max-cpu`: decided by what was used, of which others tell.
//!
//! Reads no clock. What is given up does not come back within a run: programs cannot be loaded once zsock has given up its rights, and
//! what comes and goes with the load would make every verdict depend on it.

use std::time::Duration;

/// Use is judged over so long: a burst that is over after a second or two, such as the beginning of a storm, costs nothing for good, and a
/// use that lasts is answered before anybody looks twice. After each step as long is waited, for only then it shows what the step saved.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// What takes less than this part of what is too much, and of the limit, would bring nothing, and stays: no verdict gets poorer for that.
const NEGLIGIBLE_OF_EXCESS: u32 = 10;
const NEGLIGIBLE_OF_LIMIT: u32 = 4;

/// What was used until a moment.
#[derive(Clone, Debug)]
pub(super) struct Used<T> {
    /// The moment.
    pub(super) at: Duration,
    /// Processor time of the process.
    pub(super) agent: Duration,
    /// Time of programs in hooks, which run on whatever processor; absent where the kernel does not count it.
    pub(super) hooks: Option<Duration>,
    /// What zsock could do without, and of each what it has taken so far, as far as that is known: those first that go first where it is
    /// not. Only a thing whose time never is known may stand last.
    pub(super) spare: Vec<(T, Option<Duration>)>,
}

/// That too much was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excess<T> {
    /// So much of one processor, in tenths of a percent, rounded up: one that is just above the limit does not read like the limit.
    pub(super) tenths: u32,
    /// What to do without from here on; absent where nothing is left.
    pub(super) shed: Option<T>,
}

/// What a look at the use says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement<T> {
    /// The window goes on.
    Early,
    /// The limit was kept in the window that is over.
    Kept,
    /// It was not.
    Exceeded(Excess<T>),
}

/// The limit, and what was used when it was looked at last.
#[derive(Debug)]
pub(super) struct Limit<T> {
    max_percent: u32,
    since: Used<T>,
}

impl<T: Copy + PartialEq> Limit<T> {
    /// A limit that holds from the moment of `used` on: the start is no part of it.
    pub(super) const fn new(max_percent: u32, used: Used<T>) -> Self {
        Self { max_percent, since: used }
    }

    pub(super) const fn max_percent(&self) -> u32 {
        self.max_percent
    }

    /// Begins a window anew.
    pub(super) fn begin_anew(&mut self, used: Used<T>) {
        self.since = used;
    }

    /// Judges what was used in the window, once it is over.
    pub(super) fn judge(&mut self, used: Used<T>) -> Judgement<T> {
        let window = used.at.saturating_sub(self.since.at);
        if window < WINDOW {
            return Judgement::Early;
        }
        let before = std::mem::replace(&mut self.since, used);
        let used = &self.since;
        let programs = used.hooks.zip(before.hooks).map_or(Duration::ZERO, difference);
        let taken = difference((used.agent, before.agent)) + programs;
        let allowed = window * self.max_percent / 100;
        if taken <= allowed {
            return Judgement::Kept;
        }
        let negligible =
            (difference((taken, allowed)) / NEGLIGIBLE_OF_EXCESS).min(allowed / NEGLIGIBLE_OF_LIMIT);
        Judgement::Exceeded(Excess {
            tenths: u32::try_from((taken.as_nanos() * 1_000).div_ceil(window.as_nanos())).unwrap_or(u32::MAX),
            shed: choose(&costs(used, &before), taken, negligible),
        })
    }
}

/// What each thing took in the window, where that is known.
fn costs<T: Copy + PartialEq>(used: &Used<T>, before: &Used<T>) -> Vec<(T, Option<Duration>)> {
    let cost = |(what, now): &(T, Option<Duration>)| {
        let earlier = before.spare.iter().find(|(earlier, _)| earlier == what).and_then(|(_, taken)| *taken);
        (*what, now.zip(earlier).map(difference))
    };
    used.spare.iter().map(cost).collect()
}

/// The costliest where of all but the last it is known what they cost, or where it takes half of all that was used. Else the first of those
/// that may cost something.
fn choose<T: Copy>(costs: &[(T, Option<Duration>)], taken: Duration, negligible: Duration) -> Option<T> {
    let known = costs.iter().filter_map(|(what, cost)| Some((*what, (*cost)?)));
    let costliest = known.max_by_key(|(_, cost)| *cost).filter(|(_, cost)| *cost >= negligible);
    let is_known = costs.split_last().is_none_or(|(_, others)| others.iter().all(|(_, cost)| cost.is_some()));
    if let Some((what, cost)) = costliest
        && (is_known || cost * 2 >= taken)
    {
        return Some(what);
    }
    let first = costs.iter().find(|(_, cost)| cost.is_none_or(|cost| cost >= negligible));
    first.map(|(what, _)| *what)
}

fn difference((now, before): (Duration, Duration)) -> Duration {
    now.saturating_sub(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_PERCENT: u32 = 10;

    /// So many milliseconds of the process and, where they are counted, of hooks; the same of things to do without, by their names.
    fn used(
        at_s: u64,
        agent_ms: u64,
        hooks_ms: Option<u64>,
        spare: &[(&'static str, Option<u64>)],
    ) -> Used<&'static str> {
        let ms = Duration::from_millis;
        let spare = spare.iter().map(|(what, taken)| (*what, taken.map(ms))).collect();
        Used { at: Duration::from_secs(at_s), agent: ms(agent_ms), hooks: hooks_ms.map(ms), spare }
    }

    fn limit(spare: &[(&'static str, Option<u64>)]) -> Limit<&'static str> {
        let none = spare.iter().map(|(what, taken)| (*what, taken.map(|_| 0))).collect::<Vec<_>>();
        Limit::new(MAX_PERCENT, used(100, 3_000, Some(0), &none))
    }

    /// What is shed after a window in which the process took `agent_ms` of 5 s, which is too much.
    fn shed(agent_ms: u64, spare: &[(&'static str, Option<u64>)]) -> Option<&'static str> {
        excess(limit(spare).judge(used(105, 3_000 + agent_ms, Some(0), spare))).expect("too much").shed
    }

    fn excess(judgement: Judgement<&'static str>) -> Option<Excess<&'static str>> {
        match judgement {
            Judgement::Early | Judgement::Kept => None,
            Judgement::Exceeded(excess) => Some(excess),
        }
    }

    #[test]
    fn what_is_used_beyond_the_limit_costs_the_costliest_thing() {
        let spare = [("timers", Some(30)), ("accepts", Some(90)), ("passes", Some(60)), ("events", None)];
        assert_eq!(shed(501, &spare), Some("accepts"));
    }

    #[test]
    fn what_is_used_up_to_the_limit_costs_nothing() {
        let spare = [("timers", Some(30)), ("events", None)];
        assert_eq!(limit(&spare).judge(used(105, 3_500, Some(0), &spare)), Judgement::Kept);
        assert_eq!(limit(&spare).judge(used(104, 9_000, Some(0), &spare)), Judgement::Early);
    }

    #[test]
    fn the_time_of_programs_counts_where_the_kernel_tells_it() {
        let spare = [("timers", Some(150)), ("events", None)];
        let with = |hooks_ms| limit(&spare).judge(used(105, 3_400, hooks_ms, &spare));
        assert_eq!(with(Some(100)), Judgement::Kept);
        assert_eq!(with(Some(150)), Judgement::Exceeded(Excess { tenths: 110, shed: Some("timers") }));
        assert_eq!(excess(with(Some(101))).unwrap().tenths, 101, "10.02 %");
        assert_eq!(with(None), Judgement::Kept, "400 ms of its own");
    }

    #[test]
    fn one_thing_goes_at_a_time_and_a_window_is_waited_before_the_next() {
        let spare = [("timers", None), ("accepts", None), ("passes", Some(0)), ("events", None)];
        let mut limit = limit(&spare);
        let mut left = spare.to_vec();
        let mut told = Vec::new();
        for at_s in 101..=126 {
            // 90 % all the time.
            let judgement = limit.judge(used(at_s, 3_000 + (at_s - 100) * 900, Some(0), &left));
            if let Some(Excess { shed, .. }) = excess(judgement) {
                left.retain(|(what, _)| Some(*what) != shed);
                told.push((at_s, shed));
            }
        }
        let expected =
            [(105, Some("timers")), (110, Some("accepts")), (115, Some("events")), (120, None), (125, None)];
        assert_eq!(told, expected, "passes that take nothing stay as they are");
    }

    #[test]
    fn where_costs_are_not_known_it_goes_by_order_unless_one_is_half_of_all() {
        let hooks = [("timers", None), ("accepts", None)];
        let with = |passes_ms| [hooks[0], hooks[1], ("passes", Some(passes_ms)), ("events", None)];
        assert_eq!(shed(600, &with(299)), Some("timers"));
        assert_eq!(shed(600, &with(300)), Some("passes"));
        assert_eq!(shed(600, &[("passes", Some(299)), ("events", None)]), Some("passes"));
    }

    #[test]
    fn what_would_bring_nothing_stays_and_what_nobody_can_measure_goes_last() {
        // Of 500 ms a quarter, of 100 ms too much a tenth.
        for (taken, little, enough) in [(2_000, 124, 125), (600, 9, 10)] {
            let spare = [("timers", Some(little)), ("passes", Some(little)), ("events", None)];
            assert_eq!(shed(taken, &spare), Some("events"));
            assert_eq!(shed(taken, &[("timers", Some(little)), ("passes", Some(enough))]), Some("passes"));
            assert_eq!(shed(taken, &[("timers", Some(little))]), None);
        }
        assert_eq!(shed(2_000, &[]), None);
    }

    #[test]
    fn a_kernel_that_begins_to_count_within_a_window_tells_nothing_of_it() {
        let mut limit = Limit::new(MAX_PERCENT, used(100, 0, None, &[("timers", None), ("events", None)]));
        let first = limit.judge(used(105, 400, Some(9_000), &[("timers", Some(9_000)), ("events", None)]));
        assert_eq!(first, Judgement::Kept);
        let next = limit.judge(used(110, 800, Some(9_200), &[("timers", Some(9_150)), ("events", None)]));
        assert_eq!(excess(next).and_then(|excess| excess.shed), Some("timers"));
    }
}
