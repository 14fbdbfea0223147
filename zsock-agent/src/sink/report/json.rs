//! A report as records: first the verdicts as they were given live, then what only hindsight tells.

use serde::Serialize;

use crate::engine::TimelineEntry;
use crate::record::{
    ClockRecord, DamageRecord, EntryRecord, GapRecord, IncidentRecord, Line, OtherEnd, ReportRecord,
    RunRecord, ShedRecord, Subject, TimelineRecord,
};
use crate::report::{ClockOffset, Incident, Place, Report, Run, Story};
use crate::sink::ndjson;
use crate::time::Time;

/// Gives out the records of a report, a line each. `reader` is the host on which it is made: damage and the report itself belong to no other.
/// `limit` bounds the timelines of each incident.
pub fn tell(report: &Report, reader: &str, limit: Option<usize>, emit: &mut dyn FnMut(&[u8])) {
    let Some(end) = report.runs.iter().filter_map(|run| run.span).map(|(_, last)| last).max() else {
        // Of what holds no record there is no report.
        return;
    };
    let mut verdicts: Vec<_> =
        report.stories.iter().flat_map(|story| story.order.iter().zip(&story.verdicts)).collect();
    verdicts.sort_by_key(|(order, _)| **order);
    for (_, record) in verdicts {
        emit(&ndjson::render(record));
    }
    for incident in &report.incidents {
        emit(&line(incident.span.0, &incident.host, &of_incident(report, incident)));
    }
    for place in super::listed(report, limit) {
        let story = &report.stories[place];
        if let Some(timeline) = of_story(report, place) {
            emit(&line(story.span.0, &report.runs[story.run].host, &timeline));
        }
    }
    for clock in &report.clocks {
        emit(&line(end, &clock.host, &of_clock(clock)));
    }
    for run in &report.runs {
        if let Some(span) = run.span {
            emit(&line(span.0, &run.host, &of_run(run, span)));
        }
    }
    for damage in &report.damages {
        let record = DamageRecord {
            input: &damage.input,
            at_byte: damage.at_byte,
            line: damage.line,
            why: &damage.why,
        };
        emit(&line(end, reader, &record));
    }
    emit(&line(end, reader, &of_report(report)));
}

fn of_report(report: &Report) -> ReportRecord<'_> {
    ReportRecord {
        records: report.runs.iter().map(|run| run.records).sum(),
        verdicts: report.stories.iter().map(|story| story.verdicts.len()).sum(),
        incidents: report.incidents.len(),
        unjoined: &report.unjoined,
        damages: report.damages.len() as u64 + report.damages_dropped,
        stories_dropped: report.stories_dropped,
        sockets_dropped: report.sockets_dropped,
    }
}

fn line(at: Time, host: &str, body: &impl Serialize) -> Vec<u8> {
    ndjson::render(&Line::new(at, host, body))
}

fn of_incident<'a>(report: &Report, incident: &'a Incident) -> IncidentRecord<'a> {
    let (destination, accepted_on) = match incident.place {
        Some(Place::To(to)) => (Some(to), None),
        Some(Place::On(on)) => (None, Some(on)),
        None => (None, None),
    };
    let id = |story: &usize| match &report.stories[*story].subject {
        Subject::Socket { socket, .. } => Some(socket.id),
        Subject::Process { .. } | Subject::Destination { .. } => None,
    };
    IncidentRecord {
        verdict: incident.verdict,
        severity: incident.severity,
        process: incident.process.as_ref(),
        destination,
        accepted_on,
        until: incident.span.1,
        count: incident.stories.len(),
        sockets: incident.stories.iter().filter_map(id).collect(),
        summary: &incident.summary,
        advice: &incident.advice,
    }
}

/// The timeline of a socket; a process and a destination have none.
fn of_story(report: &Report, place: usize) -> Option<TimelineRecord<'_>> {
    let story: &Story = &report.stories[place];
    let Subject::Socket { socket, .. } = &story.subject else { return None };
    let (first, omitted, last) = story.timeline.parts();
    let other_end = story.other_end.and_then(|other| {
        let there = &report.stories[other];
        let join = report.joins.iter().find(|join| [join.client, join.server].contains(&place));
        let Subject::Socket { socket, .. } = &there.subject else { return None };
        let summary = join.and_then(|join| join.summary.as_deref());
        Some(OtherEnd { host: &report.runs[there.run].host, id: socket.id, summary })
    });
    Some(TimelineRecord {
        socket,
        until: story.span.1,
        entries: first.iter().chain(last).map(of_entry).collect(),
        omitted: (omitted > 0).then_some(omitted),
        omitted_after: (omitted > 0).then_some(first.len()),
        other_end,
    })
}

const fn of_entry(entry: &TimelineEntry) -> EntryRecord<'_> {
    let TimelineEntry { at, what, standing, replayed, inferred } = entry;
    EntryRecord {
        ts: *at,
        what,
        state: standing.state,
        rto_ms: standing.rto_ms,
        unacked_bytes: standing.unacked_bytes,
        unsent_bytes: standing.unsent_bytes,
        last_received_ms: standing.last_received_ms,
        replayed: *replayed,
        inferred: *inferred,
    }
}

fn of_clock(clock: &ClockOffset) -> ClockRecord<'_> {
    ClockRecord {
        reference: &clock.reference,
        ahead_us: clock.ahead_ns / 1_000,
        uncertainty_us: clock.uncertainty_ns / 1_000,
        changes: clock.changes,
    }
}

fn of_run(run: &Run, (_, until): (Time, Time)) -> RunRecord<'_> {
    RunRecord {
        boot_id: run.boot_id.as_ref(),
        kernel: run.kernel.as_ref(),
        until,
        records: run.records,
        lost: run.lost,
        gaps: run.gaps.iter().map(|(since, until)| GapRecord { since: *since, until: *until }).collect(),
        shed: run.shed.iter().map(|(at, shed)| ShedRecord { ts: *at, shed }).collect(),
        repeated: run.is_repeated,
        ended: run.is_ended,
    }
}
