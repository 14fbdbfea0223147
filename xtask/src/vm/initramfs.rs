//! The file system of a virtual machine, all of it in memory: busybox, dash, iproute2, nftables, the kernel's modules
//! that the tests need, and what a run brings along.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::kernels::Kernel;
use crate::command;

/// Modules that the end-to-end tests need, beside those that these depend on. What a kernel has built in or does not
/// know is left out.
const MODULES: [&str; 14] = [
    "veth",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_counter",
    "nft_numgen",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "tcp_diag",
    "sch_netem",
];
/// This machine's own programs that the virtual ones use, with their libraries.
const PROGRAMS: [&str; 4] = ["dash", "ip", "nft", "ss"];
/// Read by nft for the names of protocols.
const SETTINGS: [&str; 3] = ["/etc/protocols", "/etc/services", "/etc/nsswitch.conf"];
const INIT: &str = include_str!("init.sh");

/// A file system that is being put together in a directory.
pub(crate) struct Initramfs {
    root: PathBuf,
    busybox: PathBuf,
}

impl Initramfs {
    /// What every virtual machine has, in `root`, which is emptied first.
    pub(crate) fn new(root: PathBuf, busybox: &Path) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        let this = Self { root, busybox: busybox.to_owned() };
        let empty =
            "dev proc sys run tmp root work modules etc usr/bin usr/sbin usr/lib usr/lib64 usr/busybox";
        for directory in empty.split(' ') {
            this.directory(directory)?;
        }
        for merged in ["bin", "sbin", "lib", "lib64"] {
            this.link(&format!("usr/{merged}"), merged)?;
        }
        this.busybox()?;
        for program in PROGRAMS {
            this.program(program)?;
        }
        this.link("dash", "usr/bin/sh")?;
        for file in SETTINGS.map(Path::new) {
            if file.is_file() {
                this.copy(file, &file.to_string_lossy())?;
            }
        }
        this.script("init", INIT)?;
        Ok(this)
    }

    /// Copies a file of this machine to a place inside.
    pub(crate) fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.path(to);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::copy(from, &to)
            .map(drop)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
    }

    /// Writes an executable file.
    pub(crate) fn script(&self, to: &str, text: &str) -> Result<()> {
        let to = self.path(to);
        fs::write(&to, text)
            .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", to.display()))
    }

    /// Adds the modules that the tests need, and the list of them in the order in which they can be loaded.
    pub(crate) fn modules(&self, kernel: &Kernel) -> Result<()> {
        let all = modules(&kernel.modules)?;
        let mut order = Vec::new();
        for name in MODULES {
            self.module(name, &all, &mut order)?;
        }
        ensure!(
            order.iter().any(|file| file == "veth.ko"),
            "{} has no module veth: it is no whole kernel",
            kernel.modules.display()
        );
        let list = self.path("modules/order");
        fs::write(&list, order.join("\n") + "\n").with_context(|| format!("cannot write {}", list.display()))
    }

    /// Adds a module after those that it depends on.
    fn module(&self, name: &str, all: &BTreeMap<String, PathBuf>, order: &mut Vec<String>) -> Result<()> {
        let file = format!("{name}.ko");
        let Some(path) = all.get(name).filter(|_| !order.contains(&file)) else { return Ok(()) };
        let module = decompressed(path)?;
        for needed in depends(&module) {
            self.module(&needed, all, order)?;
        }
        let to = self.path("modules").join(&file);
        fs::write(&to, module).with_context(|| format!("cannot write {}", to.display()))?;
        order.push(file);
        Ok(())
    }

    /// Packs all of it into the archive that a kernel unpacks.
    pub(crate) fn pack(&self, archive: &Path) -> Result<()> {
        let output = File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
        let mut find = Command::new(&self.busybox);
        let mut find = find
            .args(["find", "."])
            .current_dir(&self.root)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start busybox")?;
        let names = find.stdout.take().context("busybox has no stdout")?;
        let mut pack = Command::new(&self.busybox);
        pack.args(["cpio", "-o", "-H", "newc"]).current_dir(&self.root);
        let packed = pack.stdin(names).stdout(output).stderr(Stdio::null()).status();
        let packed = packed.context("cannot start busybox")?;
        let found = find.wait().context("cannot wait for busybox")?;
        ensure!(packed.success() && found.success(), "cannot pack {}", archive.display());
        Ok(())
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    fn directory(&self, inside: &str) -> Result<()> {
        let path = self.path(inside);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))
    }

    fn link(&self, target: &str, inside: &str) -> Result<()> {
        let path = self.path(inside);
        symlink(target, &path).with_context(|| format!("cannot make the link {}", path.display()))
    }

    /// Busybox under all its names. They come last in `PATH`: where there is the real program, that is meant.
    fn busybox(&self) -> Result<()> {
        self.copy(&self.busybox, "usr/bin/busybox")?;
        for applet in command::output(Command::new(&self.busybox).arg("--list"))?.lines() {
            self.link("../bin/busybox", &format!("usr/busybox/{applet}"))?;
        }
        Ok(())
    }

    /// A program of this machine's with the libraries that it needs.
    fn program(&self, name: &str) -> Result<()> {
        let program = command::find(name).with_context(|| format!("there is no `{name}` on this machine"))?;
        self.copy(&program, &format!("usr/bin/{name}"))?;
        for library in libraries(&command::output(Command::new("ldd").arg(&program))?) {
            self.copy(Path::new(&library), &library)?;
        }
        Ok(())
    }
}

/// The files that `ldd` lists.
fn libraries(listed: &str) -> Vec<String> {
    let words = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(str::to_owned).collect()
}

/// Every module below a directory by its name.
fn modules(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory);
        let entries = entries.with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
            } else if let Some((name, _)) = name.split_once(".ko") {
                found.insert(name.replace('-', "_"), path);
            }
        }
    }
    Ok(found)
}

fn decompressed(module: &Path) -> Result<Vec<u8>> {
    let read = || format!("cannot read {}", module.display());
    let Some("xz") = module.extension().and_then(std::ffi::OsStr::to_str) else {
        return fs::read(module).with_context(read);
    };
    let output = Command::new("xz").arg("-dc").arg(module).output().context("cannot start xz")?;
    ensure!(output.status.success(), "{}", read());
    Ok(output.stdout)
}

/// The modules that a module says it needs: `depends=nf_conntrack,nf_defrag_ipv6` among its strings.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[start + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::{depends, libraries};

    #[test]
    fn a_module_says_what_it_depends_on() {
        let module = b"\x7fELF\0license=GPL\0depends=nf_conntrack,nf-defrag-ipv6\0retpoline=Y\0";
        assert_eq!(depends(module), ["nf_conntrack", "nf_defrag_ipv6"]);
        assert_eq!(depends(b"\0depends=\0retpoline=Y\0"), [""; 0]);
        assert_eq!(depends(b"\0license=GPL\0"), [""; 0]);
    }

    #[test]
    fn libraries_are_read_from_the_output_of_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x00007f1)
\tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f2)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f3)";
        assert_eq!(libraries(listed), ["/lib/x86_64-linux-gnu/libmnl.so.0", "/lib64/ld-linux-x86-64.so.2"]);
        assert_eq!(libraries("\tstatically linked"), [""; 0]);
    }
}
