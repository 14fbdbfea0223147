//! `zsock keepalive`: sets options on sockets that other processes hold.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::cli::KeepaliveArgs;
use crate::keepalive::{Asked, kept_otherwise};
use crate::record::{Action, Deed, Done, SocketId, Standing, State};
use crate::run::act::{Account, Finder, action, nameless};
use crate::run::follow::at;
use crate::run::signals::Signals;
use crate::sink::stdout;
use crate::source::census::{Counted, Holder};
use crate::source::held::HeldSocket;

/// How long after a look the next one follows.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Looks take at most one part in so many of the time, however many sockets there are.
const PAUSE_PER_LOOK: u32 = 9;

/// Sets the sockets that are selected, or lists them; with `--follow` those to come as well.
pub(super) async fn run(arguments: &KeepaliveArgs) -> Result<()> {
    let mut account = Account::open(Deed::Keepalive, &arguments.act)?;
    let finder = Finder::new(&arguments.act)?;
    let mut round = Round::new(arguments.asked(), finder, arguments.act.yes);
    let played = if arguments.follow && arguments.act.yes {
        follow(&mut round, &mut account, arguments.duration).await
    } else {
        round.play(&mut account)
    };
    match played {
        Err(error) if account.selected() == 0 => Err(error),
        // What was done before is told whatever came of it.
        played => {
            let closed = account.close();
            played.and(closed)
        }
    }
}

/// Goes from round to round until a signal, a closed stdout or the end of the time.
async fn follow(round: &mut Round, account: &mut Account, duration: Option<Duration>) -> Result<()> {
    let mut signals = Signals::listen()?;
    let deadline = duration.map(|duration| Instant::now() + duration);
    loop {
        let began = Instant::now();
        round.play(account)?;
        let pause = LOOK_AGAIN.max(began.elapsed() * PAUSE_PER_LOOK);
        tokio::select! {
            biased;
            () = signals.received() => return Ok(()),
            () = at(deadline) => return Ok(()),
            () = sleep(pause) => {}
        }
        if account.is_unheard() || stdout::is_abandoned(std::io::stdout()) {
            return Ok(());
        }
    }
}

/// One look, and what is done to the sockets that it finds.
struct Round {
    asked: Asked,
    finder: Finder,
    is_real: bool,
    past: Past,
}

impl Round {
    fn new(asked: Asked, finder: Finder, is_real: bool) -> Self {
        Self { asked, finder, is_real, past: Past::default() }
    }

    fn play(&mut self, account: &mut Account) -> Result<()> {
        let past = &self.past;
        let taken = self.finder.take(Deed::Keepalive, account.selected(), |counted| past.lacks(counted))?;
        let mut actions = Vec::with_capacity(taken.len());
        for counted in &taken {
            let done = match &counted.holder {
                _ if !counted.has_cookie() => nameless(Deed::Keepalive, counted),
                Some(holder) if self.is_real => set(&self.asked, counted, holder),
                Some(_) => plan(&self.asked, counted),
                None => leave_alone(counted),
            };
            account.tell(&done, (!self.is_real).then_some(counted.at));
            self.past.note(counted, done.outcome);
            actions.push(done);
        }
        Account::warn(&actions);
        Ok(())
    }
}

/// The sockets of earlier rounds.
#[derive(Default)]
struct Past {
    /// It was tried to set these.
    tried: HashSet<SocketId>,
    /// These were left alone, for want of a holder: one may have come since.
    left_alone: HashSet<SocketId>,
    /// These were out of this holder's reach: another one may hold them by now.
    gone: HashSet<(SocketId, Descriptor)>,
}

/// A process and its descriptor.
type Descriptor = (u32, u32);

impl Past {
    /// Whether there is something to be done about this one.
    fn lacks(&self, counted: &Counted) -> bool {
        let id = counted.found.socket.id;
        !self.tried.contains(&id)
            && match descriptor(counted) {
                Some(held) => !self.gone.contains(&(id, held)),
                None => !self.left_alone.contains(&id),
            }
    }

    fn note(&mut self, counted: &Counted, outcome: Done) {
        let id = counted.found.socket.id;
        match (outcome, descriptor(counted)) {
            (Done::Gone, Some(held)) => self.gone.insert((id, held)),
            (Done::Skipped | Done::Gone, _) => self.left_alone.insert(id),
            (Done::Done | Done::Failed | Done::Would, _) => self.tried.insert(id),
        };
    }
}

fn descriptor(counted: &Counted) -> Option<Descriptor> {
    counted.holder.as_ref().map(|holder| (holder.process.pid, holder.fd))
}

/// What would be done, by what the look told of the socket.
fn plan(asked: &Asked, counted: &Counted) -> Action {
    let tcp = &counted.found.tcp;
    let before = tcp.keepalive.map(|keepalive| Standing {
        state: None,
        keepalive: Some(keepalive),
        user_timeout_ms: tcp.user_timeout_ms,
    });
    let after = asked.over(&before.unwrap_or_default());
    let warnings = asked.traps(&after, tcp);
    let after = before.is_some().then_some(after);
    Action { before, after, warnings, ..action(Deed::Keepalive, Done::Would, counted) }
}

/// Sets it, and reads back what the kernel made of it.
fn set(asked: &Asked, counted: &Counted, holder: &Holder) -> Action {
    let mut done = action(Deed::Keepalive, Done::Failed, counted);
    let held = match HeldSocket::open(holder, counted.found.socket.id) {
        Ok(held) => held,
        Err(error) => {
            done.outcome = if error.is_gone() { Done::Gone } else { Done::Failed };
            done.error = Some(error.to_string());
            return done;
        }
    };
    let before = match held.settings() {
        Ok(before) => before,
        Err(errno) => {
            done.error = Some(format!("read the settings of the socket: {errno}"));
            return done;
        }
    };
    done.before = Some(before);
    let refused = asked.settings().into_iter().find_map(|setting| held.set(setting).err());
    done.error = refused.map(|(name, errno)| format!("set {name}: {errno}"));
    match held.settings() {
        Ok(after) => {
            done.after = Some(after);
            done.warnings = asked.traps(&after, &counted.found.tcp);
            if done.error.is_none() {
                done.outcome = Done::Done;
                done.warnings.extend(kept_otherwise(&asked.over(&before), &after));
            }
        }
        Err(errno) => {
            done.error.get_or_insert_with(|| format!("read the settings of the socket back: {errno}"));
        }
    }
    done
}

/// Without a process that holds it nobody's descriptor leads to a socket.
fn leave_alone(counted: &Counted) -> Action {
    let found = &counted.found;
    let is_minisocket =
        matches!(found.tcp.state, Some(State::TIME_WAIT | State::SYN_RECV | State::NEW_SYN_RECV));
    let (outcome, why) = if is_minisocket {
        (Done::Skipped, "a socket in this state has no such settings")
    } else if found.socket.orphan {
        (Done::Skipped, "no process holds it any more, so it cannot be set; `zsock kill` can end it")
    } else if found.unaccepted {
        (
            Done::Skipped,
            "it waits to be accepted, and no process holds it yet, so it cannot be set; what is set on the listener (--state LISTEN) holds \
             for connections to come",
        )
    } else {
        (
            Done::Failed,
            "no process was found to hold it: run zsock as root in the host's PID namespace; a descriptor that is on its way through a Unix \
             socket, or io_uring's alone, cannot be found",
        )
    };
    Action { error: Some(why.to_owned()), ..action(Deed::Keepalive, outcome, counted) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::samples::{self, found};
    use crate::record::Found;
    use crate::source::process::Process;
    use crate::time::Time;

    fn held(pid: u32, fd: u32) -> Counted {
        let process = Process { pid, start_ns: 1, cgroup_id: 0, comm: Arc::from("api"), comm_hex: None };
        let holder = Some(Holder { process: Arc::new(process), fd });
        Counted { at: Time::from_unix_ns(0), found: found(1), holder }
    }

    #[test]
    fn what_a_holder_has_let_go_is_tried_again_with_another_holder_only() {
        let mut past = Past::default();
        past.note(&held(812, 7), Done::Gone);
        assert!(!past.lacks(&held(812, 7)), "each look would tell of it again, and --max run out");
        assert!(past.lacks(&held(812, 8)) && past.lacks(&held(813, 7)));
        past.note(&held(813, 7), Done::Done);
        assert!(!past.lacks(&held(812, 8)));
    }

    #[test]
    fn what_was_left_alone_is_tried_once_a_process_holds_it() {
        let mut past = Past::default();
        let unheld = Counted { holder: None, ..held(812, 7) };
        past.note(&unheld, Done::Skipped);
        assert!(!past.lacks(&unheld) && past.lacks(&held(812, 7)));
    }

    fn left_alone(found: Found) -> Done {
        leave_alone(&Counted { at: Time::from_unix_ns(0), found, holder: None }).outcome
    }

    #[test]
    fn what_no_process_could_hold_is_no_failure() {
        for found in
            [samples::orphan(1), samples::unaccepted(2), samples::time_wait(3), samples::running_out(4)]
        {
            assert_eq!(left_alone(found.clone()), Done::Skipped, "{found:?}");
        }
        assert_eq!(left_alone(found(5)), Done::Failed, "somebody must hold it");
    }
}
