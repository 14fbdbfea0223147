//! Both ends of a connection, where both were recorded: found by addresses and ports the other way round, and by time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::clocks::{Offset, Sighting, corrected, offset, sightings as sightings_of};
use super::incidents::{verdicts, was_accepted};
use super::unjoined::unjoined;
use super::words::time_of_day;
use super::{ClockOffset, Join, Run, Story, stories};
use crate::engine::Ends;
use crate::record::{Socket, SocketId, State, StateChange, Subject, VerdictName, What, printable};
use crate::time::{Time, nanoseconds};

/// What is told of two ends may be apart by so much although it is one connection: the time that the last word of one takes to the other.
pub(super) const SLACK: Duration = Duration::from_secs(1);

/// What joining gave.
pub(super) struct Joined {
    pub(super) joins: Vec<Join>,
    pub(super) clocks: Vec<ClockOffset>,
    pub(super) unjoined: Vec<String>,
}

/// Finds the two ends of connections among the stories, and notes them there. Those without a verdict stay only where they are the other end of
/// one that has, or where they are `asked` for.
pub(super) fn join(runs: &[Run], stories: &mut Vec<Story>, asked: &[SocketId]) -> Joined {
    let clocks = pair(runs, stories);
    stories_that_stay(stories, asked);
    let ahead = |first: usize, second: usize| ahead(&clocks, runs, first, second).unwrap_or(0);
    let mut joins = Vec::new();
    for first in 0..stories.len() {
        let Some(second) = stories[first].other_end.filter(|second| *second > first) else { continue };
        let (client, server) = roles(stories, first, second);
        let server_ahead_ns = ahead(stories[client].run, stories[server].run);
        let mut join = Join { client, server, summary: None, server_ahead_ns };
        join.summary = summary(runs, stories, &join);
        joins.push(join);
    }
    let unjoined = unjoined(runs, stories);
    let clocks = clocks.into_iter().map(|((reference, host), offset)| ClockOffset {
        reference,
        host,
        ahead_ns: offset.ahead_ns,
        uncertainty_ns: offset.uncertainty_ns,
        changes: offset.changes,
    });
    Joined { joins, clocks: clocks.collect(), unjoined }
}

/// Drops the stories that have nothing to tell, and finds the others their places.
fn stories_that_stay(stories: &mut Vec<Story>, asked: &[SocketId]) {
    let stays = |story: &Story| {
        let is_asked = socket(story).is_some_and(|socket| asked.contains(&socket.id));
        let has_verdict = |story: &Story| !story.verdicts.is_empty();
        is_asked || has_verdict(story) || story.other_end.is_some_and(|other| has_verdict(&stories[other]))
    };
    let stay: Vec<bool> = stories.iter().map(stays).collect();
    let mut next = 0;
    let places: Vec<Option<usize>> = stay
        .iter()
        .map(|stays| {
            next += usize::from(*stays);
            stays.then(|| next - 1)
        })
        .collect();
    let mut stay = stay.into_iter();
    stories.retain(|_| stay.next().unwrap_or(true));
    for story in stories {
        story.other_end = story.other_end.and_then(|other| places[other]);
    }
}

/// How the clocks of hosts stand to each other, the one taken for right first.
type Clocks = BTreeMap<(Arc<str>, Arc<str>), Offset>;

/// By how much the clock of the second run's host is ahead of the first one's, where that could be told.
fn ahead(clocks: &Clocks, runs: &[Run], first: usize, second: usize) -> Option<i64> {
    let (here, there) = (&runs[first].host, &runs[second].host);
    clocks.iter().find_map(|((reference, host), offset)| {
        if (reference, host) == (here, there) {
            Some(offset.ahead_ns)
        } else {
            ((host, reference) == (here, there)).then_some(offset.ahead_ns.saturating_neg())
        }
    })
}

/// Notes the other end in each story where it is there.
fn pair(runs: &[Run], stories: &mut [Story]) -> Clocks {
    let ends = ByEnds::of(stories);
    let clocks = ends.clocks(runs, stories);
    for first in 0..stories.len() {
        if stories[first].other_end.is_some() {
            continue;
        }
        let there = ends.others(stories, first).filter(|second| stories[*second].other_end.is_none());
        let apart = |second: usize| {
            let ahead_ns = ahead(&clocks, runs, stories[first].run, stories[second].run).unwrap_or(0);
            distance(&stories[first], &stories[second], ahead_ns)
        };
        // Ports are used again: of several connections the one whose beginning is nearest.
        let nearest = there.filter_map(|second| Some((apart(second)?, second))).min();
        let Some((_, second)) = nearest else { continue };
        (stories[first].other_end, stories[second].other_end) = (Some(second), Some(first));
    }
    clocks
}

/// Stories by the two ends of their connections.
struct ByEnds {
    by_ends: HashMap<Ends, Vec<usize>>,
}

impl ByEnds {
    fn of(stories: &[Story]) -> Self {
        let mut by_ends: HashMap<Ends, Vec<usize>> = HashMap::new();
        for (place, story) in stories.iter().enumerate() {
            if let Some(ends) = ends(story) {
                by_ends.entry(ends).or_default().push(place);
            }
        }
        Self { by_ends }
    }

    /// Those that may be the other end. On loopback it is in the same network namespace of the same host.
    fn others<'a>(&'a self, stories: &'a [Story], place: usize) -> impl Iterator<Item = usize> + 'a {
        let mirrored = ends(&stories[place]).map(|(local, remote)| (remote, local));
        let there = mirrored.and_then(|ends| self.by_ends.get(&ends));
        there.into_iter().flatten().copied().filter(move |other| {
            let is_near = stories[place].run == stories[*other].run
                && socket(&stories[place]).map(|socket| socket.netns)
                    == socket(&stories[*other]).map(|socket| socket.netns);
            *other != place && (is_near || mirrored.is_some_and(|(local, _)| !local.ip().is_loopback()))
        })
    }

    /// How the clocks of hosts stand to each other, by those connections that can be no others.
    fn clocks(&self, runs: &[Run], stories: &[Story]) -> Clocks {
        let mut first_read: HashMap<&Arc<str>, usize> = HashMap::new();
        for (place, run) in runs.iter().enumerate() {
            first_read.entry(&run.host).or_insert(place);
        }
        let mut seen: BTreeMap<(Arc<str>, Arc<str>), Seen> = BTreeMap::new();
        for first in 0..stories.len() {
            let mut others = self.others(stories, first);
            let (Some(second), None) = (others.next(), others.next()) else { continue };
            let (here, there) = (&runs[stories[first].run].host, &runs[stories[second].run].host);
            let is_only = self.others(stories, second).nth(1).is_none();
            // Each pair once, the host first that was read first.
            if first_read[here] >= first_read[there] || !is_only {
                continue;
            }
            let seen = seen.entry((Arc::clone(here), Arc::clone(there))).or_default();
            let at_once = distance(&stories[first], &stories[second], 0).is_some();
            let sightings = if at_once { &mut seen.at_once } else { &mut seen.apart };
            sightings.extend(sightings_of(&stories[first], &stories[second]));
        }
        seen.into_iter().filter_map(|(hosts, seen)| Some((hosts, seen.offset()?))).collect()
    }
}

/// What two hosts saw of connections that seem to be theirs.
#[derive(Default)]
struct Seen {
    /// Of those that overlap in time, by the clocks as they are.
    at_once: Vec<Sighting>,
    /// Of the others: either the clocks are that far apart, or the port was used again.
    apart: Vec<Sighting>,
}

impl Seen {
    /// An offset by which nothing overlaps is believed where several changes agree on it.
    fn offset(self) -> Option<Offset> {
        if !self.at_once.is_empty() {
            return offset(self.at_once);
        }
        let several = self.apart.len() > 1;
        offset(self.apart).filter(|offset| several && offset.uncertainty_ns <= nanoseconds(SLACK))
    }
}

fn socket(story: &Story) -> Option<&Socket> {
    match &story.subject {
        Subject::Socket { socket, .. } => Some(socket),
        Subject::Process { .. } | Subject::Destination { .. } => None,
    }
}

pub(super) fn ends(story: &Story) -> Option<Ends> {
    stories::ends(socket(story)?)
}

/// How far the beginnings of two stories are apart, where they overlap in time; the second one's clock is ahead.
fn distance(first: &Story, second: &Story, ahead_ns: i64) -> Option<Duration> {
    let (begins, ended) = first.span;
    let (begins_there, ended_there) =
        (corrected(second.span.0, ahead_ns), corrected(second.span.1, ahead_ns));
    let overlap = begins <= ended_there.after(SLACK) && begins_there <= ended.after(SLACK);
    overlap.then(|| begins.since(begins_there).max(begins_there.since(begins)))
}

/// Which of two ends made the connection, first; where that is not known, as they are.
fn roles(stories: &[Story], first: usize, second: usize) -> (usize, usize) {
    let first_accepted = was_accepted(&stories[first]) == Some(true);
    let second_made = was_accepted(&stories[second]) == Some(false);
    if first_accepted || second_made { (second, first) } else { (first, second) }
}

/// How one end came to its end.
struct Ending {
    at: Time,
    how: &'static str,
}

/// Who gave up when, and when the other learnt of it.
fn summary(runs: &[Run], stories: &[Story], join: &Join) -> Option<String> {
    let (client, server) = (&stories[join.client], &stories[join.server]);
    let ahead_ns = join.server_ahead_ns;
    let names = names(runs, stories, join);
    let client_ending = ending(client, 0);
    let server_ending = ending(server, ahead_ns);
    let client_first = match (&client_ending, &server_ending) {
        (Some(client), Some(server)) => client.at <= server.at,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => return None,
    };
    let (ended, other, other_ahead_ns) =
        if client_first { (client_ending?, server, ahead_ns) } else { (server_ending?, client, 0) };
    let (who, whom) = if client_first { (&names.0, &names.1) } else { (&names.1, &names.0) };
    let at = time_of_day(ended.at);
    let then = match learnt(other, ended.at, other_ahead_ns) {
        Some(learnt) => format!("{whom} learnt of it at {}", time_of_day(learnt)),
        None => format!(
            "{whom} had not learnt of it when it was last heard of at {}",
            time_of_day(corrected(other.span.1, other_ahead_ns))
        ),
    };
    Some(format!("{who} {} at {at}, {then}", ended.how))
}

/// `the client (web-1)` and `the server (db-1)`, or where that is not known `one end (web-1)` and `the other (db-1)`.
fn names(runs: &[Run], stories: &[Story], join: &Join) -> (String, String) {
    let known =
        was_accepted(&stories[join.client]).is_some() || was_accepted(&stories[join.server]).is_some();
    let (client, server) = if known { ("the client", "the server") } else { ("one end", "the other") };
    let name = |words: &str, place| format!("{words} ({})", mark(runs, stories, place));
    (name(client, join.client), name(server, join.server))
}

/// What tells an end from the other one: the host, or on one host the network namespace, or else the process.
pub(crate) fn mark(runs: &[Run], stories: &[Story], place: usize) -> String {
    let story = &stories[place];
    let other = story.other_end.map_or(story, |other| &stories[other]);
    if runs[story.run].host != runs[other.run].host {
        return printable(&runs[story.run].host).into_owned();
    }
    let (Some(here), Some(there)) = (socket(story), socket(other)) else { return String::new() };
    if let Some(netns) = here.netns.filter(|netns| Some(*netns) != there.netns) {
        return format!("netns {netns}");
    }
    match (&here.comm, here.pid) {
        (Some(comm), Some(pid)) => format!("{}[{pid}]", printable(comm)),
        (Some(comm), None) => printable(comm).into_owned(),
        (None, Some(pid)) => format!("pid {pid}"),
        (None, None) => format!("id {}", here.id),
    }
}

/// The first that an end did to end the connection, by the other one's clock.
fn ending(story: &Story, ahead_ns: i64) -> Option<Ending> {
    let has = |name| verdicts(story).any(|(_, verdict)| verdict.verdict == name);
    let (first, _, last) = story.timeline.parts();
    first.iter().chain(last).find_map(|entry| {
        let how = match &entry.what {
            What::State(StateChange { from: State::ESTABLISHED, to: State::FIN_WAIT1 }) => "closed",
            // Where a timer gives up, the kernel sends a reset with it.
            What::State(StateChange { to: State::CLOSE, .. }) | What::Closed(_) | What::ResetSent(_)
                if has(VerdictName::SilentDeath) =>
            {
                "gave up"
            }
            What::Closed(closed) if closed.reset => "was reset",
            What::ResetReceived(_) => "got a reset",
            What::ResetSent(_) => "sent a reset",
            What::Closed(_) => "ended it",
            What::State(_)
            | What::Retransmit(_)
            | What::Keepalive(_)
            | What::KeepaliveAnswered(_)
            | What::ZeroWindowProbe(_)
            | What::Progress(_)
            | What::Error(_)
            | What::AcceptFailed(_)
            | What::Sample(_) => return None,
        };
        Some(Ending { at: corrected(entry.at, ahead_ns), how })
    })
}

/// When an end first had a sign that the connection was over, at `ended` or later.
fn learnt(story: &Story, ended: Time, ahead_ns: i64) -> Option<Time> {
    let (first, _, last) = story.timeline.parts();
    first.iter().chain(last).find_map(|entry| {
        let at = corrected(entry.at, ahead_ns);
        let is_sign = match &entry.what {
            What::State(StateChange { to, .. }) => {
                [State::CLOSE_WAIT, State::CLOSING, State::CLOSE].contains(to)
            }
            What::Closed(_) | What::Error(_) | What::ResetReceived(_) => true,
            What::Retransmit(_)
            | What::Keepalive(_)
            | What::KeepaliveAnswered(_)
            | What::ZeroWindowProbe(_)
            | What::Progress(_)
            | What::ResetSent(_)
            | What::AcceptFailed(_)
            | What::Sample(_) => false,
        };
        (is_sign && at.after(SLACK) >= ended).then_some(at)
    })
}
