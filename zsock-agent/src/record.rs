//! The records of schema 1: what a pipeline reads, what a recording keeps and all that the engine is given.
//!
//! Whatever the engine uses stands in these types, so a recording judged later gives the verdicts that were given live.
//! A fact that is unknown is `None` and absent from the JSON: never a default that reads like a fact.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::time::Time;

mod action;
mod audit;
mod body;
mod cost;
mod doctor;
mod names;
mod report;
mod socket;
mod subject;
mod verdict;

pub use action::{Action, Actions, Deed, Done, Standing};
pub use audit::{ArmedTimer, Found, Group, Line, Noticed, Summary, TimerKind};
pub use body::{
    AcceptFailed, AcceptQueue, Body, Closed, End, Errored, Event, Fact, Keepalive, KeepaliveAnswered, Lost,
    Progress, Request, Reset, Retransmit, Sample, Start, StateChange, Tick, What, ZeroWindowProbe,
};
pub use cost::{ProgramRuns, Shed};
pub use doctor::{Answer, Check, Examined, HookCheck, Patient, RefusedWay, SettingCheck, SysctlCheck};
pub use names::{Cause, Errno, Family, SocketId, State, printable};
pub use report::{
    ClockRecord, DamageRecord, EntryRecord, GapRecord, IncidentRecord, OtherEnd, ReportRecord, RunRecord,
    ShedRecord, TimelineRecord,
};
pub use socket::{KeepaliveSettings, Socket, Tcp};
pub use subject::{Destination, DestinationSample, PeerSockets, Process, ProcessSample, Subject};
pub use verdict::{Outcome, Phase, Severity, Verdict, VerdictName};

/// The version of the records' schema.
pub const SCHEMA: u32 = 1;

/// One line of output: the envelope and what it carries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// When it happened.
    #[serde(rename = "ts")]
    pub at: Time,
    /// Name of the host it happened on.
    pub host: Arc<str>,
    /// What happened; its `type` is flattened into the line.
    #[serde(flatten)]
    pub body: Body,
}

impl Record {
    /// A record of this schema.
    #[must_use]
    pub fn new(at: Time, host: &Arc<str>, body: Body) -> Self {
        Self { schema: SCHEMA, at, host: Arc::clone(host), body }
    }

    /// The socket event in this record, if it is one.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        match &self.body {
            Body::Event(event) => Some(event),
            Body::Start(_)
            | Body::End(_)
            | Body::Lost(_)
            | Body::Shed(_)
            | Body::Verdict(_)
            | Body::Process(_)
            | Body::Destination(_)
            | Body::Tick(_) => None,
        }
    }
}

/// Reads a record of this schema; fields that this build does not know are passed over.
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Envelope {
            schema: u32,
            #[serde(rename = "ts")]
            at: Time,
            host: Arc<str>,
            #[serde(flatten)]
            rest: serde_json::Map<String, Value>,
        }
        let Envelope { schema, at, host, rest } = Envelope::deserialize(deserializer)?;
        let body = body_of(rest).map_err(D::Error::custom)?;
        Ok(Self { schema, at, host, body })
    }
}

fn body_of(fields: serde_json::Map<String, Value>) -> Result<Body, serde_json::Error> {
    let kind = fields.get("type").and_then(Value::as_str).map(str::to_owned);
    let fields = Value::Object(fields);
    Ok(match kind.as_deref() {
        Some("start") => Body::Start(serde_json::from_value(fields)?),
        Some("end") => Body::End(serde_json::from_value(fields)?),
        Some("lost") => Body::Lost(serde_json::from_value(fields)?),
        Some("shed") => Body::Shed(serde_json::from_value(fields)?),
        Some("tick") => Body::Tick(serde_json::from_value(fields)?),
        Some("verdict") => Body::Verdict(serde_json::from_value(fields)?),
        Some("sample") if fields.get("process").is_some() => Body::Process(serde_json::from_value(fields)?),
        Some("sample") if fields.get("destination").is_some() => {
            Body::Destination(serde_json::from_value(fields)?)
        }
        _ => Body::Event(serde_json::from_value(fields)?),
    })
}
