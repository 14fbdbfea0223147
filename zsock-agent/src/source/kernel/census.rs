//! The census: rows of every TCP socket and of every descriptor of one, read from the iterators themselves. Nothing is attached, and nothing
//! stays when it is done.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use aya::{Btf, Ebpf};
use zerocopy::FromBytes;
use zsock_common::offsets::Offsets;
use zsock_common::settings::Filter;
use zsock_common::wire::{CensusHolder, CensusRecord};

use super::attach::load_iterator;
use super::{Options, hooks, load, looks};
use crate::source::btf::{self, Types};
use crate::source::decode::rows;
use crate::source::namespaces;

/// An iterator hands over no more at once than its own buffer holds, eight pages (or sixteen times as much, where pages are that large).
const READ_BYTES: usize = 64 * 1024;

/// Rows are handed from thread to thread by so many bytes,
const BUFFER_BYTES: usize = 256 * 1024;
/// and in so many buffers.
const BUFFERS: usize = 3;

/// The least that the map of events may have; the census writes none.
const EVENTS_BYTES: u32 = 64 * 1024;

/// The programs of a census, loaded.
pub struct Census {
    ebpf: Ebpf,
    offsets: Offsets,
    missing: Vec<&'static str>,
    /// Programs may make a socket's cookie; where they may not, somebody else has to have asked for it.
    pub makes_cookies: bool,
}

impl Census {
    /// Loads the programs.
    ///
    /// # Errors
    /// Without BTF, without the right to load programs, or where the kernel has no iterators.
    pub fn load(filter: Filter) -> Result<Self> {
        load::raise_limit();
        let types = Types::read(Path::new(btf::VMLINUX))?;
        let (offsets, missing) = types.offsets()?;
        let options = Options {
            all_events: false,
            buffer_bytes: EVENTS_BYTES,
            stored_sockets: 1,
            count_states: false,
            filter,
            has_log: false,
            hooks: Vec::new(),
        };
        let load::Loaded { mut ebpf, sockets, btf } =
            load::load(&types, &offsets, &options, load::Part::Census)?;
        for (name, target) in [("census_sockets", "tcp"), ("census_holders", "task_file")] {
            load_iterator(super::program(&mut ebpf, name)?, target, &btf)
                .with_context(|| format!("load the iterator over {target}"))?;
        }
        let makes_cookies = sockets.rung.is_some_and(|rung| rung.name == hooks::BY_COOKIE.name);
        Ok(Self { ebpf, offsets, missing, makes_cookies })
    }

    /// Where this kernel keeps its fields.
    #[must_use]
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Names of the fields that it has not.
    #[must_use]
    pub fn missing_fields(&self) -> &[&'static str] {
        &self.missing
    }

    /// Hands over every descriptor of a TCP socket, process by process.
    ///
    /// # Errors
    /// When the iterator cannot be opened or read.
    pub fn holders(&mut self, each: impl FnMut(CensusHolder)) -> Result<()> {
        let file = looks::open(super::program(&mut self.ebpf, "census_holders")?)?;
        read_all(file, each).context("walk the files of all processes")
    }

    /// Hands over every TCP socket of `namespaces`. Returns those that could not be looked into, with the reason.
    ///
    /// # Errors
    /// When there is no iterator over sockets.
    pub fn sockets(
        &mut self,
        namespaces: &BTreeMap<u64, File>,
        mut each: impl FnMut(CensusRecord),
    ) -> Result<Vec<(u64, anyhow::Error)>> {
        let iterator = super::program(&mut self.ebpf, "census_sockets")?;
        // The iterator walks the namespace of the thread that opens it.
        let opened = namespaces::in_each(namespaces, |_| looks::open(iterator));
        let mut failed = Vec::new();
        for (namespace, file) in opened {
            let file = file.map_err(|errno| anyhow!(errno).context("enter the network namespace")).flatten();
            let walked = file.and_then(|file| read_all(file, &mut each).context("walk its sockets"));
            failed.extend(walked.err().map(|error| (namespace, error)));
        }
        Ok(failed)
    }

    /// Walks the same sockets and files by programs that write 200 bytes of each and do nothing else: what a census costs is measured
    /// against it. Returns how many bytes they wrote.
    ///
    /// # Errors
    /// When an iterator cannot be loaded, opened or read.
    pub fn bare_walk(&mut self) -> Result<usize> {
        let btf = Btf::from_sys_fs().context("read the kernel's types")?;
        let mut bytes = vec![0; READ_BYTES];
        let mut walked = 0;
        for (name, target) in [("bare_holders", "task_file"), ("bare_sockets", "tcp")] {
            let iterator = super::program(&mut self.ebpf, name)?;
            load_iterator(iterator, target, &btf)?;
            let mut file = looks::open(iterator)?;
            loop {
                match file.read(&mut bytes)? {
                    0 => break,
                    read => walked += read,
                }
            }
        }
        Ok(walked)
    }
}

/// Hands over rows until there are no more. The kernel makes them on a thread of its own while those before are looked at.
fn read_all<T: FromBytes>(mut file: File, mut each: impl FnMut(T)) -> Result<()> {
    let (filled, to_look_at) = sync_channel::<Vec<u8>>(BUFFERS);
    let (seen, to_fill) = channel();
    for _ in 0..BUFFERS {
        seen.send(Vec::new()).context("hand over a buffer")?;
    }
    thread::scope(|scope| {
        let read = move || fill_all(&mut file, size_of::<T>(), &to_fill, &filled);
        let reader = thread::Builder::new().spawn_scoped(scope, read).context("start a thread")?;
        for buffer in to_look_at {
            rows(&buffer).for_each(&mut each);
            // The reader is gone once it has read everything.
            let _ = seen.send(buffer);
        }
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Fills buffer after buffer with whole rows.
fn fill_all(
    file: &mut File,
    row_bytes: usize,
    to_fill: &Receiver<Vec<u8>>,
    filled: &SyncSender<Vec<u8>>,
) -> Result<()> {
    let mut rest = Vec::new();
    while let Ok(mut buffer) = to_fill.recv() {
        buffer.clear();
        buffer.append(&mut rest);
        let is_over = fill(file, &mut buffer)?;
        // A read may end within a row.
        let whole = buffer.len() / row_bytes * row_bytes;
        rest.extend_from_slice(&buffer[whole..]);
        buffer.truncate(whole);
        if filled.send(buffer).is_err() || is_over {
            break;
        }
    }
    Ok(())
}

/// Fills a buffer as far as the kernel's own might not find room in it. Returns whether there is nothing more to read.
fn fill(file: &mut File, buffer: &mut Vec<u8>) -> Result<bool> {
    let mut length = buffer.len();
    buffer.resize(BUFFER_BYTES, 0);
    while length + READ_BYTES <= BUFFER_BYTES {
        match file.read(&mut buffer[length..]) {
            // After a million rows of which none is wanted the kernel takes a rest.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(0) => {
                buffer.truncate(length);
                return Ok(true);
            }
            read => length += read?,
        }
    }
    buffer.truncate(length);
    Ok(false)
}
