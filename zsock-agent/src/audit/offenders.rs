//! What `--fail-on` fails for.

use anyhow::{Error, anyhow};

use super::{Sort, Worst};
use crate::detect::words::{owner, peer, plural};
use crate::record::{Found, Noticed};

/// So many are named.
const NAMED: usize = 3;

/// Connections by which a death would go unnoticed for at least as long as is bearable.
#[derive(Debug)]
pub struct Offenders {
    bearable: Noticed,
    count: u64,
    named: Worst<String>,
}

impl Offenders {
    /// None yet; those as bad as `noticed` will be.
    #[must_use]
    pub const fn new(noticed: Noticed) -> Self {
        Self { bearable: noticed, count: 0, named: Worst::new(Sort::Noticed, Some(NAMED)) }
    }

    /// Takes in a socket.
    pub fn add(&mut self, found: &Found) {
        let Some(noticed) = found.noticed.filter(|noticed| *noticed >= self.bearable) else { return };
        self.count += 1;
        self.named.admit(self.named.place(found), || {
            format!("{noticed}: {} with {}", owner(&found.socket), peer(&found.socket))
        });
    }

    /// How many there are and the worst of them, where there are any.
    #[must_use]
    pub fn error(mut self) -> Option<Error> {
        let named: Vec<_> = self.named.sorted().cloned().collect();
        let more = match self.count - named.len() as u64 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let how_long = match self.bearable {
            Noticed::Never => "would never notice it",
            Noticed::Hours => "would not notice it for an hour or longer",
            Noticed::Minutes => "would not notice it for a minute or longer",
            Noticed::Seconds => "would not notice it at once",
        };
        let sum = format!(
            "{} {how_long} if the peer died without a word (--fail-on {}): `zsock audit` lists them and says what to set",
            plural(self.count, "connection"),
            self.bearable
        );
        (self.count > 0).then(|| anyhow!("{}{more}", named.join(", ")).context(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::samples::{accepted, all, found, listener, on_loopback, stranger};
    use crate::cli::explain;

    fn said(noticed: Noticed, sockets: &[Found]) -> String {
        let mut offenders = Offenders::new(noticed);
        for found in sockets {
            offenders.add(found);
        }
        offenders.error().as_ref().map_or_else(String::new, explain)
    }

    #[test]
    fn it_is_said_how_many_fail_and_which_are_the_worst() {
        assert_eq!(
            said(Noticed::Never, &all()),
            "error: 2 connections would never notice it if the peer died without a word (--fail-on never): `zsock audit` lists them and says \
             what to set\n  \
             because: never: api (pid 812) with 10.0.5.7:5432 (from 10.0.1.4:40001), never: api (pid 812) with [::1]:6379 (from [::1]:40000)\n"
        );
        let minutes = said(Noticed::Minutes, &all());
        assert!(
            minutes.starts_with("error: 5 connections would not notice it for a minute or longer"),
            "{minutes}"
        );
        assert!(
            minutes.contains("hours: api (pid 812) with 10.0.5.7:5432 (from 10.0.1.4:40002), and 2 more\n")
        );
    }

    #[test]
    fn what_is_not_as_bad_or_not_known_does_not_fail() {
        assert_eq!(said(Noticed::Hours, &[accepted(1), listener(2), stranger(3)]), "");
        assert_eq!(said(Noticed::Never, &[]), "");
        for noticed in Noticed::ALL {
            assert_ne!(said(noticed, &[found(1)]), "", "never is as bad as {noticed}");
        }
        assert_ne!(said(Noticed::Never, &[on_loopback(1)]), "");
    }
}
