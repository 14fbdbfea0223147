//! `silent_death`: the kernel's timers ended the connection; the peer never said a word.
//!
//! Has no threshold: it is given once, at the end. Nothing here when a reset came, when the socket was destroyed on purpose, when everything
//! was acknowledged and an old error was left over, or when the peer still answered the probes of its closed window.

use std::time::Duration;

use super::{Claim, Final, Scene, ending, evidence, in_ms, number, words};
use crate::record::{Closed, Outcome, Severity, State, VerdictName};

pub(super) const FINAL: Final = Final { name: VerdictName::SilentDeath, severity: Severity::Critical, judge };

/// What a timer can leave: its own error, or the one that ICMP had reported before (`sk_err_soft`). With a reset from the peer, a user's
/// `SOCK_DESTROY` or a library's own errors the kernel leaves others.
const TIMER_ERRORS: [&str; 11] = [
    "ETIMEDOUT",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EHOSTDOWN",
    "ENETDOWN",
    "ENONET",
    "ECONNREFUSED",
    "ENOPROTOOPT",
    "EOPNOTSUPP",
    "EPROTO",
    "EACCES",
];

fn judge(scene: &Scene<'_>) -> Option<Claim> {
    let closed = scene.closed().filter(|_| ending(scene) == Some(Outcome::SilentDeath))?;
    let tcp = &scene.event.tcp;
    let cause = cause(scene, closed);
    let silent = tcp.last_received_ms.map(Duration::from_millis);
    let errno = closed.errno.as_ref().map(|errno| errno.name().into());
    let last_word = silent.map_or_else(String::new, |silent| {
        format!(", {} after the last sign of life", words::duration(silent))
    });
    let unacked = tcp
        .unacked_bytes
        .filter(|bytes| *bytes > 0)
        .map_or_else(String::new, |bytes| format!("; {} never acknowledged", words::plural(bytes, "byte")));
    let how = cause.map_or("its timers", Cause::how);
    Some(Claim {
        since: silent.map_or_else(|| scene.stalled_since(), |silent| scene.at.before(silent)),
        evidence: evidence([
            ("cause", cause.map(|cause| cause.name().into())),
            ("errno", errno),
            ("last_received_ms", silent.and_then(in_ms)),
            ("unnoticed_ms", silent.and_then(in_ms)),
            ("unacked_bytes", tcp.unacked_bytes.and_then(number)),
        ]),
        summary: format!(
            "the connection of {} to {} died without a word from the peer: the kernel gave it up by {how}{last_word}{unacked}",
            words::owner(&scene.facts.socket),
            words::peer(&scene.facts.socket),
        ),
        advice: advice(scene, cause),
    })
}

/// Whether one of the kernel's timers ended the connection here.
pub(super) fn by_timer(scene: &Scene<'_>, closed: &Closed) -> bool {
    let timer_error = closed.errno.as_ref().is_some_and(|errno| TIMER_ERRORS.contains(&errno.name()));
    timer_error
        && scene.facts.reset_received.is_none()
        && was_unfinished(scene, closed)
        && !peer_answers_window_probes(scene)
}

/// Whether a timer had anything to give up on. Where all was acknowledged, the error is an old one that nobody fetched.
fn was_unfinished(scene: &Scene<'_>, closed: &Closed) -> bool {
    let tcp = &scene.event.tcp;
    let waits = closed.fin_unacked || tcp.unacked_bytes > Some(0) || tcp.unsent_bytes > Some(0);
    match closed.from {
        State::ESTABLISHED | State::CLOSE_WAIT | State::FIN_WAIT1 => true,
        State::FIN_WAIT2 => !scene.facts.socket.orphan && !closed.peer_closed,
        State::CLOSING | State::LAST_ACK => waits,
        _ => false,
    }
}

/// Whether the peer answered the last probe of its closed window or the one before: it lives, and the kernel limits such answers.
fn peer_answers_window_probes(scene: &Scene<'_>) -> bool {
    let tcp = &scene.event.tcp;
    let probes = &scene.facts.window_probes;
    if tcp.send_window_bytes > Some(0) || tcp.probes_out >= Some(2) {
        return false;
    }
    let Some(before_last) = probes.previous_at.or(probes.last_at) else { return false };
    probes.previous_answered == Some(true) || scene.facts.last_received_at >= Some(before_last)
}

/// Which of the kernel's rules struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Keepalive,
    Retransmission,
    UserTimeout,
    Probe,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Keepalive => "keepalive_timeout",
            Self::Retransmission => "retransmission_timeout",
            Self::UserTimeout => "user_timeout",
            Self::Probe => "probe_timeout",
        }
    }

    fn how(self) -> &'static str {
        match self {
            Self::Keepalive => "unanswered keepalive probes",
            Self::Retransmission => "unanswered retransmissions",
            Self::UserTimeout => "the socket's user time-out",
            Self::Probe => "unanswered probes of the peer's closed window",
        }
    }
}

/// The rule that struck, by what the connection was waiting for; absent where that is not known.
fn cause(scene: &Scene<'_>, closed: &Closed) -> Option<Cause> {
    let tcp = &scene.event.tcp;
    let in_flight = tcp.unacked_bytes > Some(0) || (closed.fin_unacked && tcp.unsent_bytes == Some(0));
    let unsent = tcp.unsent_bytes > Some(0);
    let idle = tcp.unacked_bytes == Some(0) && tcp.unsent_bytes == Some(0);
    let guarded = tcp.keepalive.is_some_and(|keepalive| keepalive.enabled);
    let without_user_timeout = if in_flight {
        Cause::Retransmission
    } else if unsent {
        Cause::Probe
    } else if idle && guarded {
        Cause::Keepalive
    } else {
        return None;
    };
    Some(if tcp.user_timeout_ms.is_some() { Cause::UserTimeout } else { without_user_timeout })
}

fn advice(scene: &Scene<'_>, cause: Option<Cause>) -> Vec<String> {
    let tcp = &scene.event.tcp;
    let keepalive_idle = tcp
        .keepalive
        .map(|keepalive| Duration::from_millis(keepalive.idle_ms))
        .filter(|_| cause == Some(Cause::Keepalive));
    let idle = keepalive_idle.or(scene.idle_before_stall());
    let mut advice: Vec<_> = idle.and_then(words::keep_awake).into_iter().collect();
    if tcp.user_timeout_ms.is_none() && cause != Some(Cause::Keepalive) {
        advice.push(
            "set TCP_USER_TIMEOUT on the socket to what its user can wait, 30000 (milliseconds) for instance: the kernel alone took much longer"
                .to_owned(),
        );
        advice.push(words::RETRIES2.to_owned());
    }
    advice
}
