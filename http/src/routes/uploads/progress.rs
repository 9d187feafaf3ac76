//! How far files have come, for whoever reads the session that they are sent to.

use serde_json::json;
use somaagent_actors::{
    domain::{caller::Caller, event::Metadata},
    uploads::{Attachment, Ingest},
};
use uuid::Uuid;

use crate::door::Door;

/// The type of these events.
const TYPE: &str = "uploads.progress";
/// So many bytes are told at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Tells how far files of one session have come.
#[derive(Clone, Copy)]
pub(in crate::routes) struct Progress<'a> {
    pub(super) door: &'a Door,
    pub(super) caller: &'a Caller,
    /// Without one there is nobody to tell.
    pub(super) session_id: Option<Uuid>,
}

/// Tells how far files of one session have come that are sent one at a time.
pub(in crate::routes) const fn of<'a>(door: &'a Door, caller: &'a Caller, session_id: Option<Uuid>) -> Progress<'a> {
    Progress { door, caller, session_id }
}

impl Progress<'_> {
    /// A file has come further than `before`, counted in bytes.
    pub(super) fn came(&self, file: &Ingest, index: u32, before: u64) {
        if file.size() / STEP_BYTES == before / STEP_BYTES {
            return;
        }
        let (filename, mime) = (file.filename(), file.declared_mime());
        self.tell(index, (filename, mime), &json!({"bytes_uploaded": file.size(), "status": "uploading"}));
    }

    /// A file is kept.
    pub(in crate::routes) fn kept(&self, file: &Attachment, index: u32) {
        let more = json!({
            "bytes_uploaded": file.size, "bytes_total": file.size, "attachment_id": file.id, "status": "uploaded",
        });
        self.tell(index, (&file.filename, Some(&file.mime)), &more);
    }

    fn tell(&self, index: u32, (filename, mime): (&str, Option<&str>), more: &serde_json::Value) {
        let Some(session_id) = self.session_id else { return };
        let mut told = Metadata::from_iter([
            ("source".to_owned(), "gateway".into()),
            ("tenant".to_owned(), self.caller.tenant.as_str().into()),
            ("filename".to_owned(), filename.into()),
            ("mime".to_owned(), mime.into()),
            ("file_index".to_owned(), index.into()),
        ]);
        told.extend(more.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        self.door.conversations.show(self.caller, session_id, TYPE, told);
    }
}
