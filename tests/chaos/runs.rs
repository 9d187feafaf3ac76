//! Many runs: some side by side, each lane with servers of its own. A schedule that fails is played again, shorter and
//! shorter, and the logs of its processes are kept.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use somaagent_test_services::client::Mode;
use somaagent_test_services::seed::{self, Case};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::checker::check;
use crate::evidence::{End, Evidence, Told};
use crate::gather::{ended, gather};
use crate::load::post;
use crate::notes::keep;
use crate::play::play;
use crate::readers::{Goal, read};
use crate::schedule::{Step, draw};
use crate::stage::{Ground, Stage};

/// Schedules of one call without a number.
const SCHEDULES: u64 = 40;
/// Runs side by side without a number.
const LANES: u64 = 2;
/// Sessions in which people talk during a run.
const SESSIONS: usize = 4;
/// How often a schedule that failed is played again to find out how much of it is needed.
const TRIES: usize = 5;
/// After so many failures nothing more is to be learnt.
const ENOUGH: usize = 3;

/// Findings of a failure that are shown, and how much of each; all of them are with the logs.
const SHOWN: usize = 12;
const SHOWN_CHARS: usize = 600;

/// Which schedules are to be played.
struct Order {
    first: u64,
    count: u64,
    /// Steps of each that are played.
    prefix: usize,
    next: AtomicU64,
    /// Of each schedule that failed, what is told again at the end, where it is not lost among the others.
    failed: Mutex<Vec<String>>,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Plays all schedules.
///
/// # Panics
/// When one fails.
pub async fn all() {
    let seed = number(seed::VARIABLE);
    let count = number("SA01_TEST_SCHEDULES").unwrap_or(if seed.is_some() { 1 } else { SCHEDULES });
    let prefix = number("SA01_TEST_PREFIX").map_or(usize::MAX, |prefix| usize::try_from(prefix).unwrap());
    let first = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let order = Arc::new(Order { first, count, prefix, next: AtomicU64::new(0), failed: Mutex::default() });
    let lanes = number("SA01_TEST_LANES").unwrap_or(LANES).clamp(1, count.max(1));
    eprintln!("{count} schedules from seed {first}, {lanes} at a time");
    let begun = Instant::now();
    let lanes: Vec<_> = (0..lanes).map(|_| tokio::spawn(lane(order.clone()))).collect();
    for lane in join_all(lanes).await {
        lane.unwrap();
    }
    let (failed, played) = (order.failed.lock().unwrap(), order.next.load(Ordering::Relaxed).min(count));
    eprintln!("{played} schedules played, {} failed, in {:.0} s", failed.len(), begun.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "some schedules failed:\n{}", failed.join("\n"));
}

/// Plays schedules until none is left.
async fn lane(order: Arc<Order>) {
    let mut ground = None;
    while order.failed.lock().unwrap().len() < ENOUGH {
        let number = order.next.fetch_add(1, Ordering::Relaxed);
        if number >= order.count {
            return;
        }
        let seed = order.first + number;
        let begun = Instant::now();
        let Err(failure) = run(&mut ground, seed, order.prefix).await else {
            eprintln!("seed {seed}: kept, in {:.1} s", begun.elapsed().as_secs_f64());
            continue;
        };
        tell(seed, order.prefix, &failure);
        let first = failure.findings.first().map_or("", String::as_str);
        order.failed.lock().unwrap().push(format!("seed {seed}: {}", shown(first)));
        let needed = shorten(&mut ground, seed, failure.played).await;
        eprintln!("seed {seed}: the smallest prefix that still fails has {needed} of {} faults:", failure.played);
        tell_steps(seed, needed);
        eprintln!("play it again: tests/run chaos --seed {seed} --prefix {needed}");
    }
}

/// Why a run failed.
struct Failure {
    findings: Vec<String>,
    /// How many faults were played.
    played: usize,
    logs: Option<PathBuf>,
}

fn steps_of(seed: u64, prefix: usize) -> (Vec<Step>, Case) {
    let mut case = Case::new("chaos", seed);
    let people = case.branch();
    let mut steps = draw(&mut case);
    steps.truncate(prefix);
    (steps, people)
}

fn tell(seed: u64, prefix: usize, failure: &Failure) {
    eprintln!("\nseed {seed}: FAILED");
    for finding in failure.findings.iter().take(SHOWN) {
        eprintln!("  {}", shown(finding));
    }
    if failure.findings.len() > SHOWN {
        eprintln!("  and {} more", failure.findings.len() - SHOWN);
    }
    tell_steps(seed, prefix);
    if let Some(folder) = &failure.logs {
        eprintln!("  logs: {}", folder.display());
    }
}

fn shown(finding: &str) -> String {
    finding.chars().take(SHOWN_CHARS).collect()
}

fn tell_steps(seed: u64, prefix: usize) {
    for (number, step) in steps_of(seed, prefix).0.iter().enumerate() {
        eprintln!("  {:2}. after {:?}: {:?}", number + 1, step.after, step.fault);
    }
}

/// The shortest beginning of a schedule that was seen to fail. Chance has a part in every run, so that a beginning that was
/// kept may fail another time; what is returned did fail.
async fn shorten(ground: &mut Option<Arc<Ground>>, seed: u64, failing: usize) -> usize {
    let (mut kept, mut failing) = (None, failing);
    for _ in 0..TRIES {
        let low = kept.map_or(0, |kept| kept + 1);
        if low >= failing {
            break;
        }
        let middle = usize::midpoint(low, failing - 1);
        if run(ground, seed, middle).await.is_err() {
            failing = middle;
        } else {
            kept = Some(middle);
        }
    }
    failing
}

/// One run. Servers are started if there are none, and left to the next run only if this one went well.
async fn run(ground: &mut Option<Arc<Ground>>, seed: u64, prefix: usize) -> Result<(), Failure> {
    let (steps, people) = steps_of(seed, prefix);
    let played = steps.len();
    let failed = |error: anyhow::Error| Failure { findings: vec![format!("{error:#}")], played, logs: None };
    let servers = match ground.take() {
        Some(servers) => servers,
        None => Arc::new(Ground::new().await.map_err(failed)?),
    };
    // A part of the run that panics is a failure of this schedule and not of all.
    let stage = tokio::spawn(Stage::new(servers.clone())).await.map_err(anyhow::Error::from).flatten();
    let stage = Arc::new(stage.context("the system did not start").map_err(failed)?);
    let outcome = tokio::spawn(observe(stage.clone(), steps, people)).await;
    let mut findings = match outcome {
        Ok(Ok(evidence)) => check(&evidence),
        Ok(Err(error)) => vec![format!("the run broke off: {error:#}")],
        Err(panic) => vec![format!("the run broke off: {panic}")],
    };
    findings.extend(stage.complaints.lock().unwrap().drain(..));
    if findings.is_empty() {
        *ground = Some(servers);
        return Ok(());
    }
    let logs = keep_logs(&stage, &findings, seed, played).await.ok();
    Err(Failure { findings, played, logs })
}

/// Lets people talk while the schedule is played, and collects what came of it.
async fn observe(stage: Arc<Stage>, steps: Vec<Step>, mut people: Case) -> Result<Evidence> {
    let sessions: Vec<String> = (0..SESSIONS).map(|_| Uuid::new_v4().to_string()).collect();
    let over = watch::Sender::new(false);
    let (mut posters, mut readers, mut goals) = (JoinSet::new(), JoinSet::new(), Vec::new());
    for (number, session) in sessions.iter().enumerate() {
        posters.spawn(post(stage.client.clone(), session.clone(), people.branch(), over.subscribe()));
        let goal = watch::Sender::new(Goal::Open);
        let mode = if number % 2 == 0 { Mode::Delta } else { Mode::Default };
        readers.spawn(read(stage.client.clone(), session.clone(), mode, people.branch(), goal.subscribe()));
        goals.push(goal);
    }
    let mut keepers = JoinSet::new();
    for (number, end) in [End::Written, End::TakenBack, End::Written].into_iter().enumerate() {
        let id = format!("note {number} of {}", sessions[0]);
        keepers.spawn(keep(stage.client.clone(), id, sessions.clone(), end, people.branch(), over.subscribe()));
    }
    play(&stage, &steps, &sessions).await?;
    over.send_replace(true);
    let mut told = Told::default();
    while let Some(poster) = posters.join_next().await {
        told.extend(poster?);
    }
    let mut notes = Vec::new();
    while let Some(note) = keepers.join_next().await {
        notes.push(note?);
    }
    let histories = ended(&stage.client, &sessions).await?;
    for (goal, session) in goals.iter().zip(&sessions) {
        goal.send_replace(Goal::Until(histories[session].len() as u64));
    }
    let mut evidence = gather(&stage, histories, notes).await?;
    // By now each reader has had the time to come back.
    let grace = tokio::time::sleep(Duration::from_secs(20));
    tokio::pin!(grace);
    while !readers.is_empty() {
        tokio::select! {
            Some(reading) = readers.join_next() => evidence.readings.push(reading?),
            () = &mut grace => for goal in &goals { goal.send_replace(Goal::Here); },
        }
    }
    evidence.told = told;
    Ok(evidence)
}

/// Writes the findings and the logs of all processes into a folder of the build.
async fn keep_logs(stage: &Stage, findings: &[String], seed: u64, played: usize) -> Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}-{played}"));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("findings"), findings.join("\n"))?;
    for (name, log) in stage.logs().await {
        std::fs::write(folder.join(format!("{name}.log")), log)?;
    }
    Ok(folder)
}
