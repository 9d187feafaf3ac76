//! Looking through what was sent a second time.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Attachment, Uploads,
    downloads::{Attachments, BytesError},
    ingest::{
        ScanError,
        scanning::{Found, Scanner, Wait},
    },
    rules::Quarantine,
    verdicts::NotChanged,
};
use crate::{
    domain::{
        append::{AuditWrite, Doer},
        caller::Caller,
        ids::Tenant,
        session::audit,
    },
    store::{
        StoreError,
        attachment_blobs::{self, Sum},
        attachments::{
            rescans::{self, Finding, Judged},
            verdicts,
        },
        audit_event,
        wall::TenantTx,
    },
};

/// What the trail calls whoever does this without being asked.
const RESCANNER: &str = "attachment-rescanner";

/// Why there is no second verdict.
#[derive(Debug, thiserror::Error)]
pub enum NotScanned {
    /// The attachment is left as it is.
    #[error(transparent)]
    NotChanged(#[from] NotChanged),
    /// Nothing is looked through.
    #[error("the antivirus is off")]
    Off,
    /// It was tried.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Its bytes went while they were read.
    #[error("the attachment was deleted meanwhile")]
    Gone,
}

impl From<StoreError> for NotScanned {
    fn from(error: StoreError) -> Self {
        NotChanged::Store(error).into()
    }
}

impl From<BytesError> for NotScanned {
    fn from(error: BytesError) -> Self {
        match error {
            BytesError::Store(error) => error.into(),
            BytesError::Gone => Self::Gone,
        }
    }
}

/// Who has bytes looked through again.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// An admin, about one attachment: then the verdict counts, whatever it is.
    By(Box<Caller>, Uuid),
    /// The process by itself.
    ByNobody,
}

impl Uploads {
    /// Has an attachment of the caller's tenant looked through again, and does what follows from what is found, for all attachments
    /// that have its bytes. If nobody can look it stays as it is. Safe to repeat. Returns what it is then.
    ///
    /// # Errors
    /// [`NotScanned`].
    pub async fn scan_again(&self, caller: &Caller, id: Uuid) -> Result<Attachment, NotScanned> {
        let attachment = self.one(caller, id).await?.ok_or(NotChanged::Unknown)?;
        if attachment.deleted_at.is_some() {
            return Err(NotChanged::Gone.into());
        }
        let blob = attachment.blob_id.ok_or(NotChanged::BytesDropped)?;
        let scanner = self.scanner.as_ref().filter(|_| self.rules().antivirus.enabled).ok_or(NotScanned::Off)?;
        let size = u64::try_from(attachment.size).unwrap_or_default();
        let found = self.look_through(scanner, &caller.tenant, (blob, size)).await?;
        let asked = Asked::By(Box::new(caller.clone()), id);
        self.judge_again(&caller.tenant, blob, found, asked).await?;
        Ok(self.one(caller, id).await?.ok_or(NotChanged::Unknown)?)
    }

    async fn one(&self, caller: &Caller, id: Uuid) -> Result<Option<Attachment>, StoreError> {
        let tenant = caller.tenant.clone();
        let work = self.store.change_for(tenant.clone(), move |rows| {
            Box::pin(async move { verdicts::hold(rows, tenant.as_str(), id).await })
        });
        work.await
    }

    /// What is found in bytes that are here.
    pub(super) async fn look_through(
        &self,
        scanner: &Arc<dyn Scanner>,
        tenant: &Tenant,
        (blob, size): (Uuid, u64),
    ) -> Result<Found, NotScanned> {
        let mut scan = scanner.open(Wait::AWhile).await?;
        let bytes = Attachments::new(self.store.clone()).bytes(tenant, (blob, None), (0, size));
        let mut bytes = std::pin::pin!(bytes);
        while let Some(piece) = bytes.try_next().await? {
            scan.feed(piece).await.map_err(meanwhile)?;
        }
        Ok(scan.verdict().await.map_err(meanwhile)?)
    }

    /// Does what follows. Returns what became of each attachment.
    pub(super) async fn judge_again(
        &self,
        tenant: &Tenant,
        blob: Uuid,
        found: Found,
        asked: Asked,
    ) -> Result<Vec<Judged>, StoreError> {
        let (reason, threat) = found.verdict.reason();
        let finding = Finding {
            reason,
            threat,
            signatures: found.signatures,
            acquits: matches!(asked, Asked::By(..)),
            drops_bytes: self.rules().quarantine == Quarantine::DropBytesKeepMeta,
        };
        let (at, name) = ((self.clock)(), tenant.clone());
        let work = self.store.change_for(tenant.clone(), move |rows| {
            Box::pin(async move {
                match attachment_blobs::sum_of(rows, name.as_str(), blob).await? {
                    Some(sum) => judge(rows, name.as_str(), (&sum, &finding), (&asked, at)).await,
                    None => Ok(Vec::new()),
                }
            })
        });
        let judged = work.await?;
        self.metrics.quarantined(caught(&judged));
        Ok(judged)
    }
}

/// What was found in a file that is new, and counts for all that have the same bytes and were let in before.
pub(super) fn finding(new: &Attachment, quarantine: Quarantine) -> Option<Finding> {
    let reason = match new.quarantine_reason.as_deref() {
        Some("infected") => "infected",
        Some("limits_exceeded") => "limits_exceeded",
        _ => return None,
    };
    Some(Finding {
        reason: Some(reason),
        threat: new.threat.clone(),
        signatures: new.signatures.clone(),
        acquits: false,
        drops_bytes: quarantine == Quarantine::DropBytesKeepMeta,
    })
}

/// Writes down what was found in bytes, for all attachments of the tenant that have them, and in the trail. Returns what became of each.
pub(super) async fn judge(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    (sum, finding): (&Sum, &Finding),
    (asked, at): (&Asked, OffsetDateTime),
) -> Result<Vec<Judged>, sqlx::Error> {
    let judged = rescans::judge(rows, tenant, sum, finding, at).await?;
    for one in &judged {
        if let Some(line) = line(one, finding, asked) {
            audit_event::insert_of_process(rows, (tenant, one.session_id), &line, at).await?;
        }
    }
    Ok(judged)
}

/// How many of them nobody gets any more.
pub(super) fn caught(judged: &[Judged]) -> usize {
    judged.iter().filter(|one| one.before == "clean" && one.after == "quarantined").count()
}

/// Whoever goes away while they look through a file may do so for what is in it.
fn meanwhile(error: ScanError) -> ScanError {
    match error {
        ScanError::Away(why) => ScanError::Failed(why),
        error => error,
    }
}

/// What the trail tells of an attachment: all of what somebody asked for, else what has changed.
fn line(judged: &Judged, finding: &Finding, asked: &Asked) -> Option<AuditWrite> {
    let details = json!({
        "before": judged.before, "status": judged.after, "reason": finding.reason, "threat": finding.threat,
        "signatures": finding.signatures,
    });
    let target_id = judged.id.to_string();
    match asked {
        Asked::By(caller, id) if *id == judged.id => {
            Some(audit(caller, "admin.attachments.scan", "attachment", target_id, details))
        }
        _ if judged.before == judged.after => None,
        _ => {
            let (action, resource) = ("attachments.rescan", "attachment");
            let doer = Doer::process(RESCANNER);
            Some(AuditWrite { doer, action, resource, target_id, details, ..AuditWrite::default() })
        }
    }
}
