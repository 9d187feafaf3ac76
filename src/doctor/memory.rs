//! The memory service.

use somaagent_actors::domain::ids::Tenant;
use somaagent_actors::somabrain::HealthState;
use somaagent_actors::somabrain::looking::{self, Entry};

use super::{Look, finding::Notes};

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let brain = &look.config.brain;
    if brain.base_url.is_empty() {
        return notes.skipped("service", "none is configured: the one inside the process is used (SOMA_BASE_URL)");
    }
    let Some(tenant) = Tenant::new(look.config.http.default_tenant.trim()) else { return };
    // Two calls must end before the subject's time does.
    let within = look.within / 3;
    let seen = match looking::look(brain, &tenant, within).await {
        Ok(seen) => seen,
        Err(error) => return notes.fault("service", error.to_string(), "mend the section brain"),
    };
    let version = seen.version.map(|version| format!(", version {version}")).unwrap_or_default();
    match seen.state {
        HealthState::Normal => {
            notes.ok("service", format!("it is well{version}, and said so within {} ms", seen.took.as_millis()));
        }
        HealthState::Degraded => {
            notes.warning(
                "service",
                format!("it says that something is amiss{version}: {}", seen.detail),
                "look at its own health and log",
            );
        }
        HealthState::Down => {
            let advice = "see whether SOMA_BASE_URL is right and reached from here; until then nothing is recalled, and what is to be remembered waits";
            notes.fault("service", seen.detail, advice);
        }
    }
    entry(seen.entry, brain.api_key.is_some(), notes);
}

fn entry(entry: Entry, has_key: bool, notes: &Notes) {
    match entry {
        Entry::Granted => notes.ok("entry", if has_key { "it takes the key" } else { "it lets us in without a key" }),
        Entry::NotRefused => {
            notes.note("entry", "it does not refuse us, and does not know what was asked, as the oldest servers", None);
        }
        Entry::Refused(status) => {
            let advice = "set SOMA_API_KEY (or its file), and SOMA_AUTH_HEADER as the server wants it";
            notes.fault("entry", format!("it refuses us with status {status}"), advice);
        }
        Entry::Failed(status) => {
            notes.warning(
                "entry",
                format!("it fails with status {status} at what it lets in whom it knows"),
                "look at its log",
            );
        }
        Entry::Unknown => notes.skipped("entry", "it did not answer"),
    }
}
