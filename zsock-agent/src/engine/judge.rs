//! What an event says of one socket: verdicts that open, go on, end.

use std::sync::Arc;

use super::Finding;
use super::timeline::Timeline;
use crate::detect::{CONDITIONS, Claim, Condition, FINALS, Open, Scene, by_name};
use crate::record::{Body, Outcome, Phase, Record, Severity, Subject, Verdict, VerdictName};

/// The verdicts that an event brings: conditions first, then what is said of a connection that has ended.
pub(super) fn judge(
    record: &Record,
    scene: &Scene<'_>,
    timeline: &Timeline,
    open: &mut Vec<Open>,
    findings: &mut Vec<Finding>,
) {
    for condition in CONDITIONS {
        let held = (condition.holds)(scene).filter(|_| !scene.event.inferred);
        // Of nearly all of them there is nothing to begin or to end.
        if held.is_some() || !open.is_empty() {
            findings.extend(judge_condition((condition, held), record, scene, timeline, open));
        }
    }
    for verdict in FINALS {
        if let Some(claim) = (verdict.judge)(scene).filter(|_| !scene.event.inferred) {
            let name = (verdict.name, verdict.severity);
            findings.push(finding(record, scene, timeline, name, (Phase::Closed, None), claim));
        }
    }
}

/// The findings on one condition, and at which count it is `held` to be there. What begins and ends with the same event is told as both, what ends and begins anew too.
fn judge_condition(
    (condition, held): (&'static Condition, Option<u64>),
    record: &Record,
    scene: &Scene<'_>,
    timeline: &Timeline,
    open: &mut Vec<Open>,
) -> Vec<Finding> {
    let name = (condition.name, condition.severity);
    let tell = |phase, claim| finding(record, scene, timeline, name, (phase, None), claim);
    let mut findings = Vec::new();
    if let Some(place) = open.iter().position(|open| open.condition.name == condition.name) {
        let Some(outcome) = open[place].ends(scene) else {
            let renewed = held.and_then(|count| open[place].update(scene, count));
            return renewed.map(|claim| tell(Phase::Updated, claim)).into_iter().collect();
        };
        let is_over = open[place].broken_at(scene).is_none();
        findings.push(close(record, scene, timeline, open.swap_remove(place), outcome));
        if is_over {
            return findings;
        }
    }
    let Some(count) = held else { return findings };
    let (opened, claim) = Open::new(condition, scene, count);
    findings.push(tell(Phase::Opened, claim));
    if let Some(outcome) = opened.ends(scene) {
        findings.push(close(record, scene, timeline, opened, outcome));
    } else {
        // Few sockets come to have a second one.
        open.reserve_exact(1);
        open.push(opened);
    }
    findings
}

/// The verdicts that open here.
pub(super) fn opened(findings: &[Finding]) -> impl Iterator<Item = VerdictName> {
    findings.iter().filter_map(|finding| {
        let Body::Verdict(verdict) = &finding.record.body else { return None };
        (verdict.phase == Phase::Opened).then_some(verdict.verdict)
    })
}

pub(super) fn close(
    record: &Record,
    scene: &Scene<'_>,
    timeline: &Timeline,
    open: Open,
    outcome: Outcome,
) -> Finding {
    let name = (open.condition.name, open.condition.severity);
    let phase = (Phase::Closed, Some(outcome));
    finding(record, scene, timeline, name, phase, open.close(scene, outcome))
}

pub(super) fn finding(
    record: &Record,
    scene: &Scene<'_>,
    timeline: &Timeline,
    (verdict, severity): (VerdictName, Severity),
    (phase, outcome): (Phase, Option<Outcome>),
    claim: Claim,
) -> Finding {
    let Claim { since, mut evidence, summary, advice } = claim;
    let lost = scene.facts.lost_in_its_life();
    if lost > 0 {
        evidence.push(("lost_before", lost.into()));
    }
    let verdict = Verdict {
        verdict,
        phase,
        outcome,
        severity,
        subject: Subject::Socket {
            socket: Arc::clone(&scene.facts.socket),
            tcp: Box::new(scene.event.tcp.clone()),
        },
        since,
        evidence: by_name(evidence),
        summary,
        advice,
    };
    let body = Body::Verdict(Box::new(verdict));
    Finding { record: Record::new(record.at, &record.host, body), timeline: timeline.clone() }
}
