//! Landlock: the thread that writes what zsock prints can write nothing else.
//!
//! Not for the other threads: the kernel lets a thread under Landlock look into no process outside of it (`ptrace(2)`), whatever the
//! rules say, and `/proc/PID/{fd,ns,exe,syscall,mem}` are closed to it.

use std::path::Path;

use anyhow::{Context, Result};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, path_beneath_rules,
};

/// What the newest kernel known can forbid; an older one forbids what it can.
const NEWEST: ABI = ABI::V6;

/// Confines the calling thread, and those that it starts: it writes nowhere but below `writable`, and neither listens nor connects.
/// What is open already can be written to. Returns what the kernel made of it, for a person.
///
/// # Errors
/// When the kernel has Landlock and refuses all the same.
pub fn confine_writer(writable: &[&Path]) -> Result<String> {
    let write = AccessFs::from_write(NEWEST);
    let status = Ruleset::default()
        .handle_access(write)
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_beneath_rules(writable, write)))
        .and_then(landlock::RulesetCreated::restrict_self)
        .context("confine a thread (Landlock)")?;
    let kernel = match status.landlock {
        LandlockStatus::NotImplemented => return Ok("not confined: this kernel has no Landlock".to_owned()),
        LandlockStatus::NotEnabled => {
            return Ok("not confined: Landlock was left out when this kernel booted".to_owned());
        }
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
    };
    let network = if kernel >= ABI::V4 { ", and neither listens nor connects" } else { "" };
    let places: Vec<String> = writable.iter().map(|path| path.display().to_string()).collect();
    let but = if places.is_empty() { String::new() } else { format!(" but below {}", places.join(" and ")) };
    Ok(format!("confined (Landlock {kernel:?}): it opens no file for writing{but}{network}"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::thread;

    use super::*;

    #[test]
    fn a_confined_thread_writes_only_where_it_may() {
        let root = std::env::temp_dir().join(format!("zsock-landlock-{}", std::process::id()));
        let (open, closed) = (root.join("open"), root.join("closed"));
        for directory in [&open, &closed] {
            fs::create_dir_all(directory).unwrap();
        }
        let confined = || {
            let told = confine_writer(&[&open]).unwrap();
            let written = [&open, &closed].map(|directory| File::create(directory.join("new")).is_ok());
            let connected = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok();
            (told, written, connected, TcpStream::connect((Ipv4Addr::LOCALHOST, 9)))
        };
        let (told, written, bound, connected) = thread::scope(|scope| scope.spawn(confined).join()).unwrap();
        assert!(File::create(closed.join("from outside")).is_ok(), "no other thread is confined");
        fs::remove_dir_all(&root).unwrap();
        let is_confined = !told.starts_with("not confined");
        assert_eq!(written, [true, !is_confined], "{told}");
        // Landlock knows of TCP since Linux 6.7.
        let has_network = told.contains("connects");
        assert_eq!(bound, !has_network, "{told}");
        let refused = connected.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        assert_eq!(refused, has_network, "{told}");
    }
}
