//! Deaths after idling, by destination, and when they speak of an idle time-out: what `idle_timeout_inferred` is judged from.
//!
//! A connection that idled, sent and then met a reset or silence may have been forgotten by something on the path. One such death
//! may have any reason, so several must agree:
//!
//! - Each of them idled for longer than the longest idle time after which that destination answered.
//! - Nothing but a time-out explains them. Where a single moment lies within the idle time of all of them, from the last segment that
//!   came to the first sending in vain, something may have happened then, once: a host that vanishes or a gateway that is restarted
//!   takes along all the connections that idle at that moment, whatever their age. It would take along those, too, that
//!   idled for less than others survived; so where three died and idled for longer than the longest survival, and that is at least half
//!   the shortest of them, it is excluded as well.
//! - A connection to that destination that died without having idled, or after idling for no longer than another one survived, tells of
//!   an outage. It explains every such death of a connection that it has any time in common with.
//!
//! Connections that this host accepted are left out: the port at their other end says nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Finding, Timeline};
use crate::detect::{Thresholds, by_name, idle_timeout_inferred};
use crate::record::{
    Body, Destination, DestinationSample, Event, Phase, Record, Severity, Subject, Tcp, Verdict, VerdictName,
    What,
};
use crate::time::Time;

/// Addresses remembered; the one whose last death is the oldest makes way.
const MAX_ADDRESSES: usize = 1024;

/// Deaths remembered of an address; of more, those after the longest idle times are only counted, for they say least.
const MAX_DEATHS: usize = 64;

/// Outages remembered of an address.
const MAX_OUTAGES: usize = 16;

/// A silent death after less says nothing of an idle time-out.
const IDLED: Duration = Duration::from_secs(1);

/// So many deaths speak against one moment where a survival brackets them.
const BRACKETED: u64 = 3;

/// What befell connections that idled, by where they went.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    addresses: BTreeMap<Destination, History>,
    /// The longest idle time that was answered anywhere in the neighbourhood of an address above.
    survived_around: BTreeMap<Destination, Duration>,
    /// What was said last of an address or a neighbourhood.
    said: BTreeMap<(Destination, How), Said>,
}

/// How connections die that idled for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    /// What they send is answered by a reset.
    Reset,
    /// What they send is not answered.
    Silence,
}

/// What the deaths that are left say of a destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Where the connections went.
    pub(crate) destination: Destination,
    /// How they died.
    pub(crate) how: How,
    /// They are enough and agree, so there is an idle time-out.
    pub(crate) holds: bool,
    /// How many.
    pub(crate) deaths: u64,
    /// The shortest idle time among them; absent where none is left.
    pub(crate) died_after: Option<Duration>,
    /// The longest idle time that was answered; absent where none was told.
    pub(crate) survived: Option<Duration>,
    /// The first sending in vain.
    pub(crate) since: Time,
    /// Records lost since then.
    pub(crate) lost: u64,
}

#[derive(Debug, Default)]
struct History {
    by_reset: Deaths,
    by_silence: Deaths,
    survived: Option<Duration>,
    last_died_at: Option<Time>,
}

#[derive(Debug, Default)]
struct Deaths {
    kept: Vec<Death>,
    /// How many more there were; each idled for longer than those kept.
    omitted: u64,
    /// From the last sign of life to the end of connections whose deaths no idle time explains.
    outages: VecDeque<(Time, Time)>,
}

/// The death of a connection that idled.
#[derive(Clone, Copy, Debug)]
struct Death {
    /// When it last heard from its peer.
    heard_at: Time,
    /// When it then sent for the first time.
    sent_at: Time,
    died_at: Time,
    /// Records lost so far.
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    held: bool,
    since: Time,
    /// What is not known of the time-out: between the longest idle time that was answered and the shortest that was not.
    gap: Duration,
}

impl Destinations {
    /// Takes in the verdicts that a record brought and gives those on destinations that follow. `lost` counts the records lost so far.
    pub(crate) fn note_deaths(
        &mut self,
        record: &Record,
        findings: &[Finding],
        thresholds: &Thresholds,
        lost: u64,
    ) -> Vec<Finding> {
        let mut inferred = Vec::new();
        for finding in findings {
            let Some((destination, how, death)) = death(record, finding, lost) else { continue };
            self.make_room_for(destination);
            let history = self.addresses.entry(destination).or_default();
            history.last_died_at = Some(death.died_at);
            history.add(how, death);
            inferred.extend(self.judge(record, destination, thresholds, lost));
        }
        inferred
    }

    /// Takes in how long a connection to a destination idled and was answered.
    pub(crate) fn note_survival(
        &mut self,
        record: &Record,
        sample: &DestinationSample,
        thresholds: &Thresholds,
        lost: u64,
    ) -> Vec<Finding> {
        let DestinationSample { destination, survived_ms } = *sample;
        let (survived, around) = (Duration::from_millis(survived_ms), destination.neighbourhood());
        if let Some(history) = self.addresses.get_mut(&destination) {
            history.note_survival(survived);
        }
        if self.within(around).next().is_none() {
            return Vec::new();
        }
        let longest = self.survived_around.entry(around).or_default();
        *longest = survived.max(*longest);
        self.judge(record, destination, thresholds, lost)
    }

    /// The addresses towards which a connection died after idling.
    pub(crate) fn suspects(&self) -> impl Iterator<Item = Destination> {
        let is_suspect =
            |history: &History| !history.by_reset.kept.is_empty() || !history.by_silence.kept.is_empty();
        self.addresses.iter().filter(move |(_, history)| is_suspect(history)).map(|(address, _)| *address)
    }

    /// The verdicts that the deaths towards an address and its neighbourhood bring now.
    fn judge(
        &mut self,
        record: &Record,
        address: Destination,
        thresholds: &Thresholds,
        lost: u64,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for how in [How::Reset, How::Silence] {
            let own = self.addresses.get(&address).map(|history| {
                let Deaths { kept, omitted, .. } = history.deaths(how);
                bound(address, how, kept.iter(), *omitted, history.survived, (thresholds, lost))
            });
            let around = self.bound_around(address.neighbourhood(), how, (thresholds, lost));
            for bound in own.into_iter().chain(around) {
                findings.extend(self.tell(record, &bound));
            }
        }
        findings
    }

    /// What the deaths in a neighbourhood say together; nothing new where an address in it has enough of its own.
    fn bound_around(
        &self,
        around: Destination,
        how: How,
        (thresholds, lost): (&Thresholds, u64),
    ) -> Option<Bound> {
        let least = u64::from(thresholds.idle_timeout_inferred);
        let was_said = self.said.contains_key(&(around, how));
        if !was_said && self.within(around).any(|history| history.deaths(how).count() >= least) {
            return None;
        }
        let survived = self.survived_around.get(&around).copied();
        let deaths = self.within(around).flat_map(|history| &history.deaths(how).kept);
        let deaths = deaths.filter(|death| Some(death.idle()) > survived);
        Some(bound(around, how, deaths, 0, survived, (thresholds, lost)))
    }

    /// The finding, where the bound says anything new.
    fn tell(&mut self, record: &Record, bound: &Bound) -> Option<Finding> {
        let said = self.said.get(&(bound.destination, bound.how)).copied();
        let gap = bound.died_after.unwrap_or_default().saturating_sub(bound.survived.unwrap_or_default());
        let is_news = match said {
            None => bound.holds,
            // Less than a tenth would tell nobody anything.
            Some(said) => said.held != bound.holds || (bound.holds && gap * 10 <= said.gap * 9),
        };
        if !is_news {
            return None;
        }
        let since = said.map_or(bound.since, |said| said.since);
        self.said.insert((bound.destination, bound.how), Said { held: bound.holds, since, gap });
        let phase = if said.is_some() { Phase::Updated } else { Phase::Opened };
        Some(finding(record, &Bound { since, ..*bound }, phase))
    }

    /// The histories of the addresses in a neighbourhood, with its port.
    fn within(&self, around: Destination) -> impl Iterator<Item = &History> {
        let first = Destination { net: around.net.network().into(), port: around.port };
        let last = Destination { net: around.net.broadcast().into(), port: around.port };
        self.addresses
            .range(first..=last)
            .filter(move |(address, _)| address.port == around.port)
            .map(|(_, history)| history)
    }

    fn make_room_for(&mut self, destination: Destination) {
        if self.addresses.len() < MAX_ADDRESSES || self.addresses.contains_key(&destination) {
            return;
        }
        let oldest = self.addresses.iter().min_by_key(|(_, history)| history.last_died_at);
        let Some(oldest) = oldest.map(|(address, _)| *address) else { return };
        self.addresses.remove(&oldest);
        let around = oldest.neighbourhood();
        let is_last = self.within(around).next().is_none();
        if is_last {
            self.survived_around.remove(&around);
        }
        self.said.retain(|(said, _), _| *said != oldest && !(is_last && *said == around));
    }
}

impl History {
    fn deaths(&self, how: How) -> &Deaths {
        match how {
            How::Reset => &self.by_reset,
            How::Silence => &self.by_silence,
        }
    }

    /// Remembers a death, or the outage that it tells of.
    fn add(&mut self, how: How, death: Death) {
        let survived = self.survived;
        let deaths = match how {
            How::Reset => &mut self.by_reset,
            How::Silence => &mut self.by_silence,
        };
        if death.idle() < IDLED || Some(death.idle()) <= survived {
            deaths.note_outage(&death);
        } else if !deaths.outages.iter().any(|outage| death.overlaps(*outage)) {
            deaths.add(death);
        }
    }

    fn note_survival(&mut self, survived: Duration) {
        self.survived = self.survived.max(Some(survived));
        for deaths in [&mut self.by_reset, &mut self.by_silence] {
            let contradicted: Vec<Death> =
                deaths.kept.iter().filter(|death| death.idle() <= survived).copied().collect();
            for death in contradicted {
                deaths.note_outage(&death);
            }
        }
    }
}

impl Deaths {
    fn count(&self) -> u64 {
        self.kept.len() as u64 + self.omitted
    }

    fn add(&mut self, death: Death) {
        let place = self.kept.partition_point(|kept| kept.idle() <= death.idle());
        self.kept.insert(place, death);
        if self.kept.len() > MAX_DEATHS {
            self.kept.pop();
            self.omitted += 1;
        }
    }

    fn note_outage(&mut self, death: &Death) {
        if self.outages.len() == MAX_OUTAGES {
            self.outages.pop_front();
        }
        let outage = (death.heard_at, death.died_at);
        self.outages.push_back(outage);
        self.retain(|death| !death.overlaps(outage));
    }

    fn retain(&mut self, stands: impl Fn(&Death) -> bool) {
        let before = self.kept.len();
        self.kept.retain(stands);
        if self.kept.len() < before {
            // Whether those omitted stand cannot be told any more.
            self.omitted = 0;
        }
    }
}

impl Death {
    fn idle(&self) -> Duration {
        self.sent_at.since(self.heard_at)
    }

    /// Whether the connection has any time between its last sign of life and its end in common with an outage.
    fn overlaps(&self, (from, to): (Time, Time)) -> bool {
        self.heard_at <= to && from <= self.died_at
    }
}

/// The death that a verdict tells, towards which address, and how.
fn death(record: &Record, finding: &Finding, lost: u64) -> Option<(Destination, How, Death)> {
    let Body::Verdict(verdict) = &finding.record.body else { return None };
    let (socket, tcp) = verdict.socket()?;
    let (how, heard_at, idle) = if verdict.verdict == VerdictName::StaleReset {
        let idle_ms = verdict.evidence.get("idle_ms")?.as_u64()?;
        (How::Reset, verdict.since, Duration::from_millis(idle_ms))
    } else if verdict.verdict == VerdictName::SilentDeath {
        let silent = Duration::from_millis(tcp.last_received_ms?);
        (How::Silence, record.at.before(silent), idle_before_silence(record.event()?, tcp, silent)?)
    } else {
        return None;
    };
    let sent_at = heard_at.after(idle);
    Some((Destination::of(socket.remote?), how, Death { heard_at, sent_at, died_at: record.at, lost }))
}

/// How long a connection had idled when it first sent what was never answered, `silent` after the last sign of life.
fn idle_before_silence(event: &Event, tcp: &Tcp, silent: Duration) -> Option<Duration> {
    if let Some(stalled_ms) = tcp.stalled_ms {
        return silent.checked_sub(Duration::from_millis(stalled_ms));
    }
    // With nothing in flight keepalive alone sends; its first probe comes an idle time after the last sign of life.
    let What::Closed(closed) = &event.what else { return None };
    let is_quiet = tcp.unacked_bytes == Some(0) && tcp.unsent_bytes == Some(0) && !closed.fin_unacked;
    let keepalive = tcp.keepalive.filter(|keepalive| keepalive.enabled && is_quiet)?;
    Some(Duration::from_millis(keepalive.idle_ms)).filter(|idle| *idle <= silent)
}

/// What deaths say together. `lost` counts the records lost so far.
fn bound<'a>(
    destination: Destination,
    how: How,
    deaths: impl Iterator<Item = &'a Death>,
    omitted: u64,
    survived: Option<Duration>,
    (thresholds, lost): (&Thresholds, u64),
) -> Bound {
    let deaths: Vec<&Death> = deaths.collect();
    let shortest = deaths.iter().map(|death| death.idle()).min();
    let is_bracketed = survived.zip(shortest).is_some_and(|(survived, died)| survived * 2 >= died);
    // Else a short idle time is none to speak of.
    let is_proven = |death: &&Death| is_bracketed || death.idle() >= thresholds.stale_reset;
    let (proven, unproven): (Vec<&Death>, Vec<&Death>) = deaths.into_iter().partition(is_proven);
    let outages: Vec<_> = unproven.iter().map(|death| (death.heard_at, death.died_at)).collect();
    let deaths: Vec<&Death> =
        proven.into_iter().filter(|death| !outages.iter().any(|outage| death.overlaps(*outage))).collect();
    let count = deaths.len() as u64 + omitted;
    let first_sent_at = deaths.iter().map(|death| death.sent_at).min();
    let last_heard_at = deaths.iter().map(|death| death.heard_at).max();
    let have_a_moment_in_common = last_heard_at < first_sent_at;
    let died_after = deaths.iter().map(|death| death.idle()).min();
    let least = u64::from(thresholds.idle_timeout_inferred);
    let lost_before = deaths.iter().map(|death| death.lost).min().unwrap_or(lost);
    Bound {
        destination,
        how,
        holds: count >= least && (!have_a_moment_in_common || is_bracketed && count >= BRACKETED),
        deaths: count,
        died_after,
        survived,
        since: first_sent_at.unwrap_or(Time::from_unix_ns(0)),
        lost: lost - lost_before,
    }
}

fn finding(record: &Record, bound: &Bound, phase: Phase) -> Finding {
    let claim = idle_timeout_inferred::claim(bound);
    let verdict = Verdict {
        verdict: VerdictName::IdleTimeoutInferred,
        phase,
        outcome: None,
        severity: if bound.holds { Severity::Warning } else { Severity::Info },
        subject: Subject::Destination { destination: bound.destination },
        since: claim.since,
        evidence: by_name(claim.evidence),
        summary: claim.summary,
        advice: claim.advice,
    };
    let body = Body::Verdict(Box::new(verdict));
    Finding { record: Record::new(record.at, &record.host, body), timeline: Timeline::default() }
}
