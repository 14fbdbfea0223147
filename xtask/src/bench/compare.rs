//! Tools that look on at the same load, one after the other, round after round.

use std::time::Duration;

use anyhow::Result;

use super::load::Ready;
use super::namespace::Namespace;
use super::seen::Seen;
use super::table::{Column, DoesNotRun, Measured, Row, Table, median};
use super::tool::Tool;
use super::{Bench, interrupted};

/// A load that is ready to begin; the namespaces go after it.
pub(crate) struct Scene {
    pub(crate) load: Ready,
    /// Tools look on in the first.
    pub(crate) namespaces: Vec<Namespace>,
}

/// A question that a load and tools answer.
pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    pub(crate) tools: &'static [Tool],
    pub(crate) scene: fn(&Bench) -> Result<Scene>,
    /// Whether what the load does is compared with what it does without a tool.
    pub(crate) compares_load: bool,
    pub(crate) columns: Vec<Column>,
    /// One tool's part in one round, as a number for each column, given the load's numbers without a tool.
    pub(crate) cells: fn(&Tool, &Trial, &[f64]) -> Vec<Option<f64>>,
}

/// What one tool showed in one round.
pub(crate) struct Trial {
    /// What the load did, in numbers.
    pub(crate) load: Vec<f64>,
    /// The processor time that the tool used from the load's beginning until it had worked off everything.
    pub(crate) cpu: Duration,
    pub(crate) seen: Seen,
}

impl Trial {
    /// Seconds of processor time for a million of what was told, or of `happened` where nothing has to be.
    pub(crate) fn cpu_of_million(&self, tool: &Tool, happened: f64) -> Option<f64> {
        let events = if tool.told_of_each.is_some() { number(self.seen.events) } else { happened };
        (events > 0.0).then(|| self.cpu.as_secs_f64() * 1e6 / events)
    }

    /// The share of what should have been told, and was not, in per cent. What others do on the machine may be told as well.
    pub(crate) fn lost_percent(&self, tool: &Tool, happened: f64) -> Option<f64> {
        let expected = tool.told_of_each? * happened;
        (expected > 0.0).then(|| (100.0 * (1.0 - number(self.seen.events) / expected)).max(0.0))
    }

    /// How much was told, where anything should be.
    pub(crate) fn told(&self, tool: &Tool) -> Option<f64> {
        tool.told_of_each.map(|_| number(self.seen.events))
    }
}

/// Measures every tool in each round, beside none at all, and gives medians over the rounds.
///
/// # Errors
/// When a load cannot be set up, or on Ctrl-C. A tool that does not run is none.
pub(crate) fn compare(bench: &Bench, question: Question) -> Result<Table> {
    let Question { name, title, tools, scene, compares_load, columns, cells } = question;
    let mut measured: Vec<Vec<Vec<Option<f64>>>> = tools.iter().map(|_| Vec::new()).collect();
    let mut refused: Vec<Option<DoesNotRun>> = vec![None; tools.len()];
    for round in 0..bench.rounds {
        // Each round begins with another one.
        for place in (0..tools.len()).map(|turn| (turn + round) % tools.len()) {
            interrupted()?;
            if refused[place].is_some() {
                continue;
            }
            let tool = &tools[place];
            eprintln!("xtask: {name}, round {}: {}", round + 1, tool.name);
            // Right before the tool's turn, for what else goes on on the machine changes from minute to minute.
            let alone = if compares_load { undisturbed(scene(bench)?)? } else { Vec::new() };
            match trial(bench, tool, scene(bench)?)? {
                Ok(trial) => measured[place].push(cells(tool, &trial, &alone)),
                Err(why) => refused[place] = Some(why),
            }
        }
    }
    let rows = tools.iter().zip(measured).zip(refused).map(|((tool, rounds), refused)| Row {
        name: tool.name.to_owned(),
        cells: refused.map_or_else(|| Ok(medians(&rounds, columns.len())), Err),
    });
    let rows = rows.collect();
    Ok(Table { question: name, title, columns, rows })
}

/// What the load does without a tool.
fn undisturbed(mut scene: Scene) -> Result<Vec<f64>> {
    scene.load.go()?;
    scene.load.numbers()
}

fn trial(bench: &Bench, tool: &Tool, mut scene: Scene) -> Result<Measured<Trial>> {
    let mut running = match tool.start(bench, &scene.namespaces[0])? {
        Ok(running) => running,
        Err(why) => return Ok(Err(why)),
    };
    let before = running.cpu()?;
    scene.load.go()?;
    if let Err(why) = running.drain()? {
        return Ok(Err(why));
    }
    let cpu = running.cpu()?.saturating_sub(before);
    let load = scene.load.numbers()?;
    Ok(Ok(Trial { load, cpu, seen: running.stop()? }))
}

/// Column by column over the rounds.
fn medians(rounds: &[Vec<Option<f64>>], columns: usize) -> Vec<Option<f64>> {
    (0..columns).map(|column| median(rounds.iter().filter_map(|round| round[column]))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "what is counted here is far below 2^53")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::seen::Seen;
    use super::super::tool::{Count, Tool};
    use super::{Trial, medians};

    fn tool(told_of_each: Option<f64>) -> Tool {
        Tool { name: "tool", command: &[], count: Count::Unread, told_of_each }
    }

    #[test]
    fn what_a_tool_should_have_told_and_did_not_is_lost() {
        let seen = Seen { events: 740, said_lost: None };
        let trial = Trial { load: vec![], cpu: Duration::from_millis(74), seen };
        let close = |given: Option<f64>, expected: f64| given.is_some_and(|it| (it - expected).abs() < 1e-9);
        assert!(close(trial.lost_percent(&tool(Some(10.0)), 100.0), 26.0));
        assert!(close(trial.lost_percent(&tool(Some(2.0)), 100.0), 0.0), "others did something as well");
        assert!(close(trial.cpu_of_million(&tool(Some(10.0)), 100.0), 100.0));
        let silent = tool(None);
        assert_eq!(trial.lost_percent(&silent, 100.0), None);
        assert!(close(trial.cpu_of_million(&silent, 100.0), 740.0), "of what happened");
    }

    #[test]
    fn medians_are_those_of_the_columns() {
        let rounds = [vec![Some(1.0), None], vec![Some(3.0), None], vec![Some(2.0), Some(7.0)]];
        assert_eq!(medians(&rounds, 2), [Some(2.0), Some(7.0)]);
        assert_eq!(medians(&[], 1), [None]);
    }
}
