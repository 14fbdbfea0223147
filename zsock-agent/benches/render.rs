//! What it costs to write events, against the way that writes every record, in the same run.
//!
//! `cargo bench --bench render [WAY [RECORDS]]`: writes that many events of a busy host (50,000 unless told otherwise) in each way, or in one
//! of them: `serde`, `json` or `text`. Prints medians for a record, and what part of the first way's time the others take.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};
use zsock_agent::record::Record;
use zsock_agent::sink::{Batch, Ndjson, Palette, Renderer, Text, ndjson};
use zsock_agent::time::Time;

mod traffic;

use traffic::Traffic;

const ROUNDS: usize = 9;

/// As many are of one batch.
const BATCH: usize = 100;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let wanted = arguments.next();
    let count = arguments.next().map_or(Ok(50_000), |count| count.parse()).context("a number of records")?;
    let records: Vec<Record> = Traffic::default().take(count).collect();
    let mut first = None;
    for (name, way) in WAYS {
        if wanted.as_deref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let (took, bytes) = measure(way, &records)?;
        let of_first = took.as_secs_f64() / first.get_or_insert(took).as_secs_f64();
        let each = |total: u128| total / count.max(1) as u128;
        println!(
            "{name:<6} {} ns, {} bytes a record, ratio {of_first:.2}",
            each(took.as_nanos()),
            each(bytes as u128)
        );
    }
    Ok(())
}

/// Writes records and returns how many bytes these were.
type Way = fn(&[Record], &mut Batch) -> usize;

const WAYS: [(&str, Way); 3] = [("serde", serde), ("json", json), ("text", text)];

fn serde(records: &[Record], _: &mut Batch) -> usize {
    records.iter().map(|record| ndjson::render(record).len()).sum()
}

fn json(records: &[Record], batch: &mut Batch) -> usize {
    render(Renderer::Ndjson(Ndjson::default()), records, batch)
}

fn text(records: &[Record], batch: &mut Batch) -> usize {
    render(Renderer::Text(Text::new(Palette::PLAIN)), records, batch)
}

fn render(mut renderer: Renderer, records: &[Record], batch: &mut Batch) -> usize {
    let of_some = |some: &[Record]| {
        batch.clear();
        for record in some {
            renderer.render(record, None, batch);
        }
        renderer.flush(Time::from_unix_ns(0), batch);
        batch.as_bytes().len()
    };
    records.chunks(BATCH).map(of_some).sum()
}

fn measure(way: Way, records: &[Record]) -> Result<(Duration, usize)> {
    let mut batch = Batch::default();
    let mut bytes = 0;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = now()?;
        bytes = way(records, &mut batch);
        times.push(now()?.saturating_sub(began));
    }
    times.sort_unstable();
    Ok((times[ROUNDS / 2], bytes))
}

/// The processor time of this thread: others on the machine do not count.
fn now() -> Result<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).context("read the clock")
}
