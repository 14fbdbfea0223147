//! What loads the object.

use std::env::consts::ARCH;
use std::thread;

use aya::EbpfLoader;
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// A loader that did not read the kernel's types. Aya's does whenever one is made, which takes some 20 ms, and nothing in the object asks
/// for them: it is made on a thread that can open no file, and does without.
pub(super) fn make() -> EbpfLoader<'static> {
    let make = || {
        // Where it is not allowed the types are read, and that is all.
        let _ = open_nothing();
        EbpfLoader::new()
    };
    match thread::Builder::new().spawn(make) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => EbpfLoader::new(),
    }
}

/// From here on this thread can open no file.
fn open_nothing() -> anyhow::Result<()> {
    let calls = [(libc::SYS_openat, Vec::new())].into();
    let refused = SeccompAction::Errno(libc::EACCES.cast_unsigned());
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, refused, ARCH.try_into()?)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_has_not_read_the_kernels_types() {
        let loader = format!("{:?}", make());
        assert!(loader.starts_with("EbpfLoader { btf: None,"), "{}", &loader[..100]);
    }
}
