//! Attaching a hook: rung by rung, or by the one that is asked for.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{Iter, Program, ProgramError, ProgramFd};
use aya::{Btf, Ebpf};

use super::hooks::{Attachment, Choice, Hook, Refusal, Rung};
use super::{Kernel, tracefs, trial};

impl Kernel {
    /// Attaches `hook` by its best rung, or the one that `choices` name.
    ///
    /// # Errors
    /// When the rung that is asked for cannot be had.
    pub(super) fn attach_hook(
        &mut self,
        hook: &'static Hook,
        choices: &[Choice],
        btf: &Btf,
    ) -> Result<Attachment> {
        if let Some(rung) = hook.chosen(choices) {
            self.attach_rung(rung, btf).map_err(|error| refused(hook, rung, reason(&error)))?;
            return Ok(Attachment::by(hook, rung));
        }
        let mut attachment = Attachment { hook, rung: None, refused: Vec::new() };
        for rung in hook.rungs {
            match self.attach_rung(rung, btf) {
                Ok(()) => {
                    attachment.rung = Some(rung);
                    break;
                }
                Err(error) => {
                    log::debug!("{}: {error:#}", rung.label);
                    attachment.refused.push(Refusal { way: rung.label, why: reason(&error) });
                }
            }
        }
        Ok(attachment)
    }

    fn attach_rung(&mut self, rung: &Rung, btf: &Btf) -> Result<()> {
        // One thread with mounts of its own for all of a rung's: to make and end it takes longer than to attach.
        let attached = if rung.name == "tracepoint" {
            tracefs::with(|| self.attach_programs(rung, btf)).flatten()
        } else {
            self.attach_programs(rung, btf)
        };
        if attached.is_err() {
            for (name, _) in rung.programs {
                // Without its companion it would only cost; whether it goes, nobody could act on.
                let _ = self.ebpf.program_mut(name).map(unload);
            }
            self.attached.retain(|(attached, _)| !rung.programs.iter().any(|(name, _)| name == attached));
            return attached;
        }
        self.timers |= rung.timer;
        Ok(())
    }

    fn attach_programs(&mut self, rung: &Rung, btf: &Btf) -> Result<()> {
        for place @ (name, target) in rung.programs {
            // Two hooks may share a tracepoint.
            if self.attached.contains(place) {
                continue;
            }
            let program = self.ebpf.program_mut(name).with_context(|| format!("the object has no {name}"))?;
            attach(program, target, btf)?;
            self.attached.push(*place);
        }
        Ok(())
    }
}

fn attach(program: &mut Program, target: &str, btf: &Btf) -> Result<()> {
    // Aya finds that out when the program is loaded already, which takes the verifier its time.
    if matches!(program, Program::KProbe(_))
        && let Some(lack) = trial::lacks_kprobes()
    {
        bail!(lack);
    }
    load(program, target, btf)?;
    if let Program::BtfTracePoint(program) = program {
        program.attach()?;
    } else if let Program::FEntry(program) = program {
        program.attach()?;
    } else if let Program::FExit(program) = program {
        program.attach()?;
    } else if let Program::KProbe(program) = program {
        program.attach(target, 0)?;
    } else if let Program::TracePoint(program) = program {
        let (category, name) = target.split_once('/').context("a tracepoint is written category/name")?;
        program.attach(category, name)?;
    }
    Ok(())
}

/// Loads a program, unless it is: most are loaded ahead, and one may have two tracepoints.
pub(super) fn load(program: &mut Program, target: &str, btf: &Btf) -> Result<()> {
    if program.fd().is_ok() {
        return Ok(());
    }
    if let Program::BtfTracePoint(program) = program {
        program.load(target, btf)?;
    } else if let Program::FEntry(program) = program {
        program.load(target, btf)?;
    } else if let Program::FExit(program) = program {
        program.load(target, btf)?;
    } else if let Program::KProbe(program) = program {
        program.load()?;
    } else if let Program::Iter(program) = program {
        program.load(target, btf)?;
    } else if let Program::TracePoint(program) = program {
        program.load()?;
    } else {
        bail!("no way to load a program of type {:?}", program.prog_type());
    }
    Ok(())
}

/// Takes every hook off. Gives the programs' own descriptors with their names: by these the kernel still tells of their runs.
///
/// Those that come off at once go first. For one that is attached through perf the kernel takes tens of milliseconds, in which the others
/// would go on to fill a ring buffer that nobody reads.
pub(super) fn take_off(ebpf: &mut Ebpf) -> Vec<(Arc<str>, ProgramFd)> {
    let hooks = ebpf.programs_mut().filter(|(_, program)| !matches!(program, Program::Iter(_)));
    let (at_once, slowly): (Vec<_>, Vec<_>) =
        hooks.partition(|(_, program)| matches!(program, Program::BtfTracePoint(_)));
    at_once.into_iter().chain(slowly).filter_map(|(name, program)| take_one_off(name, program)).collect()
}

/// The same with one program; none where it is not loaded.
pub(super) fn take_one_off(name: &str, program: &mut Program) -> Option<(Arc<str>, ProgramFd)> {
    let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?)).ok()?;
    // One that does not come off goes with this process.
    let _ = unload(program);
    Some((Arc::from(name), fd))
}

/// Takes back a program, as where its companion could not attach.
fn unload(program: &mut Program) -> Result<(), ProgramError> {
    if let Program::FEntry(program) = program {
        program.unload()
    } else if let Program::FExit(program) = program {
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

/// The error where a rung that `--hooks` asks for cannot be had.
pub(super) fn refused(hook: &Hook, rung: &Rung, why: String) -> anyhow::Error {
    anyhow!(why).context(format!(
        "attach hook {} {}: this kernel refuses it; leave --hooks {}={} out, and zsock takes the best way that it offers",
        hook.name, rung.label, hook.name, rung.name
    ))
}

/// Loads an iterator, unless it is.
pub(super) fn load_iterator(iterator: &mut Iter, target: &str, btf: &Btf) -> Result<()> {
    if iterator.fd().is_err() {
        iterator.load(target, btf)?;
    }
    Ok(())
}

/// The innermost cause of an error, on one line; with the verifier's last words where it refused a program.
pub(super) fn reason(error: &anyhow::Error) -> String {
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
