//! What was done to sockets, as text for a person: a line a socket, what changed or why not below, and what it all comes to. What an action
//! warns of stands in its record alone: a person is told on stderr, of many sockets at once.

use std::fmt::Display;

use super::Palette;
use super::palette::paint;
use super::quantity::{count, known, milliseconds};
use super::text::{ends, owner};
use crate::record::{Action, Actions, Deed, Done, KeepaliveSettings, Standing, printable};

/// Renders actions.
#[derive(Clone, Copy, Debug)]
pub struct ActionText(Palette);

impl ActionText {
    /// Text in these colours.
    #[must_use]
    pub const fn new(palette: Palette) -> Self {
        Self(palette)
    }

    /// One socket: what became of it, whose it is, and what changed.
    #[must_use]
    pub fn action(&self, action: &Action) -> String {
        let Self(palette) = self;
        let style = match action.outcome {
            Done::Done | Done::Would => palette.good,
            Done::Skipped | Done::Gone => palette.faint,
            Done::Failed => palette.trouble,
        };
        let word = paint(style, &format!("{:<10}", word(action.action, action.outcome)));
        let state = known(action.tcp.state, |state| state.to_string());
        let verdict = action.verdict.map_or_else(String::new, |verdict| format!("  {verdict}"));
        let head = format!("{word}  {}  {}  {state}{verdict}", owner(&action.socket), ends(&action.socket));
        let changes = changes(action.before.as_ref(), action.after.as_ref());
        let changes = (!changes.is_empty()).then(|| changes.join(", "));
        let error = action.error.as_deref().map(printable);
        let error = error.map(|error| format!("{} {error}", paint(palette.faint, "because")));
        let below: Vec<String> =
            changes.into_iter().chain(error).map(|line| format!("            {line}\n")).collect();
        head + "\n" + &below.concat()
    }

    /// What it all came to, and what to do next.
    #[must_use]
    pub fn actions(&self, actions: &Actions) -> String {
        let Actions { action, selected, .. } = *actions;
        if selected == 0 {
            return "no socket is selected; nothing was done\n".to_owned();
        }
        if actions.would > 0 {
            let would = count(actions.would, "socket");
            let done = match action {
                Deed::Keepalive => "set",
                Deed::Kill => "destroyed",
            };
            let left_alone = match actions.skipped {
                0 => String::new(),
                skipped => format!(", {skipped} left alone"),
            };
            return format!("{would} would be {done}{left_alone}. Nothing was done: add --yes to do it\n");
        }
        let outcomes = [
            (Done::Done, actions.done),
            (Done::Skipped, actions.skipped),
            (Done::Gone, actions.gone),
            (Done::Failed, actions.failed),
        ];
        let outcomes = outcomes.into_iter().filter(|(_, number)| *number > 0);
        let phrases: Vec<_> =
            outcomes.map(|(outcome, number)| format!("{number} {}", word(action, outcome))).collect();
        format!("{}: {}\n", count(selected, "socket"), phrases.join(", "))
    }
}

const fn word(deed: Deed, outcome: Done) -> &'static str {
    match (deed, outcome) {
        (Deed::Keepalive, Done::Done) => "set",
        (Deed::Kill, Done::Done) => "destroyed",
        (Deed::Keepalive, Done::Would) => "would set",
        (Deed::Kill, Done::Would) => "would kill",
        (_, Done::Skipped) => "left alone",
        (_, Done::Gone) => "gone",
        (_, Done::Failed) => "failed",
    }
}

/// What changed of the settings, the old value and the new one.
fn changes(before: Option<&Standing>, after: Option<&Standing>) -> Vec<String> {
    let Some(after) = after else { return Vec::new() };
    let old = before.copied().unwrap_or_default();
    let setting = |name, value: fn(KeepaliveSettings) -> String| {
        change(name, old.keepalive.map(value), after.keepalive.map(value))
    };
    let settings = [
        setting("keepalive", |it| if it.enabled { "on" } else { "off" }.to_owned()),
        setting("idle", |it| milliseconds(it.idle_ms)),
        setting("interval", |it| milliseconds(it.interval_ms)),
        setting("probes", |it| it.probes.to_string()),
    ];
    let mut changes: Vec<String> = settings.into_iter().flatten().collect();
    if after.keepalive.is_some() {
        let timeout = |standing: &Standing| standing.user_timeout_ms.map_or("none".to_owned(), milliseconds);
        let is_known = before.is_some();
        changes.extend(change("user timeout", is_known.then(|| timeout(&old)), Some(timeout(after))));
    }
    changes
}

/// `idle 2 h → 1 min` where it changed, `idle 1 min` where it did not.
fn change<T: Display + PartialEq>(name: &str, old: Option<T>, new: Option<T>) -> Option<String> {
    let new = new?;
    Some(match old {
        Some(old) if old != new => format!("{name} {old} → {new}"),
        Some(_) => format!("{name} {new}"),
        None => format!("{name} – → {new}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{State, Tcp, VerdictName};
    use crate::sink::samples::hostile;

    fn settings(enabled: bool, idle_ms: u64) -> Standing {
        let keepalive = KeepaliveSettings { enabled, idle_ms, interval_ms: 10_000, probes: 6 };
        Standing { state: None, keepalive: Some(keepalive), user_timeout_ms: None }
    }

    /// An action on a socket of a process that chose a hostile name.
    fn action(action: Deed, outcome: Done) -> Action {
        Action {
            action,
            outcome,
            socket: hostile(),
            tcp: Tcp { state: Some(State::ESTABLISHED), ..Tcp::default() },
            verdict: None,
            before: None,
            after: None,
            warnings: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn each_action_is_told_to_a_person_and_its_old_and_new_settings() {
        let plain = ActionText::new(Palette::PLAIN);
        let would = Action {
            before: Some(settings(false, 7_200_000)),
            after: Some(Standing { user_timeout_ms: Some(30_000), ..settings(true, 60_000) }),
            warnings: vec!["a trap".to_owned()],
            ..action(Deed::Keepalive, Done::Would)
        };
        let state = |state| Some(Standing { state: Some(state), ..Standing::default() });
        let killed = Action {
            verdict: Some(VerdictName::UnguardedIdle),
            before: state(State::ESTABLISHED),
            after: state(State::CLOSE),
            ..action(Deed::Kill, Done::Done)
        };
        let failed = Action { error: Some("no\u{1b}[2J".to_owned()), ..action(Deed::Kill, Done::Failed) };
        let unknown_before =
            Action { after: Some(settings(true, 60_000)), ..action(Deed::Keepalive, Done::Would) };
        let mut sums = Actions::none(Deed::Kill);
        let text: String =
            [&would, &killed, &failed, &unknown_before].iter().map(|action| plain.action(action)).collect();
        for outcome in [Done::Done, Done::Gone, Done::Failed] {
            sums.count(outcome);
        }
        let mut to_do = Actions::none(Deed::Keepalive);
        to_do.count(Done::Would);
        let sums = plain.actions(&sums) + &plain.actions(&to_do) + &plain.actions(&Actions::none(Deed::Kill));
        insta::assert_snapshot!(text + &sums);
    }
}
