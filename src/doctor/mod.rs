//! The command `doctor`: looks at everything that a process would use, and says what to do about each fault.
//!
//! | module | holds |
//! | --- | --- |
//! | `finding`, `report` | what is found, and how it is told |
//! | `configuration`, `environment` | what is set, what contradicts itself, what only looks like a setting |
//! | `files`, `limits`, `data_folder`, `ports` | this machine |
//! | `keys`, `sign_in`, `policy`, `members` | who may what |
//! | `database`, `wall`, `audit`, `broker`, `memory`, `model`, `antivirus` | what the process works with |
//! | `clock` | whether two clocks agree |
//!
//! Nothing is changed: no table, no topic, no file is made, and nothing is started. Each subject has a bounded time, all are
//! looked at together, and what was found until the end of that time is kept.

mod antivirus;
mod audit;
mod broker;
mod clock;
mod configuration;
mod data_folder;
mod database;
mod environment;
mod files;
mod finding;
mod keys;
mod limits;
mod members;
mod memory;
mod model;
mod policy;
mod ports;
mod report;
mod sign_in;
mod wall;

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, join_all};
use tokio::time::{Instant, timeout};

use crate::cli::Doctor;
use crate::config::{Config, Deployment, Environment, Faults};
use crate::rooms::now;
use crate::say;
use finding::{Finding, Notes};
use report::Report;

/// What every check may look at.
#[derive(Clone, Copy)]
struct Look<'a> {
    config: &'a Config,
    environment: &'a Environment,
    /// What a subject is given, and so the longest time for any call.
    within: Duration,
}

impl Look<'_> {
    /// Whether what others may bear is a danger here.
    fn is_serious(&self) -> bool {
        self.config.deployment == Deployment::Prod || self.is_reached_by_others()
    }

    /// Whether other machines reach the door.
    fn is_reached_by_others(&self) -> bool {
        !self.config.is_alone()
    }
}

/// Looks at everything, tells, and gives the exit code.
pub(crate) async fn run(config: Result<&Config, &Faults>, environment: &Environment, asked: &Doctor) -> ExitCode {
    let (checked_at, begun) = (now(), Instant::now());
    let within = Duration::from_secs(asked.timeout);
    let findings = match config {
        Ok(config) => join_all(subjects(Look { config, environment, within })).await.concat(),
        Err(faults) => unready(refused(faults), environment),
    };
    let surroundings = config.ok().map(|config| config.deployment.name());
    let report = Report::new(findings, surroundings, config.is_err(), checked_at, begun.elapsed());
    told(&report, environment, asked)
}

/// Tells what can be said while secrets cannot be had, for this reason.
pub(crate) fn without_vault(why: &str, environment: &Environment, asked: &Doctor) -> ExitCode {
    let notes = Notes::of("secrets");
    notes.fault("vault", why, "bring the Vault at VAULT_ADDR back; the rest can be looked at after that");
    let report = Report::new(unready(notes, environment), None, false, now(), Duration::ZERO);
    told(&report, environment, asked)
}

fn told(report: &Report, environment: &Environment, asked: &Doctor) -> ExitCode {
    say(&if asked.json { serde_json::json!(report).to_string() } else { report.text(colours(environment)) });
    ExitCode::from(report.exit_code())
}

/// Colours are for terminals of people who have not said otherwise (no-color.org).
fn colours(environment: &Environment) -> bool {
    stdout().is_terminal() && !environment.is_set("NO_COLOR")
}

/// Every subject, in the order in which it is told.
fn subjects(look: Look<'_>) -> Vec<LocalBoxFuture<'_, Vec<Finding>>> {
    vec![
        subject("configuration", look, async move |notes| configuration::check(look, notes)),
        subject("environment", look, async move |notes| environment::check(look.environment, notes)),
        subject("secret files", look, async move |notes| files::check(look.environment, notes)),
        subject("open files", look, async move |notes| limits::check(look, notes)),
        subject("ports", look, async move |notes| ports::check(look, notes).await),
        subject("data folder", look, async move |notes| data_folder::check(look, notes)),
        subject("keys of tokens", look, async move |notes| keys::check(look, notes).await),
        subject("sign-in", look, async move |notes| sign_in::check(look, notes).await),
        subject("policy", look, async move |notes| policy::check(look, notes).await),
        subject("members of tenants", look, async move |notes| members::check(look, notes).await),
        subject("database", look, async move |notes| database::check(look, notes).await),
        subject("tenant wall", look, async move |notes| wall::check(look, notes).await),
        subject("audit trail", look, async move |notes| audit::check(look, notes).await),
        subject("log", look, async move |notes| broker::check(look, notes).await),
        subject("memory service", look, async move |notes| memory::check(look, notes).await),
        subject("model", look, async move |notes| model::check(look, notes).await),
        subject("antivirus", look, async move |notes| antivirus::check(look, notes).await),
    ]
}

/// Looks at a subject for as long as that may take.
fn subject<'a>(
    name: &'static str,
    look: Look<'a>,
    check: impl AsyncFnOnce(&Notes) + 'a,
) -> LocalBoxFuture<'a, Vec<Finding>> {
    Box::pin(async move {
        let notes = Notes::of(name);
        if timeout(look.within, check(&notes)).await.is_err() {
            let seen = format!("no end within {} s: what is missing here was not found out", look.within.as_secs());
            let advice = "something accepts connections and does not answer: look at it, and at what is between; --timeout allows more";
            notes.fault("time", seen, advice);
        }
        notes.into_findings()
    })
}

fn refused(faults: &Faults) -> Notes {
    let notes = Notes::of("configuration");
    for (name, what) in faults.iter() {
        notes.fault(
            "refused",
            format!("{name}: {what}"),
            "no process starts like this; the rest can be looked at after that",
        );
    }
    notes
}

/// What can be said without a configuration, besides why there is none.
fn unready(why: Notes, environment: &Environment) -> Vec<Finding> {
    let strangers = Notes::of("environment");
    environment::check(environment, &strangers);
    let files = Notes::of("secret files");
    files::check(environment, &files);
    [why, strangers, files].map(Notes::into_findings).concat()
}
