//! The files that messages refer to, read for the model: those of the new message first, then those of earlier ones, the newest first.
//!
//! Whoever sent a message could see its files. What became of them since is looked up for every attempt, before they are read and
//! after it; whether each may be shown is for the policy to say (`attachments.show`).

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{deps::Deps, driver::Task};
use crate::{
    contents::{ContentError, is_image},
    domain::{
        attached::{self, Attached, Content, Picture},
        harmless::harmless,
        ids::SessionKey,
        tokens,
    },
    extraction::{Extracted, Purpose},
    policy::{Act, Context, Leave},
    store::{StoreError, attachments, attachments::Attachment, session_envelopes, wall::TenantTx},
};

/// Most files of a context; older ones are not looked at.
const MOST: usize = 32;
/// Files of one message that are read at a time.
const AT_ONCE: usize = 2;

/// The files that an event refers to.
pub(super) fn references(event: &Value) -> Vec<Uuid> {
    let list = event["attachments"].as_array().into_iter().flatten().filter_map(Value::as_str);
    list.filter_map(|text| Uuid::try_parse(text.strip_prefix("att://")?).ok()).collect()
}

/// Said of an attachment of which nothing is known any more.
const GONE: &str = "it is gone";

/// Files as they were read.
#[derive(Default)]
pub(super) struct Read {
    /// By message, in the order in which they were asked for.
    pub(super) files: Vec<Vec<Attached>>,
    /// How many more there are.
    pub(super) unread: usize,
}

/// Reads the files of messages. A file that cannot be read is there, too, with the reason.
///
/// # Errors
/// The store does not say what became of them.
pub(super) async fn read(deps: &Deps, task: &Task, messages: Vec<Vec<Uuid>>) -> Result<Read, StoreError> {
    let within = Duration::from_millis(deps.turns.files_deadline_ms);
    let room = deps.context_budget.saturating_mul(tokens::PARTS);
    let mut reading = Reading { deps, task, until: Instant::now() + within, room, left: MOST, pictures: 0 };
    if deps.model.settings().sees_images {
        reading.pictures = deps.model.settings().max_images;
    }
    let (mut read, mut seen) = (Read::default(), HashSet::new());
    for mut ids in messages {
        // What was sent again is shown where it was sent last.
        ids.retain(|id| seen.insert(*id));
        let taken = if reading.room == 0 { 0 } else { ids.len().min(reading.left) };
        read.unread += ids.len() - taken;
        ids.truncate(taken);
        read.files.push(reading.message(ids).await?);
    }
    Ok(read)
}

/// Withholds what nobody is to get any more: a file may have been quarantined or deleted while it was read.
///
/// # Errors
/// The store does not say what became of them.
pub(super) async fn withhold(deps: &Deps, task: &Task, read: &mut Read) -> Result<(), StoreError> {
    let is_shown = |file: &&Attached| !matches!(file.content, Content::Nothing(_));
    let shown: Vec<Uuid> = read.files.iter().flatten().filter(is_shown).map(|file| file.id).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let found = look_up(deps, &task.key, shown).await?;
    let withheld: HashMap<Uuid, &str> =
        found.into_iter().filter_map(|found| Some((found.id, found.why_not?))).collect();
    for file in read.files.iter_mut().flatten() {
        if let Some(why) = withheld.get(&file.id) {
            file.content = Content::Nothing((*why).to_owned());
        }
    }
    Ok(())
}

/// What may still be read.
struct Reading<'a> {
    deps: &'a Deps,
    task: &'a Task,
    until: Instant,
    /// What texts may weigh that a context has room for. No character weighs less than one.
    room: usize,
    left: usize,
    pictures: usize,
}

impl Reading<'_> {
    async fn message(&mut self, ids: Vec<Uuid>) -> Result<Vec<Attached>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.left -= ids.len();
        let found = look_up(self.deps, &self.task.key, ids).await?;
        let mut planned = Vec::with_capacity(found.len());
        for Found { id, file, why_not } in found {
            let plan = match (file, why_not) {
                (file, Some(why)) => Plan::Nothing(file, why),
                (None, None) => Plan::Nothing(None, GONE),
                (Some(file), None) if !is_image(&file.mime) => Plan::Text(file),
                (Some(file), None) if self.pictures > 0 => {
                    self.pictures -= 1;
                    Plan::Picture(file)
                }
                (file, None) if self.deps.model.settings().sees_images => {
                    Plan::Nothing(file, "it is a picture, and no more of those are shown")
                }
                (file, None) => Plan::Nothing(file, "it is a picture, and the model does not see pictures"),
            };
            planned.push((id, plan));
        }
        let this = &*self;
        let mut files = Vec::with_capacity(planned.len());
        let mut reading = stream::iter(planned).map(|(id, plan)| Box::pin(this.attached(id, plan))).buffered(AT_ONCE);
        // What has no room is not held while others are read.
        while let Some(file) = reading.next().await {
            files.push(file);
            attached::fit(&mut files, this.room);
        }
        drop(reading);
        self.room = self.room.saturating_sub(files.iter().map(Attached::text_weight).sum());
        Ok(files)
    }

    async fn attached(&self, id: Uuid, plan: Plan) -> Attached {
        let (name, mime, content) = match plan {
            Plan::Nothing(file, why) => {
                let (name, mime) = file.map(|file| (file.filename, file.mime)).unwrap_or_default();
                (name, mime, Content::Nothing(why.to_owned()))
            }
            Plan::Text(file) => {
                let reading = async {
                    self.may_show(&file).await?;
                    Ok(self.told(id, self.deps.contents.text(&file, self.room).await, |found| text(&found)))
                };
                let content = self.in_time(reading).await;
                (file.filename, file.mime, content)
            }
            Plan::Picture(file) => {
                let reading = async {
                    self.may_show(&file).await?;
                    let found = self.deps.contents.picture(&file, Purpose::Model).await;
                    Ok(self.told(id, found, |found| picture(&found)))
                };
                let content = self.in_time(reading).await;
                (file.filename, file.mime, content)
            }
        };
        Attached { id, name, mime, content }
    }

    /// What there is of a file, or why there is nothing.
    async fn in_time(&self, reading: impl Future<Output = Result<Content, &'static str>>) -> Content {
        let read = timeout_at(self.until, reading).await.unwrap_or(Err("it could not be read in time"));
        read.unwrap_or_else(|why| Content::Nothing(why.to_owned()))
    }

    /// Asks the policy whether the model may be shown a file.
    async fn may_show(&self, file: &Attachment) -> Result<(), &'static str> {
        let Task { key, subject, persona_id, .. } = self.task;
        let resource = file.id.to_string();
        let (subject, persona_id) = (subject.as_deref(), persona_id.as_deref());
        let act = Act { tenant: &key.tenant, subject, persona_id, action: "attachments.show", resource: &resource };
        let args = [("mime".to_owned(), json!(file.mime)), ("size".to_owned(), json!(file.size))];
        let args = args.into_iter().collect();
        let context = Context { session_id: Some(key.session_id), args: Some(&args), ..Context::default() };
        match self.deps.policy.leave(act, &context).await {
            Leave::Granted => Ok(()),
            Leave::Denied => Err("it is withheld by policy"),
            Leave::Unknown => Err("nobody could decide whether it may be shown"),
        }
    }

    /// What the model is told of a file that was read, or could not be.
    fn told<T>(&self, attachment: Uuid, found: Result<T, ContentError>, show: impl FnOnce(T) -> Content) -> Content {
        let error = match found {
            Ok(found) => return show(found),
            Err(ContentError::Unreadable(why)) => return Content::Nothing(why),
            Err(error) => error,
        };
        let (session, correlation_id) = (&self.task.key, self.task.correlation_id);
        let error = &error as &dyn std::error::Error;
        tracing::warn!(%session, %correlation_id, %attachment, error, "the model is not shown a file");
        Content::Nothing("it could not be read now".to_owned())
    }
}

/// What is to be done with a file.
enum Plan {
    /// Its text is read.
    Text(Attachment),
    /// A picture is made of it.
    Picture(Attachment),
    /// Nothing of it is shown, for this reason; it may not even be known any more.
    Nothing(Option<Attachment>, &'static str),
}

fn text(found: &Extracted) -> Content {
    let pages = found.pages.filter(|pages| pages.read < pages.total);
    let note = pages.map(|pages| format!("pages {} to {} were not read", pages.read + 1, pages.total));
    Content::Text { text: harmless(&found.text), missing_chars: found.missing_chars, note }
}

fn picture(found: &crate::extraction::Picture) -> Content {
    let url = format!("data:{};base64,{}", Purpose::Model.mime(), BASE64_STANDARD.encode(&found.bytes));
    Content::Picture(Picture { url: url.into(), width: found.width, height: found.height })
}

/// What is known of an attachment, and why nobody gets it.
struct Found {
    id: Uuid,
    file: Option<Attachment>,
    why_not: Option<&'static str>,
}

async fn look_up(deps: &Deps, key: &SessionKey, ids: Vec<Uuid>) -> Result<Vec<Found>, StoreError> {
    let key = key.clone();
    let work = deps.store.read_for(key.tenant.clone(), move |rows| {
        Box::pin(async move {
            let mut all = Vec::with_capacity(ids.len());
            for id in ids {
                all.push(standing(rows, &key, id).await?);
            }
            Ok(all)
        })
    });
    work.await
}

/// What has become of an attachment since its message was taken.
async fn standing(rows: &mut TenantTx<'_>, key: &SessionKey, id: Uuid) -> Result<Found, sqlx::Error> {
    let Some(file) = attachments::get(rows, key.tenant.as_str(), id).await? else {
        return Ok(Found { id, file: None, why_not: Some(GONE) });
    };
    let elsewhere = match file.session_id.filter(|session_id| *session_id != key.session_id) {
        Some(session_id) => {
            let other = SessionKey { tenant: key.tenant.clone(), session_id };
            session_envelopes::get(rows, &other, None).await?
        }
        None => None,
    };
    let why_not = if file.deleted_at.is_some() || elsewhere.is_some_and(|session| session.deleted_at.is_some()) {
        Some("it was deleted")
    } else if file.status != "clean" {
        Some("it is quarantined")
    } else if file.external_url.is_some() {
        Some("it is elsewhere, and only referred to here")
    } else if file.blob_id.is_none() {
        Some("its bytes were not kept")
    } else {
        None
    };
    Ok(Found { id, file: Some(file), why_not })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_events_write_them() {
        let id = Uuid::new_v4();
        let event = json!({"attachments": [format!("att://{id}"), "att://x", "x", 7]});
        assert_eq!(references(&event), [id]);
        assert!(references(&json!({})).is_empty());
    }

    #[test]
    fn pages_that_were_not_read_are_told() {
        let pages = Some(crate::extraction::Pages { read: 2, total: 5 });
        let found = Extracted { text: "x".into(), missing_chars: 1, pages, charset: None };
        let note = Some("pages 3 to 5 were not read".to_owned());
        assert_eq!(text(&found), Content::Text { text: "x".into(), missing_chars: 1, note });
    }
}
