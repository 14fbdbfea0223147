//! What `zsock doctor` tells: of the host, of each hook, of each setting that lets zombies live.

use serde::{Serialize, Serializer};

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Examined {
    /// What was examined; the first record.
    Doctor(Patient),
    /// Something that zsock needs.
    Check(Check),
    /// A hook.
    Hook(HookCheck),
    /// A setting of a network namespace.
    Sysctl(SysctlCheck),
}

/// What was examined.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Patient {
    /// Of zsock.
    pub version: &'static str,
    /// The kernel's release; absent where it does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// This boot; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// An answer, with what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Yes {
        /// In which way; nothing where there is but one.
        how: Option<String>,
    },
    /// It is not.
    No {
        /// Why not, and what to do where something can be done.
        why: String,
    },
    /// It could not be told.
    Unknown {
        /// Why not, and what to do where something can be done.
        why: String,
    },
}

impl Answer {
    /// A yes, in this way.
    pub fn yes(how: impl Into<String>) -> Self {
        Self::Yes { how: Some(how.into()) }
    }

    /// A no, for this reason.
    pub fn no(why: impl Into<String>) -> Self {
        Self::No { why: why.into() }
    }

    /// None, for this reason.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }

    /// Its word in records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Yes { .. } => "yes",
            Self::No { .. } => "no",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// In which way it is so.
    #[must_use]
    pub fn how(&self) -> Option<&str> {
        match self {
            Self::Yes { how } => how.as_deref(),
            Self::No { .. } | Self::Unknown { .. } => None,
        }
    }

    /// Why it is not so or could not be told.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::No { why } | Self::Unknown { why } => Some(why),
            Self::Yes { .. } => None,
        }
    }
}

/// As three fields of the record: `answer`, and `how` or `why`.
impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            answer: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            how: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            why: Option<&'a str>,
        }
        Fields { answer: self.name(), how: self.how(), why: self.why() }.serialize(serializer)
    }
}

/// Something that zsock needs of the host, and whether it is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The network namespace that it is about; absent where it is about the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
    /// Whether it is there.
    #[serde(flatten)]
    pub answer: Answer,
    /// What is lost without it; absent where the answer is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// A hook, and whether it can be attached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HookCheck {
    /// Its name, as in `start.hooks`.
    pub name: &'static str,
    /// Whether it can be attached, and by which way.
    #[serde(flatten)]
    pub answer: Answer,
    /// Ways that the kernel refuses, or has not, the best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedWay>,
    /// What is lost without it.
    pub lost: &'static str,
}

/// A way to attach a hook that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedWay {
    /// The way, as `start.hooks` would have it.
    pub way: &'static str,
    /// Why it cannot be had.
    pub why: String,
}

/// A setting of a network namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SysctlCheck {
    /// The network namespace.
    pub netns: u64,
    /// The setting.
    #[serde(flatten)]
    pub setting: SettingCheck,
}

/// A setting, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingCheck {
    /// Its name, such as `net.ipv4.tcp_keepalive_time`.
    pub name: &'static str,
    /// Its value, in the units of `/proc/sys`.
    pub value: u32,
    /// What follows from it, and from the others that it works with. Absent where one of those is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<String>,
    /// How long what the consequence tells of takes, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// The command that changes it, where a change is advisable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}
