//! The kernel's tick: its rate, differences between its readings, and when a timer really fires.

use std::num::NonZeroU32;
use std::time::Duration;

/// The rates that kernels are built with: those of the common architectures first, then those that patched kernels and
/// rarer architectures offer (`kernel/Kconfig.hz`, `arch/*/Kconfig`).
const RATES: [u32; 17] = [100, 250, 300, 1000, 500, 600, 750, 24, 32, 48, 64, 128, 200, 256, 512, 1024, 1200];

/// The counter starts five minutes before it leaves 32 bits, so that code which cannot bear that is found early
/// (`INITIAL_JIFFIES` in `include/linux/jiffies.h`).
const SECONDS_BEFORE_WRAP: u32 = 300;

/// Slots of one level of the timer wheel, and by how many bits each level is coarser than the one below
/// (`LVL_SIZE` and `LVL_CLK_SHIFT` in `kernel/time/timer.c`).
const WHEEL_SLOTS: u64 = 64;
const WHEEL_SHIFT: u32 = 3;
const WHEEL_TOP_LEVEL: u32 = 8;

/// Where `timer_list.flags` keeps the slot that the timer was put in (`TIMER_ARRAYSHIFT`).
const SLOT_SHIFT: u32 = 22;

/// A stamp may be this much ahead of the reading that it is compared with: the two are not taken at once.
const STAMP_AHEAD_SECONDS: u32 = 60;

/// The kernel's tick, of which `hz` make a second. Readings are its lower 32 bits and wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jiffies {
    hz: NonZeroU32,
}

impl Jiffies {
    /// Ticks of a kernel with this `CONFIG_HZ`.
    #[must_use]
    pub const fn new(hz: NonZeroU32) -> Self {
        Self { hz }
    }

    /// How long before `now` the kernel noted `then`; zero where the stamp is up to a minute ahead. Right up to
    /// 2³² ticks, 49 days at 1000 a second.
    #[must_use]
    pub fn since(self, now: u32, then: u32) -> Duration {
        self.duration(self.ticks_since(now, then).into())
    }

    /// The same in ticks.
    #[must_use]
    pub fn ticks_since(self, now: u32, then: u32) -> u32 {
        let ticks = now.wrapping_sub(then);
        let ahead = self.hz.get().saturating_mul(STAMP_AHEAD_SECONDS);
        if ticks > u32::MAX.saturating_sub(ahead) { 0 } else { ticks }
    }

    /// So many ticks take `duration` at least.
    #[must_use]
    pub fn at_least(self, duration: Duration) -> u32 {
        u32::try_from(self.ticks_up(duration)).unwrap_or(u32::MAX)
    }

    /// How long after `now` the tick `then` comes; zero where it has passed.
    #[must_use]
    pub fn until(self, now: u32, then: u32) -> Duration {
        self.duration(Self::ticks_until(now, then).into())
    }

    /// The same in ticks.
    #[must_use]
    pub fn ticks_until(now: u32, then: u32) -> u32 {
        u32::try_from(then.wrapping_sub(now).cast_signed()).unwrap_or(0)
    }

    /// The whole milliseconds of so many ticks: those of [`Jiffies::duration`], which takes three divisions more.
    #[must_use]
    pub fn milliseconds(self, ticks: u32) -> u64 {
        u64::from(ticks) * 1_000 / u64::from(self.hz.get())
    }

    /// How long after `now` an armed timer really fires.
    ///
    /// Source: `timer_list.expires` (its lower 32 bits) and `timer_list.flags`, which say what level of the wheel
    /// the timer waits in. A level rounds up to its own grain: one armed for 26 s fires up to 2 s late at 250 Hz.
    #[must_use]
    pub fn until_fired(self, now: u32, expires: u32, flags: u32) -> Duration {
        let level = ((flags >> SLOT_SHIFT) / 64).min(WHEEL_TOP_LEVEL);
        let shift = WHEEL_SHIFT * level;
        let fires = (expires >> shift).wrapping_add(1) << shift;
        self.until(now, fires)
    }

    /// How long after `now` a timer fires that its own handler arms at that tick for `delay` ticks.
    #[must_use]
    pub fn until_armed_fires(self, now: u32, delay: u32) -> Duration {
        self.duration(Self::fires_at(now.into(), delay.into()) - u64::from(now))
    }

    /// The tick at which a timer fires that a timer's handler arms at tick `now` for `delay` ticks.
    pub(super) fn fires_at(now: u64, delay: u64) -> u64 {
        // While a handler runs, the wheel's own clock is one tick ahead.
        let distance = delay.saturating_sub(1);
        let level = (0..WHEEL_TOP_LEVEL).find(|level| distance < (WHEEL_SLOTS - 1) << (WHEEL_SHIFT * level));
        let shift = WHEEL_SHIFT * level.unwrap_or(WHEEL_TOP_LEVEL);
        (((now + delay) >> shift) + 1) << shift
    }

    /// This many ticks.
    #[must_use]
    pub fn duration(self, ticks: u64) -> Duration {
        let hz = u64::from(self.hz.get());
        let rest_ns = ticks % hz * 1_000_000_000 / hz;
        Duration::from_secs(ticks / hz) + Duration::from_nanos(rest_ns)
    }

    /// Whether so many ticks make up `duration`: what [`Jiffies::duration`] says of them, compared.
    pub(super) fn reach(self, ticks: u64, duration: Duration) -> bool {
        u128::from(ticks) * 1_000_000_000 >= duration.as_nanos() * u128::from(self.hz.get())
    }

    /// The whole ticks of a duration that the kernel keeps in ticks.
    pub(super) fn ticks(self, duration: Duration) -> u64 {
        let half_tick_ns = 500_000_000 / self.hz.get();
        self.full_ticks(duration.saturating_add(Duration::from_nanos(u64::from(half_tick_ns))))
    }

    /// The ticks that the kernel makes of a duration that it keeps in milliseconds: it rounds up (`msecs_to_jiffies`).
    pub(super) fn ticks_up(self, duration: Duration) -> u64 {
        let full = self.full_ticks(duration);
        if self.duration(full) < duration { full + 1 } else { full }
    }

    fn full_ticks(self, duration: Duration) -> u64 {
        let hz = u64::from(self.hz.get());
        let of_rest = u64::from(duration.subsec_nanos()) * hz / 1_000_000_000;
        // Bounded, so that sums of ticks stay far from overflow whatever is given.
        duration.as_secs().saturating_mul(hz).saturating_add(of_rest).min(u64::from(u32::MAX))
    }
}

/// The kernel's `CONFIG_HZ`, from one reading of `jiffies64` and of `CLOCK_MONOTONIC` at the same time.
///
/// Both begin at boot, but ticks may be lost before the clock source is chosen: jiffies were seen 250 ms behind and
/// are allowed 1 s. `None` where no rate fits or more than one does, which is so around five minutes after boot;
/// [`hz_among`] then tells.
#[must_use]
pub fn hz_from(jiffies64: u64, monotonic_ns: u64) -> Option<NonZeroU32> {
    only(|hz| {
        let hz = i128::from(hz);
        let ticks = i128::from(jiffies64) - (1 << 32) + i128::from(SECONDS_BEFORE_WRAP) * hz;
        let ahead_ms = (ticks * 1_000_000_000 / hz - i128::from(monotonic_ns)) / 1_000_000;
        (-1_000..=50).contains(&ahead_ms)
    })
}

/// The kernel's `CONFIG_HZ`, from the last of several readings and the earliest one that fits to it: on a virtual machine that
/// was not let run for some ticks a reading may be off by them.
#[must_use]
pub fn hz_among(readings: &[(u64, u64)]) -> Option<NonZeroU32> {
    let (last, earlier) = readings.split_last()?;
    earlier.iter().find_map(|earlier| hz_between(*earlier, *last))
}

/// The kernel's `CONFIG_HZ`, from two readings of (`jiffies64`, `CLOCK_MONOTONIC` in nanoseconds), half a second or
/// more apart. `None` where no rate fits or more than one does.
fn hz_between(earlier: (u64, u64), later: (u64, u64)) -> Option<NonZeroU32> {
    let ticks = i128::from(later.0) - i128::from(earlier.0);
    let elapsed_ns = i128::from(later.1) - i128::from(earlier.1);
    // Each reading can be off by the tick that it falls in.
    only(|hz| (ticks * 1_000_000_000 - elapsed_ns * i128::from(hz)).abs() <= 1_500_000_000)
}

fn only(fits: impl Fn(u32) -> bool) -> Option<NonZeroU32> {
    let mut fitting = RATES.into_iter().filter(|hz| fits(*hz));
    let found = fitting.next()?;
    if fitting.next().is_some() { None } else { NonZeroU32::new(found) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample;

    use super::*;
    use crate::time::milliseconds;

    proptest! {
        #[test]
        fn ticks_and_durations_are_compared_as_they_are_converted(
            hz in sample::select(&RATES),
            ticks in 0_u64..1 << 33,
            off_ns in 0_u64..3,
        ) {
            let jiffies = at_hz(hz);
            let duration = (jiffies.duration(ticks) + Duration::from_nanos(off_ns)).saturating_sub(Duration::from_nanos(1));
            prop_assert_eq!(jiffies.reach(ticks, duration), jiffies.duration(ticks) >= duration);
            if let Ok(ticks) = u32::try_from(ticks) {
                prop_assert_eq!(jiffies.milliseconds(ticks), milliseconds(jiffies.duration(ticks.into())));
            }
            let full = duration.as_nanos() * u128::from(hz) / 1_000_000_000;
            prop_assert_eq!(u128::from(jiffies.full_ticks(duration)), full.min(u32::MAX.into()));
        }
    }

    fn at_hz(hz: u32) -> Jiffies {
        Jiffies::new(NonZeroU32::new(hz).expect("a rate in a test is not zero"))
    }

    #[test]
    fn a_reading_that_is_off_by_some_ticks_is_made_up_for_by_others() {
        let reading = |ticks: u64, ms: u64| ((1 << 32) + ticks, ms * 1_000_000);
        let late = reading(0, 300_040);
        let hz = |readings: &[(u64, u64)]| hz_among(readings).map(NonZeroU32::get);
        assert_eq!(hz(&[]), None);
        assert_eq!(hz(&[late]), None);
        assert_eq!(hz(&[late, reading(150, 300_600)]), None);
        assert_eq!(hz(&[late, reading(150, 300_600), reading(300, 301_200)]), Some(250));
    }

    #[test]
    fn differences_survive_the_wrap_that_comes_five_minutes_after_boot() {
        let jiffies = at_hz(250);
        assert_eq!(jiffies.since(10, u32::MAX - 239), Duration::from_secs(1));
        assert_eq!(jiffies.until(u32::MAX - 239, 10), Duration::from_secs(1));
        assert_eq!(at_hz(300).duration(1), Duration::from_nanos(3_333_333));
    }

    #[test]
    fn a_stamp_ahead_of_the_reading_is_no_age_and_a_passed_timer_no_wait() {
        let jiffies = at_hz(1000);
        assert_eq!(jiffies.since(1_000, 1_003), Duration::ZERO);
        assert_eq!(jiffies.since(0, 1 << 31), Duration::from_millis(1 << 31));
        assert_eq!(jiffies.until(1_003, 1_000), Duration::ZERO);
    }

    #[test]
    fn milliseconds_round_up_to_ticks_and_ticks_come_back_whole() {
        for hz in RATES {
            let jiffies = at_hz(hz);
            for ticks in [0, 1, 2, 7, 51, 299, 12_345, 30_000_000] {
                assert_eq!(jiffies.ticks(jiffies.duration(ticks)), ticks, "{ticks} at {hz} Hz");
                assert_eq!(jiffies.ticks_up(jiffies.duration(ticks)), ticks, "{ticks} at {hz} Hz");
            }
        }
        assert_eq!(at_hz(250).ticks_up(Duration::from_millis(5)), 2);
        assert_eq!(at_hz(250).ticks_up(Duration::from_millis(4)), 1);
    }

    #[test]
    fn a_coarser_level_of_the_wheel_fires_later() {
        // 204 ms at 250 Hz stay in the finest level, one tick late; then 32 ms, 256 ms and 2048 ms of grain.
        assert_eq!(Jiffies::fires_at(1_000, 51), 1_052);
        assert_eq!(Jiffies::fires_at(1_000, 102), 1_104);
        // Measured: 63 ticks from a handler are still of the finest level.
        assert_eq!(Jiffies::fires_at(1_001, 63), 1_065);
        assert_eq!(Jiffies::fires_at(1_000, 816), 1_856);
        assert_eq!(Jiffies::fires_at(1_000, 6_528), 7_680);
        // The same by the level that the timer's flags name: slots 0 to 63 are the first, 192 to 255 the fourth.
        let jiffies = at_hz(250);
        assert_eq!(jiffies.until_fired(1_000, 1_051, 27 << SLOT_SHIFT), jiffies.duration(52));
        assert_eq!(jiffies.until_fired(1_000, 7_528, 206 << SLOT_SHIFT), jiffies.duration(6_680));
        assert_eq!(jiffies.until_fired(u32::MAX - 9, u32::MAX, 0), jiffies.duration(10));
    }

    #[test]
    fn the_rate_is_read_off_one_pair_of_clocks() {
        // Measured on 6.18.44: jiffies 250 ms behind the monotonic clock.
        assert_eq!(hz_from(4_295_359_326, 1_868_369_956_279).map(NonZeroU32::get), Some(250));
        let wrap = 1_u64 << 32;
        assert_eq!(hz_from(wrap + 3_300 * 1_000, 3_600_000_000_000).map(NonZeroU32::get), Some(1_000));
        assert_eq!(hz_from(wrap - 280 * 100, 20_000_000_000).map(NonZeroU32::get), Some(100));
        // 2 s behind fits nothing.
        assert_eq!(hz_from(wrap + 3_298 * 1_000, 3_600_000_000_000), None);
    }

    #[test]
    fn near_five_minutes_every_rate_looks_alike_and_two_readings_tell() {
        let wrap = 1_u64 << 32;
        assert_eq!(hz_from(wrap, 300_000_000_000), None);
        assert_eq!(hz_from(wrap + 250, 301_000_000_000), None);
        let later = (wrap + 125, 300_502_000_000);
        assert_eq!(hz_between((wrap, 300_000_000_000), later).map(NonZeroU32::get), Some(250));
        assert_eq!(hz_between((wrap, 300_000_000_000), (wrap + 2, 300_008_000_000)), None);
    }
}
