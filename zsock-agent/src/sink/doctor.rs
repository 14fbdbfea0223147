//! `zsock doctor` for a person: an answer a line, with what it rests on beside it.

use anstyle::Style;

use super::palette::{Palette, paint};
use crate::doctor::{Diagnosis, Group, Told};
use crate::record::{Answer, Check, HookCheck, Patient, SettingCheck, Severity, printable};

/// The longest answer, `could not tell`.
const ANSWER: usize = 14;

/// The widest name, `initial_user_namespace`; settings lose what all of them begin with.
const NAME: usize = 23;

/// Where a line has no room for this much beside the names, what is said stands below them.
const LEAST: usize = 40;

/// So many network namespaces are named, of those with the same settings.
const NAMED: usize = 4;

/// How settings of another network namespace are changed.
const ELSEWHERE: &str = "In another network namespace, put `nsenter --net=/proc/PID/ns/net` before the command: `lsns -t net` lists a PID of each.";

/// All of it, in lines of `width` columns where there is such a limit.
#[must_use]
pub fn render(diagnosis: &Diagnosis, host: &str, palette: Palette, width: Option<usize>) -> String {
    let mut page = Page { text: String::new(), palette, width };
    let Patient { version, kernel, .. } = &diagnosis.patient;
    let kernel = kernel.as_deref().map(|release| format!(", Linux {release}")).unwrap_or_default();
    page.paragraph(&format!("zsock {version} on {}{kernel}", printable(host)));
    page.title("What zsock needs");
    diagnosis.checks.iter().for_each(|check| page.check(check));
    page.title("Hooks: how each can be attached here");
    diagnosis.hooks.iter().for_each(|hook| page.hook(hook));
    let mut first = None;
    for group in &diagnosis.groups {
        page.group(group, first);
        first = first.or(group.settings.as_ref().ok());
    }
    if diagnosis.groups.iter().any(Group::advises_elsewhere) {
        page.line("");
        page.paragraph(ELSEWHERE);
    }
    page.text
}

impl Group {
    /// Whether a change is advisable in a network namespace that is not zsock's own.
    fn advises_elsewhere(&self) -> bool {
        let advises = |told: &Told| told.settings.iter().any(|setting| setting.change.is_some());
        self.namespaces.len() > usize::from(self.has_own) && self.settings.as_ref().is_ok_and(advises)
    }
}

struct Page {
    text: String,
    palette: Palette,
    width: Option<usize>,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(&printable(line));
        self.text.push('\n');
    }

    fn paragraph(&mut self, text: &str) {
        for line in wrapped(text, self.width) {
            self.line(&line);
        }
    }

    fn title(&mut self, title: &str) {
        self.line("");
        self.paragraph(title);
    }

    fn check(&mut self, check: &Check) {
        let mut said = said_of(&check.answer);
        said.extend(check.lost.iter().map(|lost| format!("without it: {lost}")));
        self.row(&check.answer, &check.name, &said);
    }

    fn hook(&mut self, hook: &HookCheck) {
        let mut said = said_of(&hook.answer);
        said.extend(hook.refused.iter().map(|refused| format!("not {}: {}", refused.way, refused.why)));
        said.push(format!("without it no {}", hook.lost));
        self.row(&hook.answer, hook.name, &said);
    }

    /// An answer with what is said about it. The first line is what it rests on, the others are for those who look for it.
    fn row(&mut self, answer: &Answer, name: &str, said: &[String]) {
        let (word, style) = match answer {
            Answer::Yes { .. } => ("yes", self.palette.good),
            Answer::No { .. } => ("no", self.palette.of(Severity::Critical)),
            Answer::Unknown { .. } => ("could not tell", self.palette.of(Severity::Warning)),
        };
        let faint = self.palette.faint;
        let has_reason = answer.how().is_some() || answer.why().is_some();
        let styled = said.iter().enumerate().map(|(number, line)| {
            (if number == 0 && has_reason { Style::new() } else { faint }, line.as_str())
        });
        let head = format!(
            "  {} {}",
            paint(style, &format!("{word:<ANSWER$}")),
            printable(&format!("{name:<NAME$}"))
        );
        self.beside(&head, 3 + ANSWER + NAME, &styled.collect::<Vec<_>>());
    }

    /// Lines beside a head that takes `taken` columns, or below it where there is no room.
    fn beside(&mut self, head: &str, taken: usize, said: &[(Style, &str)]) {
        let is_narrow = self.width.is_some_and(|width| width < taken + 1 + LEAST);
        let indent = if is_narrow { 4 } else { taken + 1 };
        let room = self.width.map(|width| width.saturating_sub(indent).max(1));
        let lines = said.iter().flat_map(|(style, text)| {
            wrapped(&printable(text), room).into_iter().map(|line| paint(*style, &line))
        });
        let mut lines = lines.collect::<Vec<_>>().into_iter();
        let beside = if is_narrow { None } else { lines.next() };
        let first = format!("{head} {}", beside.unwrap_or_default());
        self.text.push_str(first.trim_end());
        self.text.push('\n');
        for line in lines {
            self.text.extend(std::iter::repeat_n(' ', indent));
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }

    /// Of any group but the first only what differs from `first`.
    fn group(&mut self, group: &Group, first: Option<&Told>) {
        let named = names_of(group);
        match &group.settings {
            Err(why) => {
                self.title(&format!("Network settings of {named}"));
                self.row(&Answer::unknown(why.clone()), "sysctl", &[format!("because {why}")]);
            }
            Ok(told) => {
                let like = if first.is_some() { ": the same, but for" } else { "" };
                self.title(&format!("Network settings of {named}{like}"));
                let is_new =
                    |setting: &&SettingCheck| first.is_none_or(|first| !first.settings.contains(setting));
                told.settings.iter().filter(is_new).for_each(|setting| self.setting(setting));
                let gone = first.into_iter().flat_map(|first| &first.settings).filter(|setting| {
                    told.settings.iter().all(|other| other.name != setting.name)
                        && told.unread.iter().all(|(name, _)| *name != setting.name)
                });
                for setting in gone {
                    self.beside(
                        &format!("  {:<1$}", short(setting.name), NAME),
                        2 + NAME,
                        &[(Style::new(), "is not there")],
                    );
                }
                for (name, why) in &told.unread {
                    self.row(&Answer::unknown(why.clone()), short(name), &[format!("because {why}")]);
                }
            }
        }
    }

    fn setting(&mut self, setting: &SettingCheck) {
        let SettingCheck { name, value, consequence, change, .. } = setting;
        let head = format!("  {:<NAME$} {value:>9} ", short(name));
        let mut said = vec![(Style::new(), consequence.as_deref().unwrap_or("what follows is not known"))];
        said.extend(change.iter().map(|change| (self.palette.of(Severity::Warning), change.as_str())));
        self.beside(&head, 2 + NAME + 11, &said);
    }
}

/// What an answer rests on.
fn said_of(answer: &Answer) -> Vec<String> {
    let why = answer.why().map(|why| format!("because {why}"));
    why.or_else(|| answer.how().map(str::to_owned)).into_iter().collect()
}

/// A setting's name without what nearly all of them begin with.
fn short(name: &str) -> &str {
    name.strip_prefix("net.ipv4.").unwrap_or(name)
}

fn names_of(group: &Group) -> String {
    let own = |netns: &u64| group.has_own && group.namespaces.first() == Some(netns);
    let name = |netns: &u64| if own(netns) { format!("{netns} (zsock's own)") } else { netns.to_string() };
    let named: Vec<String> = group.namespaces.iter().take(NAMED).map(name).collect();
    let named = named.join(", ");
    match group.namespaces.len() {
        1 => format!("network namespace {named}"),
        all @ ..=NAMED => format!("{all} network namespaces: {named}"),
        all => format!("{all} network namespaces: {named} and {} more", all - NAMED),
    }
}

/// `text` in lines of `width` columns; a command is not broken.
fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    match width {
        Some(width) if !text.starts_with("sysctl -w ") => {
            let options = textwrap::Options::new(width).break_words(false);
            let options = options.word_splitter(textwrap::WordSplitter::NoHyphenation);
            textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
        }
        _ => vec![text.to_owned()],
    }
}

#[cfg(test)]
mod tests;
