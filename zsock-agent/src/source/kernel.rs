//! Loads the eBPF object, attaches the hooks, reads the ring buffer, runs the iterators. The only module that names `aya`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::programs::{Iter, ProgramFd};
use aya::{Ebpf, Pod};
use aya_log::EbpfLogger;
use caps::Capability;
use tokio::io::unix::AsyncFd;
use zsock_common::offsets::Offsets;
use zsock_common::settings::{Filter, Settings};
use zsock_common::wire::{AcceptFailures, Control, Counters, Remote, Rest, accept_key};

use crate::budget::READ_BYTES;
use crate::privileges::capabilities;
use crate::source::btf::{self, Types};
use crate::source::kernel::hooks::Attachment;
use crate::source::kernel::looks::Limits;
use crate::source::kernel::ring::{Broken, Ring};

mod ahead;
mod attach;
pub mod census;
pub mod hooks;
mod load;
mod loader;
pub mod looks;
pub mod optional;
mod rest;
mod ring;
pub mod runs;
pub mod states;
mod tracefs;
pub mod trial;

/// The kernel side, as `cargo xtask ebpf` built it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../zsock-ebpf/zsock.bpf.o");

/// The reader is woken whenever this much more is waiting, or an eighth of a small buffer. A wake-up costs more than a record.
const WAKE_BYTES: u32 = 256 * 1024;

/// What the kernel side is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Every event, not only those of sockets in trouble.
    pub all_events: bool,
    /// Size of the ring buffer, a power of two.
    pub buffer_bytes: u32,
    /// How many sockets the kernel side may give storage of their own.
    pub stored_sockets: u32,
    /// Count sockets by state, for [`Kernel::sockets_by_state`] and [`Kernel::connections`].
    pub count_states: bool,
    /// Which sockets.
    pub filter: Filter,
    /// Let the programs write a log.
    pub has_log: bool,
    /// Rungs that hooks must be attached by.
    pub hooks: Vec<hooks::Choice>,
}

/// The running kernel side. Dropping it detaches everything.
pub struct Kernel {
    ebpf: Ebpf,
    events: AsyncFd<Ring>,
    /// Why nothing more can be read from the ring buffer.
    broken: Option<Broken>,
    buffer_bytes: usize,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    control: Array<MapData, Plain<Control>>,
    rest: Array<MapData, Plain<Rest>>,
    rests: rest::Rests,
    states: states::Count,
    wanted: HashMap<MapData, u64, u32>,
    survived: HashMap<MapData, Plain<Remote>, u32>,
    accept_failures: HashMap<MapData, u64, Plain<AcceptFailures>>,
    hooks: Vec<Attachment>,
    /// The programs that are attached, and to what.
    attached: Vec<(&'static str, &'static str)>,
    limits: Limits,
    offsets: Offsets,
    missing_fields: Vec<&'static str>,
    reset_reasons: BTreeMap<u32, String>,
    timers: u32,
    /// Records read so far.
    drained: u64,
    /// The programs' own descriptors once the hooks are off: they still tell what was skipped.
    detached: Vec<(Arc<str>, ProgramFd)>,
    /// Runs are counted as long as it is open.
    statistics: Option<OwnedFd>,
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
unsafe impl Pod for Plain<Rest> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Remote> {}
// SAFETY: as above.
unsafe impl Pod for Plain<AcceptFailures> {}

impl Kernel {
    /// Loads the programs and attaches every hook that this kernel offers.
    ///
    /// # Errors
    /// Without BTF, without the right to load programs, when not even state changes can be followed, or when a rung that is asked for
    /// cannot be had.
    pub fn attach(options: &Options) -> Result<Self> {
        let types = thread::scope(|scope| {
            // What aya wants to know of the kernel it can learn meanwhile; else it does when the object is loaded.
            let _ = thread::Builder::new().spawn_scoped(scope, aya::features);
            Types::read(Path::new(btf::VMLINUX))
        })?;
        Self::attach_by(&types, options)
    }

    /// The same with fields where `types` say that they are.
    ///
    /// # Errors
    /// As above.
    pub fn attach_by(types: &Types, options: &Options) -> Result<Self> {
        let kernel = Self::attach_what_is_offered(types, options)?;
        let state = kernel.hooks.iter().find(|attachment| attachment.hook.name == "state");
        let how = state.map_or_else(|| "no such hook".to_owned(), ToString::to_string);
        if state.is_none_or(|attachment| attachment.rung.is_none()) {
            let how = how.trim_start_matches("no: ");
            if capabilities::lacks(Capability::CAP_PERFMON) {
                return Err(
                    anyhow!("{how}").context(format!("load the eBPF programs: {}", capabilities::advice()))
                );
            }
            bail!("attach to state changes, see `zsock trace -vv`: {how}");
        }
        Ok(kernel)
    }

    /// The same although nothing may be left to attach.
    fn attach_what_is_offered(types: &Types, options: &Options) -> Result<Self> {
        load::raise_limit();
        let (offsets, missing) = types.offsets()?;
        if !missing.is_empty() {
            log::info!("fields that this kernel lacks: {}", missing.join(", "));
        }
        let load::Loaded { mut ebpf, sockets, btf } =
            load::load(types, &offsets, options, load::Part::Hooks)?;
        let events = ring(&ebpf, options.buffer_bytes as usize)?;
        let counters = PerCpuArray::try_from(take_map(&mut ebpf, "COUNTERS")?)?;
        let control = Array::try_from(take_map(&mut ebpf, "CONTROL")?)?;
        let rest = Array::try_from(take_map(&mut ebpf, "REST")?)?;
        let states = states::Count::of(&mut ebpf)?;
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
            broken: None,
            buffer_bytes: options.buffer_bytes as usize,
            counters,
            control,
            rest,
            rests: rest::Rests::default(),
            states,
            wanted,
            survived,
            accept_failures,
            hooks: vec![sockets],
            attached: Vec::new(),
            limits: Limits::default(),
            offsets,
            missing_fields: missing,
            reset_reasons,
            timers: 0,
            drained: 0,
            detached: Vec::new(),
            statistics: None,
            log,
        };
        for hook in hooks::ALL.iter().chain([&hooks::LOOK_AT_SOCKETS, &hooks::LOOK_AT_HOLDERS]) {
            let attachment = kernel.attach_hook(hook, &options.hooks, &btf)?;
            kernel.hooks.push(attachment);
        }
        Ok(kernel)
    }

    /// How each hook is attached; `no: ` and the reason where it is not.
    #[must_use]
    pub fn hooks(&self) -> BTreeMap<String, String> {
        let named = |attachment: &Attachment| (attachment.hook.name.to_owned(), attachment.to_string());
        self.hooks.iter().map(named).collect()
    }

    /// Where this kernel keeps its fields.
    #[must_use]
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Names of the fields that it has not.
    #[must_use]
    pub fn missing_fields(&self) -> &[&'static str] {
        &self.missing_fields
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

    /// Hands every record that has arrived to `each`, but no more than the ring buffer or [`READ_BYTES`] hold: where records come faster
    /// than they are taken, an end must come all the same.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        let Self { events, drained, broken, .. } = self;
        let read = events.get_mut().read(self.buffer_bytes.min(READ_BYTES as usize), |record| {
            *drained += 1;
            each(record);
        });
        let was_broken = std::mem::replace(broken, read.err()).is_some();
        if let Some(Broken::Map(error)) = broken
            && !was_broken
        {
            log::warn!(
                "map the next piece of the ring buffer: {error}; it is tried again, and what finds no room meanwhile is counted as lost. \
                 Leave zsock more memory (ulimit -v, the memory of its control group)"
            );
        }
    }

    /// Whether nothing more can ever be read.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.broken, Some(Broken::Record { .. }))
    }

    /// Unmaps what of the ring buffer is not being read. To be called now and then, so that a storm does not leave it mapped.
    pub fn unmap_spare(&mut self) {
        self.events.get_mut().unmap_spare();
    }

    /// Whether [`Kernel::drain`] has read all that there was.
    ///
    /// # Errors
    /// When it could not.
    pub fn check(&mut self) -> Result<()> {
        match self.broken.take() {
            Some(broken) => Err(anyhow!(broken).context("read the rest of what the programs tell")),
            None => Ok(()),
        }
    }

    /// How far the ring buffer was read, records that were thrown away included.
    #[must_use]
    pub fn position(&self) -> usize {
        self.events.get_ref().position()
    }

    /// Records handed to [`Kernel::drain`]'s callers so far.
    #[must_use]
    pub fn drained(&self) -> u64 {
        self.drained
    }

    /// Takes the hooks off; looks go on working. What the programs wrote until then is still to be drained.
    pub fn detach(&mut self) {
        self.detached.extend(attach::take_off(&mut self.ebpf));
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

    fn iterator(&mut self, name: &str) -> Result<&mut Iter> {
        program(&mut self.ebpf, name)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Iter> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the object has no {name}"))?.try_into()?)
}

fn ring(ebpf: &Ebpf, size_bytes: usize) -> Result<AsyncFd<Ring>> {
    // It stays in the object: programs that are loaded later are told its descriptor.
    let Some(Map::RingBuf(map)) = ebpf.map("EVENTS") else { bail!("the object has no ring buffer EVENTS") };
    let ring = Ring::map(map.fd().as_fd().try_clone_to_owned()?, size_bytes)?;
    // SAFETY: the ring owns its descriptor and gives the same open one for as long as it lives.
    Ok(unsafe { AsyncFd::register(ring) }?)
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))
}
