//! Links to attachments: whoever has one fetches the file, without proving anything else, until the link expires or is taken
//! back. A token is chance of which only a sum is stored: unlike one that is signed, it can be taken back, and no key that
//! leaks makes others.

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::Duration;
use uuid::Uuid;

pub use crate::store::attachment_links::Link;
use crate::{
    domain::{
        caller::Caller,
        ids::{SessionKey, Tenant},
        session::audit,
    },
    store::{Store, StoreError, attachment_links, attachments, audit_event, session_envelopes},
    uploads::{Attachment, Clock, rules::InForce},
};

/// Links to one attachment that are good at a time.
pub const MAX_LINKS: i64 = 100;
/// Bytes of chance in a token.
const TOKEN_BYTES: usize = 32;

/// Makes links, takes them back, and finds what they lead to.
#[derive(Clone, Debug)]
pub struct Links {
    store: Store,
    rules: InForce,
    clock: Clock,
}

/// A link that was made.
pub struct NewLink {
    /// The link.
    pub link: Link,
    token: SecretString,
}

/// Why a link is not made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There are no links here.
    #[error("links to attachments are off")]
    Off,
    /// There are [`MAX_LINKS`].
    #[error("there are too many links to the attachment")]
    TooMany,
    /// The system has no chance.
    #[error("the system gave no random bytes")]
    NoChance,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NewLink {
    /// What opens it; shown this once.
    #[must_use]
    pub fn token(&self) -> &str {
        self.token.expose_secret()
    }
}

impl Links {
    /// Links that are good for as long as `rules` say when they are made.
    #[must_use]
    pub const fn new(store: Store, rules: InForce, clock: Clock) -> Self {
        Self { store, rules, clock }
    }

    /// Makes a link to an attachment that exists for `caller`.
    ///
    /// # Errors
    /// [`LinkError`]; after `Interrupted` and `TimedOut` there may be a link whose token nobody knows.
    pub async fn create(&self, caller: &Caller, attachment: Uuid) -> Result<NewLink, LinkError> {
        let seconds = self.rules.borrow().download_token_ttl_seconds;
        let Some(lasts) = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::seconds) else {
            return Err(LinkError::Off);
        };
        let mut chance = [0; TOKEN_BYTES];
        rand::fill(&mut chance).map_err(|_| LinkError::NoChance)?;
        let token = SecretString::from(URL_SAFE_NO_PAD.encode(chance));
        let (id, now, sum) = (Uuid::new_v4(), (self.clock)(), sum(token.expose_secret()));
        let link = Link {
            id,
            subject: caller.subject.clone(),
            issuer: caller.admission.as_ref().and_then(|admission| admission.issuer.clone()),
            created_at: now,
            expires_at: now + lasts,
        };
        let details = json!({"link": id, "seconds": seconds});
        let told = audit(caller, "attachments.links.create", "attachment", attachment.to_string(), details);
        let (tenant, written) = (caller.tenant.clone(), link.clone());
        let work = self.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let of = (tenant.as_str(), attachment);
                let is_written = attachment_links::insert(rows, of, &written, &sum, MAX_LINKS).await?;
                if is_written {
                    audit_event::insert(rows, &tenant, &told, now).await?;
                }
                Ok(is_written)
            })
        });
        if work.await? { Ok(NewLink { link, token }) } else { Err(LinkError::TooMany) }
    }

    /// The links to an attachment that are good now, the latest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, tenant: &Tenant, attachment: Uuid) -> Result<Vec<Link>, StoreError> {
        let (at, whose) = ((self.clock)(), tenant.clone());
        let work = self.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move { attachment_links::list(rows, (whose.as_str(), attachment), at).await })
        });
        work.await
    }

    /// Takes a link to an attachment back; whether there was one that was good.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` it may be taken back.
    pub async fn revoke(&self, caller: &Caller, attachment: Uuid, id: Uuid) -> Result<bool, StoreError> {
        let (at, tenant) = ((self.clock)(), caller.tenant.clone());
        let line = audit(caller, "attachments.links.revoke", "attachment", attachment.to_string(), json!({"link": id}));
        let work = self.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let was_good = attachment_links::revoke(rows, (tenant.as_str(), attachment), id, at).await?;
                if was_good {
                    audit_event::insert(rows, &tenant, &line, at).await?;
                }
                Ok(was_good)
            })
        });
        work.await
    }

    /// What a token leads to, by which link: a clean attachment with its bytes, of a session that was not deleted; nothing while links
    /// are off.
    ///
    /// # Errors
    /// The store's.
    pub async fn follow(&self, token: &str) -> Result<Option<(Attachment, Uuid)>, StoreError> {
        // Longer ones are not even hashed.
        if token.len() != (TOKEN_BYTES * 4).div_ceil(3) || self.rules.borrow().download_token_ttl_seconds == 0 {
            return Ok(None);
        }
        let (sum, at) = (sum(token), (self.clock)());
        let work = self
            .store
            .run(move |connection| Box::pin(async move { attachment_links::target_of(connection, &sum, at).await }));
        let Some(link) = work.await? else { return Ok(None) };
        let Some(tenant) = Tenant::new(&link.tenant) else { return Ok(None) };
        let work = self.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move {
                let found = attachments::get(rows, tenant.as_str(), link.attachment_id).await?;
                let Some(found) = found.filter(|found| found.status == "clean" && found.blob_id.is_some()) else {
                    return Ok(None);
                };
                if let Some(session) = found.session_id
                    && let Some(session) =
                        session_envelopes::get(rows, &SessionKey::new(tenant.clone(), session), None).await?
                    && session.deleted_at.is_some()
                {
                    return Ok(None);
                }
                Ok(Some((found, link.id)))
            })
        });
        work.await
    }
}

fn sum(token: &str) -> attachment_links::TokenSum {
    Sha256::digest(token.as_bytes()).into()
}
