//! The policy: whether it can decide, whether everything is decided that is asked, and whether an OPA decides alike.

use std::collections::BTreeSet;
use std::path::Path;

use somaagent_actors::domain::ids::Tenant;
use somaagent_actors::policy::parity::{Answers, Question, compare, questions};
use somaagent_actors::policy::{Asker, Context, Policy, PolicyFiles, PolicySettings, Subject, decision::PUBLIC};
use somaagent_http::openapi::describe;

use super::{
    Look,
    finding::{Notes, counted},
};

/// Of all questions every so many are asked: a prime, so that each action and each kind of asker has its turn.
const STRIDE: usize = 19;
/// Differences that are named.
const NAMED: usize = 3;
/// How actions begin that are for workers in other processes.
const INTERNAL: &str = "internal.";
/// What actors ask for, and to what they would do it.
const OF_ACTORS: [(&str, &str); 2] = [("memory.recall", "somabrain"), ("memory.write", "somabrain")];
/// Every scope that the shipped policy knows.
const ALL_SCOPES: &str = "admin chat keys:manage sessions:tenant";

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let settings = &look.config.policy;
    // The candidate is looked at by itself.
    let live = match Policy::from_settings(&PolicySettings { shadow_dir: None, ..settings.clone() }) {
        Ok(live) => live,
        Err(error) => return notes.fault("compiles", error.to_string(), "opa check --strict says more"),
    };
    let actions = actions();
    let decides = if settings.opa_url.is_some() {
        opa(settings, &live, &actions, notes).await
    } else {
        files(settings.dir.as_deref(), notes);
        true
    };
    if decides {
        rules(&live, &actions, notes).await;
    }
    if let Some(dir) = &settings.shadow_dir {
        candidate(dir, settings, decides.then_some(&live), &actions, notes).await;
    }
}

/// The actions of all operations.
fn actions() -> BTreeSet<String> {
    let api = serde_json::to_value(describe("", true)).unwrap_or_default();
    let items = api["paths"].as_object().into_iter().flat_map(serde_json::Map::values);
    let operations = items.filter_map(serde_json::Value::as_object).flat_map(serde_json::Map::values);
    operations.filter_map(|operation| operation["x-action"].as_str()).map(str::to_owned).collect()
}

fn sample(actions: &BTreeSet<String>) -> impl Iterator<Item = Question> {
    questions(actions).into_iter().step_by(STRIDE)
}

fn files(dir: Option<&Path>, notes: &Notes) {
    let Some(dir) = dir else { return notes.ok("compiles", "the shipped policy decides") };
    notes.ok("compiles", format!("the policy of {} decides", dir.display()));
    if has_tests(dir) {
        notes.ok("tests", "it has tests (*_test.rego)");
    } else {
        let advice = "write some beside it and run `opa test`; config/policy/soma_test.rego is an example";
        notes.note("tests", format!("{} has no tests (*_test.rego)", dir.display()), Some(advice));
    }
}

fn has_tests(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with("_test.rego"))
}

/// Asks the OPA and the shipped policy the same. Whether the OPA decides.
async fn opa(settings: &PolicySettings, live: &Policy, actions: &BTreeSet<String>, notes: &Notes) -> bool {
    let Ok(inside) = Policy::load(&PolicyFiles::shipped(), settings.tenant_sessions) else { return false };
    let answers = compare(&inside, live, sample(actions)).await;
    // What is everybody's is never asked of it.
    let asked: Vec<&Answers> = answers.iter().filter(|both| both.action != PUBLIC).collect();
    let unheard = asked.iter().filter(|both| both.other.is_none()).count();
    if unheard > 0 {
        let seen = format!("the OPA left {unheard} of {} undecided", counted(asked.len(), "question"));
        let advice = if live.opa_answers() {
            "it answers, but not with a decision: give it the files of config/policy, and see whether OPA_DECISION_PATH is right"
        } else {
            "see whether OPA_URL is right and reached from here; until then everything is refused with 502"
        };
        notes.fault("opa", seen, advice);
    }
    let unlike: Vec<&Answers> = asked.iter().copied().filter(|both| both.other.is_some() && !both.agree()).collect();
    if unheard < asked.len() {
        if unlike.is_empty() {
            notes.ok(
                "opa",
                format!(
                    "it decides {} as the policy that comes with this program",
                    counted(asked.len() - unheard, "question")
                ),
            );
        } else {
            let seen = format!(
                "it decides {} of {} otherwise than the policy that comes with this program, such as {}",
                unlike.len(),
                counted(asked.len(), "question"),
                named(&unlike)
            );
            notes.warning("opa", seen, "if that is not meant, give it the files of config/policy of this version");
        }
    }
    unheard == 0
}

/// Whether somebody may do each thing that can be asked for: what nobody may was forgotten.
async fn rules(live: &Policy, actions: &BTreeSet<String>, notes: &Notes) {
    let Some(tenant) = Tenant::new("public") else { return };
    let allowed = async |asker, action: &str, resource: &str| {
        let subject = Subject { tenant: &tenant, persona_id: None, asker };
        live.decide(&subject, action, resource, &Context::default()).await.allow
    };
    let mut forgotten = Vec::new();
    for action in actions {
        // Nothing is waited for inside the process, and others want to go on meanwhile.
        tokio::task::yield_now().await;
        let member = Asker::Member { subject: "somaagent-doctor", issuer: None, scope: Some(ALL_SCOPES) };
        let people = [member, Asker::Nobody { auth_required: false }, Asker::Nobody { auth_required: true }];
        let workers = [Asker::Worker { subject: None }];
        let mut may = false;
        for asker in if action.starts_with(INTERNAL) { &workers[..] } else { &people[..] } {
            may = may || allowed(*asker, action, "message").await;
        }
        if !may {
            forgotten.push(action.as_str());
        }
    }
    for (action, resource) in OF_ACTORS {
        if !allowed(Asker::Worker { subject: None }, action, resource).await {
            forgotten.push(action);
        }
    }
    if forgotten.is_empty() {
        notes.ok(
            "rules",
            format!("each of {} may be done by somebody", counted(actions.len() + OF_ACTORS.len(), "action")),
        );
    } else {
        let seen = format!("nobody may do {}", forgotten.join(", "));
        notes.warning(
            "rules",
            seen,
            "if that is not meant, add a rule: config/policy/soma.rego has one for each action",
        );
    }
}

/// A candidate is asked what the live policy is asked.
async fn candidate(
    dir: &Path,
    settings: &PolicySettings,
    live: Option<&Policy>,
    actions: &BTreeSet<String>,
    notes: &Notes,
) {
    let candidate = PolicyFiles::read(dir).and_then(|files| Policy::load(&files, settings.tenant_sessions));
    let candidate = match candidate {
        Ok(candidate) => candidate,
        Err(error) => {
            return notes.fault("shadow", error.to_string(), "mend the files of SA01_POLICY_SHADOW_DIR, or unset it");
        }
    };
    let Some(live) = live else { return notes.ok("shadow", format!("the candidate of {} can decide", dir.display())) };
    let answers = compare(live, &candidate, sample(actions)).await;
    let unlike: Vec<&Answers> = answers.iter().filter(|both| !both.agree()).collect();
    if unlike.is_empty() {
        return notes.ok("shadow", format!("the candidate decides {} alike", counted(answers.len(), "question")));
    }
    let seen = format!(
        "the candidate decides {} of {} otherwise, such as {}",
        unlike.len(),
        counted(answers.len(), "question"),
        named(&unlike)
    );
    notes.note("shadow", seen, Some("GET /v1/admin/policy/shadow lists what differs of real requests"));
}

/// A few actions that are decided differently.
fn named(unlike: &[&Answers]) -> String {
    let actions: BTreeSet<String> = unlike.iter().map(|both| format!("{:?}", both.action)).collect();
    actions.into_iter().take(NAMED).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[tokio::test]
    async fn the_shipped_policy_has_a_rule_for_every_action() {
        let Ok(shipped) = Policy::load(&PolicyFiles::shipped(), false) else { unreachable!("it is shipped") };
        let notes = Notes::of("policy");
        rules(&shipped, &actions(), &notes).await;
        let found = notes.into_findings();
        assert!(actions().len() > 15 && found.iter().all(|found| found.severity == Severity::Ok), "{found:?}");
    }
}
