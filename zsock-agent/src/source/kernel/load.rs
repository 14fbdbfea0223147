//! Loading the object, with what the programs must know of this kernel.

use std::thread;

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf, Endianness};
use zsock_common::offsets::Offsets;
use zsock_common::settings::Settings;

use super::attach::{load_iterator, refused};
use super::hooks::{Attachment, BY_ADDRESS, BY_COOKIE, Refusal, Rung, SOCKETS};
use super::{OBJECT, Options, Plain, WAKE_BYTES, ahead, loader};
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

/// The object, loaded.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// By what the programs know a socket.
    pub(super) sockets: Attachment,
    /// What the programs attach to, by the kernel's numbers.
    pub(super) btf: Btf,
}

/// Loads the object for sockets known by the best that [`SOCKETS`] has here, or by what `options` ask for.
///
/// # Errors
/// When the kernel does not take it, with what to do about that.
pub(super) fn load(types: &Types, offsets: &Offsets, options: &Options, part: Part) -> Result<Loaded> {
    let stand_in = types.stand_in();
    let parse = || Btf::parse(&stand_in, Endianness::default());
    let load_with = |rung: &'static Rung| {
        let by_address = rung.name == BY_ADDRESS.name;
        load_object(types, offsets, options, by_address, part)
    };
    let load_ahead = |loaded: &mut Loaded| {
        if part == Part::Hooks {
            ahead::load(&mut loaded.ebpf, &options.hooks, types, &loaded.btf);
        }
    };
    let chosen = SOCKETS.chosen(&options.hooks);
    let first = chosen.unwrap_or(&BY_COOKIE);
    let (ebpf, btf) = thread::scope(|scope| {
        let btf = thread::Builder::new().spawn_scoped(scope, parse).context("start a thread")?;
        let ebpf = load_with(first);
        let btf = btf.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, anyhow::Error>((ebpf?, btf.context("read the kernel's types")?))
    })?;
    let mut loaded = Loaded { ebpf, sockets: Attachment::by(&SOCKETS, first), btf };
    load_ahead(&mut loaded);
    if first.name == BY_ADDRESS.name {
        return Ok(loaded);
    }
    let Some(refusal) = lacks_helpers(&mut loaded.ebpf, &loaded.btf, part) else { return Ok(loaded) };
    if let Some(rung) = chosen {
        return Err(refused(&SOCKETS, rung, refusal));
    }
    // Its maps go before others are made.
    drop(loaded.ebpf);
    loaded.ebpf = load_with(&BY_ADDRESS)?;
    loaded.sockets = Attachment::by(&SOCKETS, &BY_ADDRESS);
    loaded.sockets.refused.push(Refusal { way: BY_COOKIE.label, why: refusal });
    load_ahead(&mut loaded);
    Ok(loaded)
}

/// What the kernel says where it refuses a program for what it calls. The look at sockets calls what came last, and is needed anyway.
fn lacks_helpers(ebpf: &mut Ebpf, btf: &Btf, part: Part) -> Option<String> {
    let name = match part {
        Part::Hooks => "look_at_sockets",
        Part::Census => "census_sockets",
    };
    let Some(Program::Iter(look)) = ebpf.program_mut(name) else { return None };
    let error = load_iterator(look, "tcp", btf).err()?;
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
    let mut loader = loader::make();
    if part == Part::Census {
        for map in OF_HOOKS {
            loader.map_max_entries(map, LITTLE);
        }
    }
    loader
        .btf(None)
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
