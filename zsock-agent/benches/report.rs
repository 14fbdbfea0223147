//! What it costs to read and judge a recording that keeps every event, against the cheapest `jq` on the same file in the same run.
//!
//! `cargo bench --bench report [RECORDS]`: makes a recording of that many records (1,000,000 unless told otherwise) as
//! `record --events all` would keep it: births and ends of healthy connections, one in a hundred in trouble, with its verdicts; plain,
//! and in zstd frames of a second each. Reads and judges it on one thread and prints what that took of the processor, and the most memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use zsock_agent::detect::Thresholds;
use zsock_agent::engine::Engine;
use zsock_agent::recording::read::{self, Next};
use zsock_agent::sink::ndjson;

mod traffic;

use traffic::Traffic;

/// As many records are in one frame: those of a second.
const FRAME: u64 = 5_000;

fn main() -> Result<()> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let records: u64 = match given {
        Some(given) => given.parse().with_context(|| format!("{given} is no number of records"))?,
        None => 1_000_000,
    };
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(&directory)?;
    let [plain, compressed] = ["report.ndjson", "report.ndjson.zst"].map(|name| directory.join(name));
    make(records, &plain, &compressed)?;
    let (held, from_plain) = zsock("plain", &plain)?;
    let (held_compressed, from_compressed) = zsock("zstd", &compressed)?;
    ensure!(held == held_compressed, "both hold the same");
    let by_jq = jq(held, &plain)?;
    for (what, took) in [("plain", from_plain), ("zstd", from_compressed)] {
        println!("jq takes {:.1} times as long as zsock, {what}", by_jq.as_secs_f64() / took.as_secs_f64());
    }
    [plain, compressed].iter().try_for_each(fs::remove_file)?;
    Ok(())
}

/// Writes a recording in both forms.
fn make(records: u64, plain: &Path, compressed: &Path) -> Result<()> {
    let mut plain = BufWriter::new(File::create(plain)?);
    let mut compressed = File::create(compressed)?;
    let mut frame = Vec::new();
    let mut engine = Engine::new(Thresholds::default());
    let mut written = 0;
    for record in Traffic::default() {
        let verdicts = engine.push(&record);
        for record in std::iter::once(&record).chain(verdicts.iter().map(|finding| &finding.record)) {
            let line = ndjson::render(record);
            plain.write_all(&line)?;
            frame.extend_from_slice(&line);
            written += 1;
            if written % FRAME == 0 || written == records {
                let mut encoder = zstd::Encoder::new(&mut compressed, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                encoder.write_all(&frame)?;
                encoder.finish()?;
                frame.clear();
            }
            if written == records {
                return Ok(plain.flush()?);
            }
        }
    }
    Ok(())
}

/// Reads and judges a recording; how many records it holds, and the time it took.
fn zsock(what: &str, path: &Path) -> Result<(u64, Duration)> {
    // The most memory from here on.
    fs::write("/proc/self/clear_refs", "5")?;
    let before = cpu(UsageWho::RUSAGE_SELF)?;
    let mut engine = Engine::new(Thresholds::default());
    let (mut records, mut recorded, mut found) = (0, 0, 0);
    for mut recording in read::open(&[path.to_owned()])? {
        while let Some(next) = recording.next_record() {
            let Next::Record(record) = next else { anyhow::bail!("{next:?}") };
            records += 1;
            recorded += u64::from(matches!(record.body, zsock_agent::record::Body::Verdict(_)));
            found += engine.push(&record).len() as u64;
        }
    }
    // The last records of a recording that is cut may lack their verdicts.
    ensure!(found.abs_diff(recorded) <= 16, "{found} verdicts were found, {recorded} recorded");
    let took = cpu(UsageWho::RUSAGE_SELF)?.saturating_sub(before);
    tell(&format!("zsock, {what}"), records, took);
    println!("             {found} verdicts found again; at most {} MiB of memory", peak_kib()? / 1024);
    Ok((records, took))
}

fn jq(records: u64, path: &Path) -> Result<Duration> {
    let before = cpu(UsageWho::RUSAGE_CHILDREN)?;
    let status = Command::new("jq")
        .args(["-c", ".type"])
        .arg(path)
        .stdout(Stdio::null())
        .status()
        .context("run jq")?;
    ensure!(status.success(), "jq failed: {status}");
    let took = cpu(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(before);
    tell("jq -c .type", records, took);
    Ok(took)
}

#[expect(clippy::cast_precision_loss, reason = "of some millions")]
fn tell(who: &str, records: u64, took: Duration) {
    let rate = records as f64 / took.as_secs_f64();
    println!("{who} {records} records in {took:.2?} of processor time: {rate:.0} a second");
}

/// Processor time so far.
fn cpu(who: UsageWho) -> Result<Duration> {
    let usage = getrusage(who)?;
    let duration = |time: nix::sys::time::TimeVal| -> Result<Duration> {
        let whole = Duration::from_secs(time.tv_sec().try_into()?);
        Ok(whole + Duration::from_micros(time.tv_usec().try_into()?))
    };
    Ok(duration(usage.user_time())? + duration(usage.system_time())?)
}

/// The most memory that this process had.
fn peak_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(peak.trim().trim_end_matches(" kB").parse()?)
}
