//! Loading the object, with what the programs must know of this kernel.

use std::thread;

use anyhow::{Result, anyhow};
use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader};
use zsock_common::offsets::Offsets;
use zsock_common::settings::Settings;

use super::attach::{load_iterator, refused};
use super::hooks::{Attachment, BY_ADDRESS, BY_COOKIE, Refusal, Rung, SOCKETS};
use super::{OBJECT, Options, Plain, WAKE_BYTES};
use crate::privileges::capabilities;
use crate::source::btf::Types;

/// Sockets that the map `LODGERS` has room for where sockets are known by address: 30 MB.
const LODGERS: u32 = 65_536;

/// Kernels before 5.11 count maps against RLIMIT_MEMLOCK. Where it cannot be raised, whatever meets it says so.
pub(super) fn raise_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// What of the object is going to be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The hooks, and the looks beside them.
    Hooks,
    /// The census alone.
    Census,
}

/// Maps that the census does not use, and that are large.
const OF_HOOKS: [&str; 6] = ["SLOTS", "TROUBLED", "SURVIVED", "STALLED", "WANTED", "ACCEPT_FAILURES"];

/// Room in a map that is not used.
const LITTLE: u32 = 64;

/// Loads the object, and says by what the programs know a socket: the best that [`SOCKETS`] has here, or what `options` ask for.
///
/// # Errors
/// When the kernel does not take it, with what to do about that.
pub(super) fn load(
    types: &Types,
    offsets: &Offsets,
    options: &Options,
    btf: &Btf,
    part: Part,
) -> Result<(Ebpf, Attachment)> {
    let load_with = |rung: &'static Rung| {
        let by_address = rung.name == BY_ADDRESS.name;
        Ok((load_object(types, offsets, options, btf, by_address, part)?, Attachment::by(&SOCKETS, rung)))
    };
    let chosen = SOCKETS.chosen(&options.hooks);
    if chosen.is_some_and(|rung| rung.name == BY_ADDRESS.name) {
        return load_with(&BY_ADDRESS);
    }
    let (mut ebpf, by_cookie) = load_with(&BY_COOKIE)?;
    let Some(refusal) = lacks_helpers(&mut ebpf, btf, part) else { return Ok((ebpf, by_cookie)) };
    if let Some(rung) = chosen {
        return Err(refused(&SOCKETS, rung, refusal));
    }
    // Its maps go before others are made.
    drop(ebpf);
    let (ebpf, mut by_address) = load_with(&BY_ADDRESS)?;
    by_address.refused.push(Refusal { way: BY_COOKIE.label, why: refusal });
    Ok((ebpf, by_address))
}

/// The program that takes the verifier as long as the look at sockets does.
const STATE: &str = "inet_sock_set_state";

/// What the kernel says where it refuses a program for what it calls. The look at sockets calls what came last, and is needed anyway.
fn lacks_helpers(ebpf: &mut Ebpf, btf: &Btf, part: Part) -> Option<String> {
    let wanted = match part {
        Part::Hooks => "look_at_sockets",
        Part::Census => "census_sockets",
    };
    let (mut look, mut state) = (None, None);
    for (name, program) in ebpf.programs_mut() {
        if name == wanted {
            look = Some(program);
        } else if name == STATE && part == Part::Hooks {
            state = Some(program);
        }
    }
    let Some(Program::Iter(look)) = look else { return None };
    let error = thread::scope(|scope| {
        if let Some(Program::BtfTracePoint(program)) = state {
            // Whoever attaches it loads it where that has failed, and says why.
            let load = move || drop(program.load(STATE, btf));
            let _ = thread::Builder::new().spawn_scoped(scope, load);
        }
        load_iterator(look, "tcp", btf).err()
    })?;
    let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref() else { return None };
    let log = verifier_log.to_string();
    let is_refusal = |line: &&str| {
        line.starts_with("unknown func ") || line.starts_with("program of this type cannot use helper ")
    };
    log.lines().find(is_refusal).map(str::to_owned)
}

fn load_object(
    types: &Types,
    offsets: &Offsets,
    options: &Options,
    btf: &Btf,
    by_address: bool,
    part: Part,
) -> Result<Ebpf> {
    let has_third = |tracepoint| u32::from(types.tracepoint_arguments(tracepoint) == Some(3));
    let settings = Plain(Settings {
        all_events: u32::from(options.all_events),
        retransmit_has_error: has_third("tcp_retransmit_skb"),
        reset_has_reason: has_third("tcp_send_reset"),
        by_address: u32::from(by_address),
        wake_bytes: WAKE_BYTES.min(options.buffer_bytes / 8),
        stored_sockets: if by_address { options.stored_sockets.min(LODGERS) } else { options.stored_sockets },
        count_states: u32::from(options.count_states),
        reserved: 0,
        filter: options.filter,
    });
    let offsets = Plain(*offsets);
    // With no log wanted the verifier drops every line of it.
    let log_level = if options.has_log { u8::MAX } else { 0 };
    let mut loader = EbpfLoader::new();
    if part == Part::Census {
        for map in OF_HOOKS {
            loader.map_max_entries(map, LITTLE);
        }
    }
    loader
        .btf(Some(btf))
        .override_global("OFFSETS", &offsets, true)
        .override_global("SETTINGS", &settings, true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .map_max_entries("EVENTS", options.buffer_bytes)
        .map_max_entries("LODGERS", if by_address { LODGERS.min(options.stored_sockets) } else { 1 })
        .load(OBJECT)
        .map_err(|error| {
            let error = anyhow!(error);
            let advice = advice_on(&error);
            error.context(format!("load the eBPF programs: {advice}"))
        })
}

/// What to do about a kernel that does not take the programs.
fn advice_on(error: &anyhow::Error) -> String {
    use nix::errno::Errno;
    let errno = error.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    match errno.map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => capabilities::advice(),
        Some(Errno::EMFILE) => "allow more open files (`ulimit -n`)".to_owned(),
        Some(Errno::ENOMEM) => "free some memory, or ask for less with --buffer-size".to_owned(),
        Some(_) | None => "`zsock trace -vv` says more".to_owned(),
    }
}
