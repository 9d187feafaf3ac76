//! Reading a form with files, part by part. Nothing is kept before all of it is here: the form may say at its end where its files
//! belong.

use std::sync::Arc;

use actix_multipart::Field;
use serde_json::{Map, Value};
use somaagent_actors::{
    domain::{caller::Caller, filename::sanitised},
    policy::{Asker, Context, Subject},
    uploads::{Ingest, Judged, quota::Room, rules::Rules},
};
use uuid::Uuid;

use super::{
    progress::Progress,
    refusal::{Refused, not_there, refused},
};
use crate::{
    door::Door,
    extract::{Opened, piece, said_of, text, wrong},
    middleware::authorise::denied,
    problem::{Code, Problem},
};

/// Longest text of a field.
const FIELD_BYTES: usize = 4 << 10;
/// Most fields beside the files.
const OTHER_FIELDS: u32 = 32;
/// What says that files belong to no session.
const UNSPECIFIED: &str = "unspecified";

/// A form that is being read.
pub(super) struct Receiving<'a> {
    door: &'a Door,
    caller: &'a Caller,
    rules: Arc<Rules>,
    persona_id: Option<&'a str>,
    session_id: Option<Uuid>,
    /// Whether the form has said it.
    is_named: bool,
    /// Whether a file that is refused ends nothing.
    per_file: bool,
    files: u32,
    outcomes: Vec<Outcome>,
    /// What is left where the files belong.
    room: Room,
    /// So much those take that have come …
    taken: u64,
    /// … and all together, at least.
    at_least: u64,
}

/// What the head asks for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// At least so many bytes are files, if the head says how long the form is.
    pub(super) at_least: u64,
    /// The session that the files belong to, unless the form says so.
    pub(super) session_id: Option<Uuid>,
    /// Whether each file has a result of its own.
    pub(super) per_file: bool,
}

/// A form that has come whole.
pub(super) struct Received {
    /// The session that the files belong to, if any.
    pub(super) session_id: Option<Uuid>,
    /// What became of each file, in their order. Unless each has a result of its own, all may be kept.
    pub(super) outcomes: Vec<Outcome>,
}

/// What became of a file.
pub(super) enum Outcome {
    /// It may be kept.
    Judged(Box<Judged>),
    /// It is not taken.
    Refused(Refused),
}

impl<'a> Receiving<'a> {
    pub(super) const fn new(
        door: &'a Door,
        caller: &'a Caller,
        persona_id: Option<&'a str>,
        rules: Arc<Rules>,
        asked: Asked,
    ) -> Self {
        let Asked { at_least, session_id, per_file } = asked;
        let room = Room { tenant: None, session: None };
        Self {
            door,
            caller,
            rules,
            persona_id,
            session_id,
            is_named: false,
            per_file,
            files: 0,
            outcomes: Vec::new(),
            room,
            taken: 0,
            at_least,
        }
    }

    /// Reads the form, and asks whether its files may be kept.
    ///
    /// # Errors
    /// What is wrong with all of it, or with one of its files unless each has a result of its own.
    pub(super) async fn receive(mut self, mut parts: Opened) -> Result<Received, Problem> {
        self.check_session().await?;
        self.look_for_room().await?;
        let mut others = 0;
        while let Some(mut field) = parts.next().await? {
            match field.name().unwrap_or_default() {
                "files" => self.take(&mut field).await?,
                _ if others == OTHER_FIELDS => {
                    return Err(Problem::new(Code::BadMultipart).because("there are too many fields beside the files"));
                }
                name => {
                    others += 1;
                    let name = name.to_owned();
                    self.note(&name, &mut field).await?;
                }
            }
        }
        if self.files == 0 {
            return Err(Code::NoFiles.into());
        }
        self.permit().await?;
        Ok(Received { session_id: self.session_id, outcomes: self.outcomes })
    }

    /// Reads a field that is no file.
    async fn note(&mut self, name: &str, field: &mut Field) -> Result<(), Problem> {
        if name != "session_id" && is_file(field) {
            return Err(wrong(vec![name.into()], "is a file; files are in the field `files`"));
        }
        let given = text(field, name, FIELD_BYTES).await?;
        if name == "session_id" {
            self.name_session(session(&["body", "session_id"], &given)?).await?;
        }
        Ok(())
    }

    async fn name_session(&mut self, given: Option<Uuid>) -> Result<(), Problem> {
        let differs = given.is_some() && self.session_id.is_some_and(|known| Some(known) != given);
        if std::mem::replace(&mut self.is_named, true) || differs {
            return Err(wrong(vec!["session_id".into()], "is given more than once"));
        }
        self.session_id = given.or(self.session_id);
        self.check_session().await?;
        self.look_for_room().await
    }

    /// Finds out what is left where the files belong. Whether all of them are kept is only known when they are, but what cannot be is
    /// not waited for.
    async fn look_for_room(&mut self) -> Result<(), Problem> {
        self.room = self.door.uploads.room(self.caller, self.rules.quotas, self.session_id).await?;
        // Where each file has a result of its own, some of them may find room without the others.
        if self.per_file {
            return Ok(());
        }
        self.room.check(self.at_least.max(self.taken)).map_err(|over| {
            self.door.uploads.metrics().refused();
            refused(over.into())
        })?;
        self.room.take(self.taken);
        Ok(())
    }

    async fn check_session(&self) -> Result<(), Problem> {
        match self.session_id {
            Some(id) => self.door.uploads.check_session(self.caller, id).await.map_err(not_there),
            None => Ok(()),
        }
    }

    /// Takes a file.
    async fn take(&mut self, field: &mut Field) -> Result<(), Problem> {
        let said = said_of(field);
        let is_unnamed = said.filename.as_deref() == Some("");
        let first = piece(field).await?;
        // A browser sends this for a form in which no file was chosen.
        if is_unnamed && first.is_none() {
            return Ok(());
        }
        self.files += 1;
        if self.files > self.rules.max_files {
            let most = self.rules.max_files;
            return Err(Problem::new(Code::TooManyFiles).because(format!("Too many files (max {most})")));
        }
        let judged = match self.door.uploads.begin(self.caller, Arc::clone(&self.rules), &said).await {
            Ok(ingest) => self.judge(ingest, first, field).await?,
            Err(error) => Err(refused(error)),
        };
        let outcome = match judged {
            Ok(judged) => {
                if !self.per_file {
                    self.taken = self.taken.saturating_add(judged.stored_bytes());
                    self.room.take(judged.stored_bytes());
                }
                Outcome::Judged(Box::new(judged))
            }
            Err(problem) => self.refuse(sanitised(said.filename.as_deref().unwrap_or_default()), problem)?,
        };
        self.outcomes.push(outcome);
        Ok(())
    }

    /// A file is not taken: where each has a result of its own that is its result, else that of the form.
    fn refuse(&self, filename: String, problem: Problem) -> Result<Outcome, Problem> {
        self.door.uploads.metrics().refused();
        if self.per_file { Ok(Outcome::Refused(Refused { filename, problem })) } else { Err(problem) }
    }

    /// Reads a file to its end.
    ///
    /// # Errors
    /// What is wrong with the whole form; inside, what is wrong with the file.
    async fn judge(
        &self,
        mut ingest: Ingest,
        first: Option<actix_web::web::Bytes>,
        field: &mut Field,
    ) -> Result<Result<Judged, Problem>, Problem> {
        let progress = Progress { door: self.door, caller: self.caller, session_id: self.session_id };
        let mut next = first;
        while let Some(bytes) = next {
            let before = ingest.size();
            let come = before.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            if let Err(over) = self.room.check(come) {
                return Ok(Err(refused(over.into())));
            }
            ingest = match ingest.push(bytes).await {
                Ok(ingest) => ingest,
                Err(error) => return Ok(Err(refused(error))),
            };
            progress.came(&ingest, self.files - 1, before);
            next = piece(field).await?;
        }
        Ok(ingest.finish().await.map_err(refused))
    }

    /// Asks about each file, now that it is known where they belong.
    async fn permit(&mut self) -> Result<(), Problem> {
        for place in 0..self.outcomes.len() {
            let Outcome::Judged(file) = &self.outcomes[place] else { continue };
            if let Err(problem) = permitted(self.door, self.caller, (self.session_id, self.persona_id), file).await {
                self.outcomes[place] = self.refuse(file.filename.clone(), problem)?;
            }
        }
        Ok(())
    }
}

/// Whether the policy lets `caller` keep a file.
///
/// # Errors
/// It does not, or could not be heard.
pub(in crate::routes) async fn permitted(
    door: &Door,
    caller: &Caller,
    (session_id, persona_id): (Option<Uuid>, Option<&str>),
    file: &Judged,
) -> Result<(), Problem> {
    let Caller { tenant, subject, scope, admission, .. } = caller;
    let issuer = admission.as_ref().and_then(|admission| admission.issuer.as_deref());
    let asker = match subject {
        Some(subject) => Asker::Member { subject, issuer, scope: scope.as_deref() },
        None => Asker::Nobody { auth_required: door.verifier.is_some() },
    };
    let mut args = Map::from_iter([
        ("filename".to_owned(), Value::from(file.filename.as_str())),
        ("mime".to_owned(), Value::from(file.mime.as_str())),
        ("size".to_owned(), Value::from(file.size)),
    ]);
    for (name, said) in [("declared_mime", file.declared_mime.as_deref()), ("host", file.host())] {
        args.extend(said.map(|said| (name.to_owned(), Value::from(said))));
    }
    let context = Context { session_id, args: Some(&args), ..Context::default() };
    let asks = Subject { tenant, persona_id, asker };
    let decision = door.policy.decide(&asks, "attachments.upload.file", "attachment", &context).await;
    if decision.allow { Ok(()) } else { Err(denied(&door.policy, &decision)) }
}

/// The session that a text names, if it names one.
///
/// # Errors
/// It is no id of a session; `loc` is where it stands.
pub(in crate::routes) fn session(loc: &[&str], given: &str) -> Result<Option<Uuid>, Problem> {
    match given.trim() {
        "" | UNSPECIFIED => Ok(None),
        given => Uuid::try_parse(given).map(Some).map_err(|_| {
            let code = if loc[0] == "query" { Code::InvalidQuery } else { Code::InvalidBody };
            let loc: Vec<Value> = loc.iter().map(|part| Value::from(*part)).collect();
            Problem::new(code).at(&loc, "must be a UUID")
        }),
    }
}

/// Whether a part is a file: those have names.
fn is_file(field: &Field) -> bool {
    said_of(field).filename.is_some()
}
