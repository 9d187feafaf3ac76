//! Benches of the built binary, seen from outside, each figure beside a reference of the same run.
//!
//! | module | is |
//! | --- | --- |
//! | `bench` | the benches, one file each |
//! | `reference` | what writes the same rows without the server |
//! | `model` | a model that answers at once, in this process, so that both ends of a delay share one clock |
//! | `wire`, `sse`, `scrape` | cheap clients: what they cost, the server lacks |
//! | `binary`, `ground` | the binary, and what it is started on |
//! | `clock`, `measure`, `process` | time, percentiles, memory and processor time |
//! | `report` | figures, references and budgets as a table and as JSON lines |
//!
//! Nothing here but the bench `brain` may use a crate of the system under test. A missed budget is told, and is no
//! failure: the exit code says whether everything could be measured.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench reads the environment, keeps real time and spawns its own tasks"
)]

mod bench;
mod binary;
mod clock;
mod ground;
mod measure;
mod model;
mod process;
mod reference;
mod report;
mod scrape;
mod sse;
mod wire;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use self::bench::{accept, auth, brain, export, fanout, idle, relay, replicate, start, turn, upload};
use self::binary::Subject;
use self::report::Report;

/// Measures the built binary: `SOMAAGENT_BIN`, else the release build beside this program, which is built if it is absent.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// Measure little: enough to see that a bench works. Wins over the sizes given to it
    #[arg(long, global = true)]
    quick: bool,
}

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
enum Bench {
    /// What the server adds to a model that answers at once
    Turn(turn::Options),
    /// Messages made durable a second, and the time a stop takes
    Accept(accept::Options),
    /// What proving who somebody is adds to a request
    Auth(auth::Options),
    /// What the client of the memory service adds to a request
    Brain(brain::Options),
    /// Delays and memory of many open streams
    Fanout(fanout::Options),
    /// Memory of idle conversations, and the time to wake one
    Idle(idle::Options),
    /// Memories exported a second, and what that takes
    Export(export::Options),
    /// Rows of the outbox drained a second
    Relay(relay::Options),
    /// Records of the log copied into the replica a second
    Replicate(replicate::Options),
    /// Files taken a second, looked through or not, and the memory of one
    Upload(upload::Options),
    /// Time to start, size, memory after boot
    Start(start::Options),
    /// All of them
    All,
}

impl Bench {
    /// The benches of one run, with the sizes that apply.
    fn chosen(self, quick: bool) -> Vec<Self> {
        let full = matches!(self, Self::All);
        let all = [
            Self::Turn(turn::Options::FULL),
            Self::Accept(accept::Options::FULL),
            Self::Auth(auth::Options::FULL),
            Self::Brain(brain::Options::FULL),
            Self::Fanout(fanout::Options::FULL),
            Self::Idle(idle::Options::FULL),
            Self::Export(export::Options::FULL),
            Self::Relay(relay::Options::FULL),
            Self::Replicate(replicate::Options::FULL),
            Self::Upload(upload::Options::FULL),
            Self::Start(start::Options::FULL),
        ];
        let chosen = if full { all.to_vec() } else { vec![self] };
        if quick { chosen.into_iter().map(Self::quick).collect() } else { chosen }
    }

    fn quick(self) -> Self {
        match self {
            Self::Turn(_) => Self::Turn(turn::Options::QUICK),
            Self::Accept(_) => Self::Accept(accept::Options::QUICK),
            Self::Auth(_) => Self::Auth(auth::Options::QUICK),
            Self::Brain(_) => Self::Brain(brain::Options::QUICK),
            Self::Fanout(_) => Self::Fanout(fanout::Options::QUICK),
            Self::Idle(_) => Self::Idle(idle::Options::QUICK),
            Self::Export(_) => Self::Export(export::Options::QUICK),
            Self::Relay(_) => Self::Relay(relay::Options::QUICK),
            Self::Replicate(_) => Self::Replicate(replicate::Options::QUICK),
            Self::Upload(_) => Self::Upload(upload::Options::QUICK),
            Self::Start(_) => Self::Start(start::Options::QUICK),
            Self::All => Self::All,
        }
    }

    async fn run(&self, subject: &Subject) -> Result<Report> {
        match self {
            Self::Turn(options) => turn::run(subject, options).await.context("turn"),
            Self::Accept(options) => accept::run(subject, options).await.context("accept"),
            Self::Auth(options) => auth::run(subject, options).await.context("auth"),
            Self::Brain(options) => brain::run(options).await.context("brain"),
            Self::Fanout(options) => fanout::run(subject, options).await.context("fanout"),
            Self::Idle(options) => idle::run(subject, options).await.context("idle"),
            Self::Export(options) => export::run(subject, options).await.context("export"),
            Self::Relay(options) => relay::run(subject, options).await.context("relay"),
            Self::Replicate(options) => replicate::run(subject, options).await.context("replicate"),
            Self::Upload(options) => upload::run(subject, options).await.context("upload"),
            Self::Start(options) => start::run(subject, options).await.context("start"),
            Self::All => anyhow::bail!("`all` stands for the others"),
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let subject = Subject::find()?;
    eprintln!("measuring {}", subject.path().display());
    // One thread for all clients: the server has the rest of the machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut budgets, mut missed) = (0, Vec::new());
    for bench in arguments.bench.chosen(arguments.quick) {
        let report = runtime.block_on(Box::pin(bench.run(&subject)))?;
        write!(std::io::stdout(), "{}\n{}", report.table(), report.json_lines())?;
        let (count, over) = report.verdict();
        budgets += count;
        missed.extend(over);
    }
    let met = budgets - missed.len();
    let missed = if missed.is_empty() { String::new() } else { format!("; missed: {}", missed.join(", ")) };
    writeln!(std::io::stdout(), "\n{met} of {budgets} budgets met{missed}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn all_means_each_bench_once_and_quick_wins_over_sizes() {
        assert_eq!(Bench::All.chosen(false).len(), 11);
        let turns = turn::Options::FULL;
        let quick = Bench::Turn(turns).chosen(true);
        assert_eq!(format!("{quick:?}"), format!("{:?}", [Bench::Turn(turn::Options::QUICK)]));
    }
}
