//! The clamd that scans uploads.

use std::time::Duration;

use somaagent_actors::uploads::scanner::{Report, Verdict, eicar};

use super::{
    Look,
    finding::{Notes, counted},
};
use crate::{roles::Role, rooms::now};

/// Age from which signatures are worth a warning: clamd's own log says so then, too.
const OLD: Duration = Duration::from_hours(7 * 24);

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let settings = &look.config.antivirus;
    if !look.config.server.role.has(Role::Gateway) {
        return notes.skipped("clamd", "a process of these roles takes no uploads");
    }
    if !settings.enabled {
        return notes.skipped("clamd", "the antivirus is off: uploads are not scanned (CLAMAV_ENABLED)");
    }
    // A scan connects before it waits for its verdict, and both must end before the subject's time does.
    let report = eicar::look(settings, look.within / 3, now()).await;
    match (report.fault(), &report.eicar) {
        (None, Ok(Verdict::Infected { signature })) => {
            notes.ok("clamd", format!("it finds EICAR's test string ({signature}), and nothing in a harmless text"));
        }
        (fault, eicar) => {
            let advice = if eicar.is_err() {
                "see whether CLAMAV_HOST and CLAMAV_PORT are right and reached from here, and clamd's log; until then no upload is scanned"
            } else {
                "see which signatures clamd has loaded, and whether freshclam renews them"
            };
            notes.fault("clamd", fault.unwrap_or_default(), advice);
        }
    }
    if let Some(blind) = report.blind_spot() {
        notes.warning("limits", blind, "say `AlertExceedsMax yes` in clamd.conf, and start clamd anew");
    }
    signatures(&report, notes);
}

fn signatures(report: &Report, notes: &Notes) {
    let Ok(signatures) = &report.signatures else {
        return notes.skipped("signatures", "clamd did not tell which it has");
    };
    let engine = &signatures.engine;
    let Some(age) = report.signatures_age() else {
        return notes.note("signatures", format!("{engine} does not tell of which day they are"), None);
    };
    let days = usize::try_from(age.as_secs() / (24 * 3600)).unwrap_or(usize::MAX);
    let seen = format!("{engine}: they are {} old", counted(days, "day"));
    if age > OLD {
        notes.warning("signatures", seen, "see whether freshclam runs, and reaches its mirror");
    } else {
        notes.ok("signatures", seen);
    }
}
