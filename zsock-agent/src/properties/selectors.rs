//! The command line and what it selects.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::sample_records;
use crate::cli::{self, Command};
use crate::select::{Endpoint, NetnsArg};
use crate::time::parse_duration;

/// A command line of any arguments, and one that gives them to the options: each is read, or refused in words that a terminal may be sent.
///
/// # Panics
/// Where the property does not hold.
pub fn selectors(bytes: &[u8]) {
    let values: Vec<OsString> =
        bytes.split(|byte| *byte == 0).take(20).map(|value| OsString::from_vec(value.to_vec())).collect();
    let begin = usize::from(bytes.first().copied().unwrap_or(0));
    for command in ["trace", "audit", "keepalive", "kill", "report"] {
        command_line(command, values.clone());
        let options = cli::options_with_values(command);
        for (value, option) in values.iter().zip(options.iter().cycle().skip(begin)) {
            let mut argument = OsString::from(format!("{option}="));
            argument.push(value);
            command_line(command, vec![argument]);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }
    if let Ok(duration) = parse_duration(&text) {
        assert!(!duration.is_zero());
    }
}

fn command_line(command: &str, values: Vec<OsString>) {
    let arguments = ["zsock", command].map(OsString::from).into_iter().chain(values);
    match cli::parse_from(&arguments.collect::<Vec<_>>()) {
        Ok(cli) => {
            let mut selectors = match cli.command {
                Command::Trace(arguments) => arguments.follow.selectors,
                Command::Record(arguments) => arguments.follow.selectors,
                Command::Audit(arguments) => arguments.selectors,
                Command::Doctor(_) => return,
                Command::Keepalive(arguments) => arguments.act.selectors,
                Command::Kill(arguments) => arguments.act.selectors,
                Command::Report(arguments) => arguments.selectors,
            };
            // Paths are looked up, and that is no part of this.
            selectors.netns.retain(|netns| matches!(netns, NetnsArg::Inode(_)));
            let selectors = selectors.resolve().expect("nothing is looked up");
            for record in sample_records() {
                let _ = selectors.matches(&record);
            }
        }
        Err(refusal) => {
            let said = refusal.to_string();
            let hides = |line: &str| crate::record::printable(line) != line;
            assert!(refusal.exit_code() == 0 || !said.lines().any(hides), "{said:?}");
        }
    }
}
