//! From records to a report: judged again, kept where a verdict was given, put in order at the end.

use std::time::Duration;

use super::join::{Joined, join};
use super::others::Others;
use super::runs::{Overrides, Runs};
use super::stories::{Key, Stories, is_of_socket};
use super::{Moment, Report, Story, incidents};
use crate::record::{Body, Outcome, Phase, Record, SocketId, Subject, Verdict, VerdictName, What};
use crate::recording::read::{Damage, Next};
use crate::select::Selectors;
use crate::time::Time;

/// More damages are counted, and not listed.
const DAMAGES: usize = 1000;

/// What only the live trace can tell: by a look at the process, or by a loss of which it knew before it could be written down.
const LIVE_FACTS: [&str; 3] = ["blocked_threads", "blocked_in", "lost_before"];

/// What is judged how, and what of it is shown.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which verdicts are shown.
    pub selectors: Selectors,
    /// Only the stories of these sockets, with or without a verdict; all where empty.
    pub sockets: Vec<SocketId>,
    /// Verdicts given before it are not shown.
    pub since: Option<Moment>,
    /// Verdicts given after it are not shown.
    pub until: Option<Moment>,
    /// Thresholds in place of those of the recording, as the command line has them.
    pub thresholds: Vec<String>,
    /// In place of that of the recording.
    pub assumed_idle_timeout: Option<Duration>,
    /// There may be recordings of both ends: of connections that ended in health it is kept for a while how they went.
    pub keeps_ends: bool,
}

impl Options {
    /// The first and the last moment of which verdicts are shown, in recordings that end at `end`.
    #[must_use]
    pub fn window(&self, end: Time) -> (Option<Time>, Option<Time>) {
        let since = self.since.map(|since| since.as_beginning(end));
        (since, self.until.map(|until| until.as_end(since, end)))
    }
}

/// Builds a report from records, in the order in which they were recorded.
#[derive(Debug)]
pub struct Builder {
    options: Options,
    runs: Runs,
    stories: Stories,
    others: Others,
    damages: Vec<Damage>,
    damages_dropped: u64,
    repeated: u64,
    /// Verdicts given so far.
    order: u64,
    /// Those of this moment: a recording tells them right after what brought them.
    fresh: Vec<Fresh>,
}

/// A verdict that the engine just gave.
#[derive(Debug)]
struct Fresh {
    run: usize,
    at: Time,
    name: (VerdictName, Phase, Option<Outcome>),
    key: Key,
    order: u64,
    /// Absent where it is not shown.
    story: Option<usize>,
}

impl Builder {
    /// Nothing read yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let overrides = Overrides {
            thresholds: options.thresholds.clone(),
            assumed_idle_timeout: options.assumed_idle_timeout,
        };
        Self {
            options,
            runs: Runs::new(overrides),
            stories: Stories::default(),
            others: Others::default(),
            damages: Vec::new(),
            damages_dropped: 0,
            repeated: 0,
            order: 0,
            fresh: Vec::new(),
        }
    }

    /// Takes in what comes next.
    pub fn push(&mut self, next: Next) {
        match next {
            Next::Record(record) => self.take(&record),
            Next::Damage(damage) if self.damages.len() < DAMAGES => self.damages.push(damage),
            Next::Damage(_) => self.damages_dropped += 1,
        }
    }

    /// The report on all that was taken in.
    #[must_use]
    pub fn finish(self) -> Report {
        let end = self.runs.end();
        let (stories, stories_dropped) = self.stories.finish();
        let mut stories = match end {
            Some(end) => shown(stories, &self.options, end),
            None => stories,
        };
        self.others.join(&self.runs, &mut stories);
        stories.sort_by_key(began);
        let (runs, sockets_dropped) = self.runs.finish();
        let Joined { joins, clocks, unjoined } = join(&runs, &mut stories, &self.options.sockets);
        let incidents = incidents::of(&runs, &stories);
        Report {
            runs,
            stories,
            incidents,
            joins,
            unjoined,
            clocks,
            damages: self.damages,
            damages_dropped: self.damages_dropped,
            repeated: self.repeated,
            stories_dropped,
            sockets_dropped,
        }
    }

    fn take(&mut self, record: &Record) {
        let run = self.runs.of(record);
        if self.runs.get_mut(run).parts.have(record) {
            self.repeated += 1;
            return;
        }
        self.runs.get_mut(run).note(record);
        if let Body::Verdict(verdict) = &record.body {
            self.recall(run, record, verdict);
        } else {
            self.judge(run, record);
        }
    }

    fn judge(&mut self, run: usize, record: &Record) {
        if self.fresh.first().is_some_and(|fresh| fresh.at != record.at) {
            self.fresh.clear();
        }
        self.note_bystander(run, record);
        let watched = self.runs.get_mut(run);
        watched.happened_at = Some(record.at);
        let findings = watched.engine().push(record);
        if let Some(event) = record.event().filter(|event| is_of_socket(event))
            && let Some(story) = self.stories.of_socket(run, event.socket.id)
        {
            self.stories.go_on(story, record.at, event);
        }
        for finding in findings {
            let Body::Verdict(verdict) = &finding.record.body else { continue };
            if !self.stories.fits(run, verdict) {
                continue;
            }
            let (at, name, key) = (finding.record.at, name(verdict), Key::of(&verdict.subject));
            let order = self.order;
            self.order += 1;
            let story = if self.is_wanted(&finding.record) {
                self.stories.tell(run, finding.record, order, Some(finding.timeline))
            } else {
                None
            };
            self.fresh.push(Fresh { run, at, name, key, order, story });
        }
    }

    /// Begins the story of a socket that has no verdict and is asked for, or may be the other end of one that has.
    fn note_bystander(&mut self, run: usize, record: &Record) {
        let Some(event) = record.event().filter(|event| is_of_socket(event)) else { return };
        let socket = &event.socket;
        let is_wanted = self.options.sockets.contains(&socket.id) || self.stories.want(socket);
        let ends_here = self.options.keeps_ends && matches!(event.what, What::Closed(_));
        if !(is_wanted || ends_here) || self.stories.of_socket(run, socket.id).is_some() {
            return;
        }
        let timeline = self.runs.get_mut(run).engine().timeline_of(socket.id).cloned().unwrap_or_default();
        if is_wanted {
            self.stories.begin(run, record.at, event, timeline);
        } else {
            self.others.keep(run, record.at, event, timeline);
        }
    }

    /// A verdict that was given live. Where its events were recorded too it has just been given again; then it tells what was seen of
    /// the live process alone.
    fn recall(&mut self, run: usize, record: &Record, verdict: &Verdict) {
        let key = Key::of(&verdict.subject);
        let again = self.fresh.iter().position(|fresh| {
            fresh.run == run && fresh.at == record.at && fresh.name == name(verdict) && fresh.key == key
        });
        let is_judged_anew = self.runs.are_judged_anew();
        let watched = self.runs.get_mut(run);
        if let Some(again) = again {
            let Fresh { story, order, .. } = self.fresh.swap_remove(again);
            let Some(story) = story else { return };
            // What a process's verdict counts among its sockets rests on their events.
            let lacks_events =
                matches!(key, Key::Process(_)) && !(watched.has_events && watched.has_all_events);
            let facts: Vec<_> = verdict
                .evidence
                .iter()
                .filter(|(name, _)| lacks_events || LIVE_FACTS.contains(&name.as_str()))
                .map(|(name, value)| (name.as_str(), value))
                .collect();
            self.stories.complete(story, order, &facts);
            return;
        }
        // What brought it stands right before it, and brings it no longer.
        let is_overruled = is_judged_anew && watched.happened_at == Some(record.at);
        if !is_overruled {
            let order = self.order;
            self.order += 1;
            if self.is_wanted(record) {
                self.stories.tell(run, record.clone(), order, None);
            }
        }
    }

    /// Whether a verdict is shown, as far as can be told before the end of the recording is known.
    fn is_wanted(&self, record: &Record) -> bool {
        let Options { selectors, sockets, since, until, .. } = &self.options;
        let known = |moment: Option<Moment>| moment.and_then(Moment::known);
        let Body::Verdict(verdict) = &record.body else { return false };
        // One that describes a condition may last from before the window into it, or beyond it.
        let is_final = verdict.phase == Phase::Closed && verdict.outcome.is_none();
        let begins = verdict.phase == Phase::Opened || is_final;
        let is_too_early = is_final && known(*since).is_some_and(|since| record.at < since);
        let is_too_late = begins && known(*until).is_some_and(|until| record.at > until);
        let is_listed = match &verdict.subject {
            Subject::Socket { socket, .. } => sockets.contains(&socket.id),
            Subject::Process { .. } | Subject::Destination { .. } => false,
        };
        (sockets.is_empty() || is_listed) && selectors.matches(record) && !is_too_early && !is_too_late
    }
}

const fn name(verdict: &Verdict) -> (VerdictName, Phase, Option<Outcome>) {
    (verdict.verdict, verdict.phase, verdict.outcome)
}

/// The stories with those verdicts only that were given, or still open, in the time asked for, and without those that have none left of what
/// they had.
fn shown(stories: Vec<Story>, options: &Options, end: Time) -> Vec<Story> {
    let (since, until) = options.window(end);
    if since.is_none() && until.is_none() {
        return stories;
    }
    let overlaps = |from: Time, to: Option<Time>| {
        until.is_none_or(|until| from <= until) && since.is_none_or(|since| to.is_none_or(|to| to >= since))
    };
    let cut = |mut story: Story| {
        let had_verdicts = !story.verdicts.is_empty();
        let spans = lasting(&story.verdicts);
        let mut keeps = spans.iter().map(|(from, to)| overlaps(*from, *to));
        let mut keeps_order = keeps.clone();
        story.verdicts.retain(|_| keeps.next().unwrap_or(true));
        story.order.retain(|_| keeps_order.next().unwrap_or(true));
        (!story.verdicts.is_empty() || !had_verdicts).then_some(story)
    };
    stories.into_iter().filter_map(cut).collect()
}

/// From when to when each of these verdicts of one story lasted that the records are about; the end is absent where it was open to the last.
fn lasting(verdicts: &[Record]) -> Vec<(Time, Option<Time>)> {
    let name_of = |record: &Record| {
        let Body::Verdict(verdict) = &record.body else { return None };
        Some(name(verdict))
    };
    let is_of = |record: &&Record, wanted: VerdictName, phase: Phase| {
        name_of(record).is_some_and(|(name, of, _)| name == wanted && of == phase)
    };
    let span = |(place, record): (usize, &Record)| {
        let Some((name, phase, outcome)) = name_of(record) else { return (record.at, Some(record.at)) };
        if phase == Phase::Closed && outcome.is_none() {
            return (record.at, Some(record.at));
        }
        let opened = verdicts[..=place].iter().rev().find(|record| is_of(record, name, Phase::Opened));
        let closed = verdicts[place..].iter().find(|record| is_of(record, name, Phase::Closed));
        (opened.map_or(record.at, |opened| opened.at), closed.map(|closed| closed.at))
    };
    verdicts.iter().enumerate().map(span).collect()
}

/// When the trouble of a story began; where there was none, when it began itself.
fn began(story: &Story) -> (Time, u64) {
    let first = story.verdicts.first().map_or(story.span.0, |record| record.at);
    (first, story.order.first().copied().unwrap_or(u64::MAX))
}
