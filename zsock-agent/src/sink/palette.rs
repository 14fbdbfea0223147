//! Colours, or none.

use anstyle::{AnsiColor, Style};

use crate::record::Severity;

/// The styles that text is written in.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// What is there for those who look for it: times, labels.
    pub(super) faint: Style,
    /// Signs of trouble that are no verdict.
    pub(super) trouble: Style,
    /// Good news.
    pub(super) good: Style,
    critical: Style,
    warning: Style,
    info: Style,
}

impl Palette {
    /// No colours.
    pub const PLAIN: Self = Self {
        faint: Style::new(),
        trouble: Style::new(),
        good: Style::new(),
        critical: Style::new(),
        warning: Style::new(),
        info: Style::new(),
    };

    /// The sixteen colours that every terminal has and its user has chosen.
    pub const COLOURED: Self = Self {
        faint: Style::new().dimmed(),
        trouble: AnsiColor::Yellow.on_default(),
        good: AnsiColor::Green.on_default().bold(),
        critical: AnsiColor::Red.on_default().bold(),
        warning: AnsiColor::Yellow.on_default().bold(),
        info: AnsiColor::Cyan.on_default().bold(),
    };

    pub(super) const fn of(&self, severity: Severity) -> Style {
        match severity {
            Severity::Critical => self.critical,
            Severity::Warning => self.warning,
            Severity::Info => self.info,
        }
    }
}

/// `text` in a style.
pub(super) fn paint(style: Style, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
}

/// Appends what `append` does, in a style.
pub(super) fn append_painted(text: &mut String, style: Style, append: impl FnOnce(&mut String)) {
    if style.is_plain() {
        return append(text);
    }
    text.push_str(&style.render().to_string());
    append(text);
    text.push_str(&style.render_reset().to_string());
}
