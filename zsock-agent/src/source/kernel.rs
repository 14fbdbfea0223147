//! Loads the eBPF object, attaches the hooks, reads the ring buffer, runs the iterators. The only module that names `aya`.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{Iter, Program, ProgramError, ProgramFd};
use aya::{Btf, Ebpf, EbpfLoader, Pod};
use aya_log::EbpfLogger;
use caps::Capability;
use tokio::io::unix::AsyncFd;
use zsock_common::offsets::Offsets;
use zsock_common::settings::{Filter, Settings};
use zsock_common::wire::{AcceptFailures, Control, Counters, Remote, accept_key};

use crate::privileges::capabilities;
use crate::source::btf::{self, Types};
use crate::source::kernel::looks::Limits;

pub mod hooks;
pub mod looks;
mod tracefs;

/// The kernel side, as `cargo xtask ebpf` built it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../zsock-ebpf/zsock.bpf.o");

/// The reader is woken whenever this much more is waiting, or an eighth of a small buffer. A wake-up costs more than a record.
const WAKE_BYTES: u32 = 256 * 1024;

/// What the kernel side is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Every event, not only those of sockets in trouble.
    pub all_events: bool,
    /// Size of the ring buffer, a power of two.
    pub buffer_bytes: u32,
    /// Which sockets.
    pub filter: Filter,
    /// Let the programs write a log.
    pub has_log: bool,
}

/// The running kernel side. Dropping it detaches everything.
pub struct Kernel {
    ebpf: Ebpf,
    events: AsyncFd<RingBuf<MapData>>,
    buffer_bytes: usize,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    control: Array<MapData, Plain<Control>>,
    wanted: HashMap<MapData, u64, u32>,
    survived: HashMap<MapData, Plain<Remote>, u32>,
    accept_failures: HashMap<MapData, u64, Plain<AcceptFailures>>,
    hooks: BTreeMap<String, String>,
    limits: Limits,
    offsets: Offsets,
    reset_reasons: BTreeMap<u32, String>,
    timers: u32,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// Fixed layouts of integers, whose bytes the kernel side reads as they are.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: `repr(C)`, integers only, no padding (asserted where they are defined or by their alignment).
unsafe impl Pod for Plain<Offsets> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Settings> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Counters> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Control> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Remote> {}
// SAFETY: as above.
unsafe impl Pod for Plain<AcceptFailures> {}

impl Kernel {
    /// Loads the programs and attaches every hook that this kernel offers.
    ///
    /// # Errors
    /// Without BTF, without the right to load programs, or when not even state changes can be followed.
    pub fn attach(options: &Options) -> Result<Self> {
        raise_limits();
        let types = Types::read(Path::new(btf::VMLINUX))?;
        let (offsets, missing) = types.offsets()?;
        if !missing.is_empty() {
            log::info!("fields that this kernel lacks: {}", missing.join(", "));
        }
        let btf = Btf::from_sys_fs().context("read the kernel's types")?;
        let mut ebpf = load(&types, &offsets, options, &btf)?;
        let events = ring(&mut ebpf)?;
        let counters = PerCpuArray::try_from(take_map(&mut ebpf, "COUNTERS")?)?;
        let control = Array::try_from(take_map(&mut ebpf, "CONTROL")?)?;
        let wanted = HashMap::try_from(take_map(&mut ebpf, "WANTED")?)?;
        let survived = HashMap::try_from(take_map(&mut ebpf, "SURVIVED")?)?;
        let accept_failures = HashMap::try_from(take_map(&mut ebpf, "ACCEPT_FAILURES")?)?;
        let log = options
            .has_log
            .then(|| EbpfLogger::init(&mut ebpf))
            .transpose()
            .context("open the programs' log")?;
        let reset_reasons = types.enum_names("sk_rst_reason", "SK_RST_REASON_");
        let mut kernel = Self {
            ebpf,
            events,
            buffer_bytes: options.buffer_bytes as usize,
            counters,
            control,
            wanted,
            survived,
            accept_failures,
            hooks: BTreeMap::new(),
            limits: Limits::default(),
            offsets,
            reset_reasons,
            timers: 0,
            log,
        };
        for hook in hooks::ALL {
            let how = kernel.attach_hook(hook, &btf);
            kernel.hooks.insert(hook.name.to_owned(), how);
        }
        if kernel.hooks.get("state").is_none_or(|how| how.starts_with("no: ")) {
            let how = kernel.hooks.get("state").map_or("no such hook", String::as_str);
            let how = how.trim_start_matches("no: ");
            if capabilities::lacks(Capability::CAP_PERFMON) {
                return Err(
                    anyhow!("{how}").context(format!("load the eBPF programs: {}", capabilities::advice()))
                );
            }
            bail!("attach to state changes, see `zsock trace -vv`: {how}");
        }
        for (name, target) in [("look_at_sockets", "tcp"), ("look_at_holders", "task_file")] {
            let how = match kernel.iterator(name).and_then(|iterator| Ok(iterator.load(target, &btf)?)) {
                Ok(()) => format!("iter/{target}"),
                Err(error) => format!("no: {}", reason(&error)),
            };
            kernel.hooks.insert(name.to_owned(), how);
        }
        Ok(kernel)
    }

    /// How each hook is attached; `no: ` and the reason where it is not.
    #[must_use]
    pub fn hooks(&self) -> &BTreeMap<String, String> {
        &self.hooks
    }

    /// Where this kernel keeps its fields.
    #[must_use]
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Names of the reasons for resets, by number.
    #[must_use]
    pub fn reset_reasons(&self) -> &BTreeMap<u32, String> {
        &self.reset_reasons
    }

    /// Passes on to [`log`] what the programs wrote for `-vv`.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Hands every record that has arrived to `each`, but no more than the ring buffer holds: where records come faster than they are
    /// taken, an end must come all the same.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        let mut left_bytes = self.buffer_bytes;
        while left_bytes > 0
            && let Some(record) = self.events.get_mut().next()
        {
            left_bytes = left_bytes.saturating_sub(record.len());
            each(&record);
        }
    }

    /// Waits until the kernel side says that there is something to read.
    ///
    /// # Errors
    /// When the descriptor can no longer be waited for.
    pub async fn readable(&mut self) -> Result<()> {
        self.events.readable_mut().await.context("wait for the ring buffer")?.clear_ready();
        Ok(())
    }

    /// The kernel side's counters, summed over all CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).context("read the counters of the kernel side")?;
        Ok(per_cpu.iter().fold(Counters::default(), |sum, Plain(one)| Counters {
            produced: sum.produced + one.produced,
            lost: sum.lost + one.lost,
            forgotten: sum.forgotten + one.forgotten,
            unnamed: sum.unnamed + one.unnamed,
            existed: sum.existed + one.existed,
        }))
    }

    /// How often accepting has failed for process `pid` with error number `errno` since the start; `None` where it has not.
    #[must_use]
    pub fn accept_failures(&self, pid: u32, errno: u32) -> Option<u64> {
        self.accept_failures.get(&accept_key(pid, errno), 0).ok().map(|Plain(failures)| failures.total)
    }

    /// Runs of programs that the kernel skipped because the same program was running on that CPU. Opens a file for each program;
    /// `None` where one of them cannot be read. Kernels before 5.12 do not count.
    #[must_use]
    pub fn recursion_misses(&self) -> Option<u64> {
        let misses = |fd: &ProgramFd| {
            let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
            let line = facts.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
            line.map_or(Some(0), |line| line.trim().parse::<u64>().ok())
        };
        let loaded = self.ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        loaded.map(misses).sum()
    }

    fn iterator(&mut self, name: &str) -> Result<&mut Iter> {
        Ok(self.ebpf.program_mut(name).with_context(|| format!("the object has no {name}"))?.try_into()?)
    }

    /// Attaches `hook` by its best rung and says which, or why none.
    fn attach_hook(&mut self, hook: &hooks::Hook, btf: &Btf) -> String {
        let mut refusals = Vec::new();
        for rung in hook.rungs {
            match self.attach_rung(rung, btf) {
                Ok(()) => {
                    self.timers |= rung.timer;
                    return rung.label.to_owned();
                }
                Err(error) => {
                    log::debug!("{}: {error:#}", rung.label);
                    refusals.push(format!("{}: {}", rung.label, reason(&error)));
                }
            }
        }
        format!("no: {}; without it no {}", refusals.join("; "), hook.loss)
    }

    fn attach_rung(&mut self, rung: &hooks::Rung, btf: &Btf) -> Result<()> {
        for (index, (name, target)) in rung.programs.iter().enumerate() {
            let program = self.ebpf.program_mut(name).with_context(|| format!("the object has no {name}"))?;
            if let Err(error) = attach(program, target, btf) {
                for (name, _) in &rung.programs[..index] {
                    // Without its companion it would only cost; whether it goes, nobody could act on.
                    let _ = self.ebpf.program_mut(name).map(unload);
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Kernels before 5.11 count maps against RLIMIT_MEMLOCK, and a look holds a descriptor for each network namespace. Where a limit
/// cannot be raised, whatever meets it says so.
fn raise_limits() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn load(types: &Types, offsets: &Offsets, options: &Options, btf: &Btf) -> Result<Ebpf> {
    let has_third = |tracepoint| u32::from(types.tracepoint_arguments(tracepoint) == Some(3));
    let settings = Plain(Settings {
        all_events: u32::from(options.all_events),
        retransmit_has_error: has_third("tcp_retransmit_skb"),
        reset_has_reason: has_third("tcp_send_reset"),
        wake_bytes: WAKE_BYTES.min(options.buffer_bytes / 8),
        filter: options.filter,
    });
    let offsets = Plain(*offsets);
    // With no log wanted the verifier drops every line of it.
    let log_level = if options.has_log { u8::MAX } else { 0 };
    EbpfLoader::new()
        .btf(Some(btf))
        .override_global("OFFSETS", &offsets, true)
        .override_global("SETTINGS", &settings, true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .map_max_entries("EVENTS", options.buffer_bytes)
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

fn ring(ebpf: &mut Ebpf) -> Result<AsyncFd<RingBuf<MapData>>> {
    let ring = RingBuf::try_from(take_map(ebpf, "EVENTS")?)?;
    // SAFETY: the ring owns its descriptor and gives the same open one for as long as it lives.
    Ok(unsafe { AsyncFd::register(ring) }?)
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))
}

fn attach(program: &mut Program, target: &str, btf: &Btf) -> Result<()> {
    if let Program::BtfTracePoint(program) = program {
        // Two hooks may share a tracepoint.
        if program.fd().is_err() {
            program.load(target, btf)?;
            program.attach()?;
        }
    } else if let Program::FEntry(program) = program {
        program.load(target, btf)?;
        program.attach()?;
    } else if let Program::FExit(program) = program {
        program.load(target, btf)?;
        program.attach()?;
    } else if let Program::KProbe(program) = program {
        program.load()?;
        program.attach(target, 0)?;
    } else if let Program::TracePoint(program) = program {
        // One program may have two tracepoints.
        if program.fd().is_err() {
            program.load()?;
        }
        let (category, name) = target.split_once('/').context("a tracepoint is written category/name")?;
        tracefs::with(|| program.attach(category, name))??;
    } else {
        bail!("no way to attach a program of type {:?}", program.prog_type());
    }
    Ok(())
}

/// Takes back a program whose companion could not attach.
fn unload(program: &mut Program) -> Result<(), ProgramError> {
    if let Program::FEntry(program) = program {
        program.unload()
    } else if let Program::KProbe(program) = program {
        program.unload()
    } else if let Program::BtfTracePoint(program) = program {
        program.unload()
    } else if let Program::TracePoint(program) = program {
        program.unload()
    } else {
        Ok(())
    }
}

/// The innermost cause of an error, on one line; with the verifier's last words where it refused a program.
fn reason(error: &anyhow::Error) -> String {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().chars().take(160).collect();
    let cause: String = first_line(&error.root_cause().to_string());
    let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref() else { return cause };
    let log = verifier_log.to_string();
    let is_statistics = |line: &str| {
        ["verification time ", "stack depth ", "processed "].iter().any(|start| line.starts_with(start))
    };
    match log.lines().rev().find(|line| !line.is_empty() && !is_statistics(line)) {
        Some(words) => format!("{cause}: {}", first_line(words)),
        None => cause,
    }
}
