//! From when until when each verdict of a story held.

use crate::record::{Body, Outcome, Phase, Record, Severity, Verdict, VerdictName};
use crate::report::Story;
use crate::time::Time;

/// A verdict from its first record to its last one.
#[derive(Clone, Debug)]
pub(super) struct Span<'a> {
    pub(super) name: VerdictName,
    /// The gravest that it was.
    pub(super) severity: Severity,
    /// When it opened; absent for final ones and for those whose beginning was not recorded.
    pub(super) opened: Option<Time>,
    /// When it closed; absent for those that are open at the end.
    pub(super) closed: Option<Time>,
    pub(super) outcome: Option<Outcome>,
    /// What was told, in the order of time.
    pub(super) told: Vec<(Time, &'a Verdict)>,
}

/// The verdicts of a story, in the order in which they began.
pub(super) fn spans(story: &Story) -> Vec<Span<'_>> {
    let mut spans: Vec<Span<'_>> = Vec::new();
    for (at, verdict) in story.verdicts.iter().filter_map(verdict) {
        let open = spans.iter_mut().find(|span| span.name == verdict.verdict && span.closed.is_none());
        let span = match open {
            Some(span) if verdict.phase != Phase::Opened => span,
            _ => {
                let opened = (verdict.phase == Phase::Opened).then_some(at);
                let (name, severity) = (verdict.verdict, verdict.severity);
                spans.push(Span { name, severity, opened, closed: None, outcome: None, told: Vec::new() });
                let Some(span) = spans.last_mut() else { continue };
                span
            }
        };
        span.severity = span.severity.max(verdict.severity);
        span.told.push((at, verdict));
        if verdict.phase == Phase::Closed {
            (span.closed, span.outcome) = (Some(at), verdict.outcome);
        }
    }
    spans
}

fn verdict(record: &Record) -> Option<(Time, &Verdict)> {
    match &record.body {
        Body::Verdict(verdict) => Some((record.at, verdict)),
        Body::Start(_)
        | Body::End(_)
        | Body::Lost(_)
        | Body::Shed(_)
        | Body::Process(_)
        | Body::Destination(_)
        | Body::Tick(_)
        | Body::Event(_) => None,
    }
}
