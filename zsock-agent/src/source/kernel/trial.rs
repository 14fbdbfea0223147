//! Tries every hook: loads the programs, attaches them, takes them off again. What a kernel offers is known no other way.

use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use zsock_common::settings::Filter;

use super::attach::reason;
use super::hooks::{Attachment, Hook, Refusal, Rung};
use super::{Kernel, Options, looks};
use crate::budget::LEAST_BUFFER_BYTES;
use crate::source::btf::Types;

/// Where the kernel shows what `perf_event_open` can attach to.
const PERF_DEVICES: &str = "/sys/bus/event_source/devices";

/// How each hook is attached here, [`hooks::SOCKETS`](super::hooks::SOCKETS) and the looks included. Nothing stays attached.
///
/// # Errors
/// When the kernel takes not even the programs, with what to do about that.
pub fn attach_all(types: &Types) -> Result<Vec<Attachment>> {
    let options = Options {
        all_events: false,
        buffer_bytes: LEAST_BUFFER_BYTES,
        stored_sockets: 1,
        count_states: true,
        filter: Filter::NONE,
        has_log: false,
        hooks: Vec::new(),
    };
    let runtime = Builder::new_current_thread().enable_io().build().context("start the runtime")?;
    let _inside = runtime.enter();
    let mut kernel = Kernel::attach_what_is_offered(types, &options)?;
    let mut attachments = std::mem::take(&mut kernel.hooks);
    for attachment in &mut attachments {
        kernel.open_iterator(attachment);
    }
    Ok(attachments)
}

impl Kernel {
    /// An iterator is of use only where it can be opened as well.
    fn open_iterator(&mut self, attachment: &mut Attachment) {
        let Some(rung) = attachment.rung.filter(|rung| rung.label.starts_with("iter/")) else { return };
        for (name, _) in rung.programs {
            if let Err(error) = self.iterator(name).and_then(looks::open) {
                attachment.rung = None;
                attachment.refused.push(Refusal { way: rung.label, why: reason(&error) });
            }
        }
    }
}

/// What the kernel has not that a rung needs, as far as its types tell, which everybody may read; `None` where they do not rule it out.
#[must_use]
pub fn lacks(hook: &Hook, rung: &Rung, types: &Types) -> Option<String> {
    let mut targets = rung.programs.iter().map(|(_, target)| *target);
    let function =
        |name: &str| (!types.has_function(name)).then(|| format!("this kernel has no function {name}"));
    match rung.name {
        "fentry" | "fexit" => targets.find_map(function),
        "kprobe" | "kretprobe" => lacks_kprobes().or_else(|| targets.find_map(function)),
        "iter" => targets.find_map(|target| {
            let is_missing = !types.has_function(&format!("bpf_iter_{target}"));
            is_missing.then(|| format!("this kernel has no iterator {target}"))
        }),
        "cookie" => function("bpf_get_socket_ptr_cookie"),
        // Which tracepoints of system calls there are, only root may read.
        "tracepoint" | "address" => None,
        "tp_btf" | "timer" | "sys_exit" => targets.find_map(|target| {
            let is_missing = types.tracepoint_arguments(target).is_none();
            is_missing.then(|| format!("this kernel has no tracepoint {target}"))
        }),
        other => unreachable!("hook {} has a rung {other} of an unknown kind", hook.name),
    }
}

/// That the kernel was built without kprobes, by its list of what can be attached to.
pub(super) fn lacks_kprobes() -> Option<String> {
    let devices = Path::new(PERF_DEVICES);
    (devices.exists() && !devices.join("kprobe").exists()).then(|| "this kernel has no kprobes".to_owned())
}
