//! What is said where there is nothing to run: help, what is wrong with the usage, and why a command failed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal as _};

use anyhow::Context as _;
use clap::error::ContextValue;
use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};

use super::{Cli, Command};
use crate::record::printable;
use crate::sink::stdout::UNWRITTEN;

/// The command line of this process. Prints help, version or what is wrong with the usage, and exits, where there
/// is nothing to run.
#[must_use]
pub fn parse() -> Cli {
    parse_from(&std::env::args_os().collect::<Vec<_>>()).unwrap_or_else(|said| {
        let printed = said.print();
        // Help that nobody gets is a failure, but for a reader who has seen enough; of wrong usage the status tells anyway.
        if let Err(error) = printed
            && error.kind() != ErrorKind::BrokenPipe
            && said.exit_code() == 0
        {
            let failed = Err::<(), _>(error).context(UNWRITTEN);
            eprint!("{}", failed.as_ref().map_or_else(explain, |()| String::new()));
            std::process::exit(1);
        }
        std::process::exit(said.exit_code())
    })
}

/// The command line of these arguments, the program's name first.
///
/// # Errors
/// Help, version or what is wrong with the usage; whatever the arguments hold, a terminal may be sent it.
pub fn parse_from(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = Cli::command().color(help_color(arguments)).try_get_matches_from(arguments);
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.and_then(|cli| sensible(cli, arguments)).map_err(|error| shown(error, arguments))
}

/// The command line, where its options make sense together.
fn sensible(cli: Cli, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let (name, refusal) = match &cli.command {
        Command::Trace(trace) => ("trace", trace.follow.budget().err()),
        Command::Record(record) => ("record", record.follow.budget().err()),
        Command::Keepalive(keepalive) => ("keepalive", keepalive.act.refusal()),
        Command::Kill(kill) => ("kill", kill.act.refusal()),
        Command::Report(report) => ("report", report.refusal(io::stdin().is_terminal())),
        Command::Audit(_) | Command::Doctor(_) => return Ok(cli),
    };
    let Some(refusal) = refusal else { return Ok(cli) };
    let mut command = Cli::command().color(help_color(arguments));
    command.build();
    let kind = clap::error::ErrorKind::ValueValidation;
    let of_command = command.find_subcommand_mut(name).map(|command| command.error(kind, &refusal));
    Err(of_command.unwrap_or_else(|| clap::Error::raw(kind, refusal)))
}

/// The error with every argument that it repeats made printable.
fn shown(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let hides = |argument: &OsString| {
        let text = argument.to_string_lossy();
        printable(&text) != text
    };
    if !arguments.iter().any(hides) {
        return error;
    }
    let repeated: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, ContextValue::String(printable(text).into_owned()))),
            ContextValue::Strings(texts) => {
                let texts = texts.iter().map(|text| printable(text).into_owned());
                Some((kind, ContextValue::Strings(texts.collect())))
            }
            // Tips that may repeat an argument among escapes of their own, where it cannot be told from them.
            ContextValue::StyledStrs(_) => Some((kind, ContextValue::None)),
            ContextValue::None
            | ContextValue::Bool(_)
            | ContextValue::StyledStr(_)
            | ContextValue::Number(_)
            | _ => None,
        })
        .collect();
    for (kind, value) in repeated {
        error.insert(kind, value);
    }
    error
}

/// How help and usage errors are coloured: they are written before `--color` has been parsed, so it is looked for here.
fn help_color(arguments: &[OsString]) -> ColorChoice {
    let mut choice = ColorChoice::Auto;
    for (at, argument) in arguments.iter().enumerate() {
        let value = match argument.to_str() {
            Some("--color") => arguments.get(at + 1).and_then(|next| next.to_str()),
            other => other.and_then(|joined| joined.strip_prefix("--color=")),
        };
        choice = match value {
            Some("auto") => ColorChoice::Auto,
            Some("always") => ColorChoice::Always,
            Some("never") => ColorChoice::Never,
            _ => choice,
        };
    }
    choice
}

/// What is printed of an error that ends the program: `error: …`, and its causes below, one a line.
#[must_use]
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some errors repeat their cause in their own words.
        if said.contains(&cause) {
            continue;
        }
        let label = if text.is_empty() { "error" } else { "  because" };
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{label}: {}", printable(&cause));
        said = cause;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_and_its_causes_one_line_each() {
        let error = anyhow::anyhow!("permission denied (EPERM)")
            .context("load the program \"retransmit\u{1b}[2J\n\"")
            .context("attach the hooks: run as root");
        let expected = "error: attach the hooks: run as root\n  \
                        because: load the program \"retransmit\\u{1b}[2J\\u{a}\"\n  \
                        because: permission denied (EPERM)\n";
        assert_eq!(explain(&error), expected);
    }

    #[test]
    fn a_cause_that_was_said_already_is_not_said_again() {
        let error = anyhow::anyhow!("Too many open files")
            .context("i/o error: Too many open files")
            .context("read the kernel's types");
        assert_eq!(
            explain(&error),
            "error: read the kernel's types\n  because: i/o error: Too many open files\n"
        );
    }

    #[test]
    fn help_is_coloured_as_the_color_option_says_although_it_comes_first() {
        let choice = |text: &str| help_color(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(choice("zsock trace --help"), ColorChoice::Auto);
        assert_eq!(choice("zsock trace --help --color never"), ColorChoice::Never);
        assert_eq!(choice("zsock trace --color=always --pid x"), ColorChoice::Always);
        assert_eq!(choice("zsock trace --color"), ColorChoice::Auto);
    }

    #[test]
    fn whatever_an_argument_holds_what_is_wrong_with_it_is_said_in_characters_that_show() {
        let hostile = "\u{1b}[2J\u{85}\u{202e}\n";
        let escaped = "\\u{1b}[2J\\u{85}\\u{202e}\\u{a}";
        let forms = [
            "{}",
            "--{}",
            "-{}",
            "--local={}",
            "--port={}",
            "--local=10.0.0.0/{}",
            "--cgroup={}",
            "--comm={}0123456789abc",
            "--threshold={}=1",
            "--threshold=stale_reset={}",
            "--duration={}",
            "--buffer-size={}",
            "--state={}",
            "--netns=0{}",
            "--color=always --remote={}",
            "--color=always --{}",
        ];
        for form in forms {
            let arguments = ["zsock", "trace"].into_iter().map(OsString::from);
            let given = form.split(' ').map(|argument| OsString::from(argument.replace("{}", hostile)));
            let Err(error) = parse_from(&arguments.chain(given).collect::<Vec<_>>()) else { continue };
            let said = error.render().ansi().to_string();
            assert!(said.contains(escaped) || said.contains("\\u{1b}"), "{form}: {said:?}");
            for hidden in ["\u{1b}[2J", "\u{85}", "\u{202e}"] {
                assert!(!said.contains(hidden), "{form}: {said:?}");
            }
        }
    }
}
