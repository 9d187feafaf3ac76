//! What is told of uploads, in bodies and in heads.

use actix_web::{HttpResponseBuilder, http::header::HttpDate};
use serde::Serialize;
use somaagent_actors::uploads::{Attachment, tus::TusUpload};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::attachments::seconds;
use crate::tus::PATH;

/// An upload that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedReply {
    /// Its id.
    pub(super) upload_id: Uuid,
    /// Where it is.
    pub(super) upload_url: String,
    /// How many bytes are here: none.
    pub(super) offset: i64,
}

/// How far an upload has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OffsetReply {
    /// Its id.
    pub(super) upload_id: Uuid,
    /// How many bytes are here.
    pub(super) offset: i64,
}

/// An upload that is no attachment yet.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArrivingReply {
    /// Its id.
    upload_id: Uuid,
    /// `arriving`; `arrived` when all of it is here and it is still to be finished, or is a part of others.
    status: &'static str,
    /// How many bytes are here …
    offset: i64,
    /// … and how many it has.
    length: i64,
    /// When it is given up if nothing comes, in seconds since 1970.
    expires_at: f64,
}

/// What an upload has become.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FinalizedReply {
    /// The attachment's id.
    id: Uuid,
    /// Its name, without what is odd.
    filename: String,
    /// What its bytes are.
    mime_type: String,
    /// How many there are.
    size: i64,
    /// Their SHA-256 in hexadecimal digits.
    sha256: String,
    /// `clean`, or `quarantined`: then nobody gets it.
    status: String,
    /// Why it is quarantined: `infected`, `av_error` or `limits_exceeded`.
    quarantine_reason: Option<String>,
    /// When it was made, in seconds since 1970.
    created_at: f64,
    /// Whose it is.
    tenant_id: String,
    /// The session that it belongs to, if any.
    session_id: Option<Uuid>,
    /// Where it is.
    download_url: String,
}

/// What has become of an upload.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum UploadReply {
    /// An attachment.
    Finalized(FinalizedReply),
    /// Nothing yet.
    Arriving(ArrivingReply),
}

impl UploadReply {
    pub(super) fn of(upload: &TusUpload, attachment: Option<Attachment>) -> Self {
        match attachment {
            Some(attachment) => Self::Finalized(attachment.into()),
            None => Self::Arriving(ArrivingReply {
                upload_id: upload.id,
                status: if upload.is_whole() { "arrived" } else { "arriving" },
                offset: upload.arrived,
                length: upload.length,
                expires_at: seconds(upload.expires_at),
            }),
        }
    }
}

impl From<Attachment> for FinalizedReply {
    fn from(kept: Attachment) -> Self {
        Self {
            download_url: place(kept.id),
            id: kept.id,
            filename: kept.filename,
            mime_type: kept.mime,
            size: kept.size,
            sha256: kept.sha256,
            status: kept.status,
            quarantine_reason: kept.quarantine_reason,
            created_at: seconds(kept.created_at),
            tenant_id: kept.tenant,
            session_id: kept.session_id,
        }
    }
}

/// Says in the head of a reply how far an upload has come and what it has become.
pub(super) fn described(reply: &mut HttpResponseBuilder, upload: &TusUpload, attachment: Option<&Attachment>) {
    reply.insert_header(("Upload-Offset", upload.arrived.to_string()));
    reply.insert_header(("Upload-Length", upload.length.to_string()));
    reply.insert_header(("Upload-Expires", HttpDate::from(std::time::SystemTime::from(upload.expires_at)).to_string()));
    if let Some(metadata) = &upload.metadata {
        reply.insert_header(("Upload-Metadata", metadata.as_str()));
    }
    if let Some(concat) = concat(upload) {
        reply.insert_header(("Upload-Concat", concat));
    }
    if let Some(attachment) = attachment {
        reply.insert_header(("Upload-Attachment", place(attachment.id)));
        reply.insert_header(("Upload-Attachment-Status", attachment.status.as_str()));
    }
}

/// What an upload has to do with others, as its sender said it; that was not always kept.
fn concat(upload: &TusUpload) -> Option<String> {
    match &upload.parts {
        _ if upload.concat.is_some() => upload.concat.clone(),
        _ if upload.is_partial() => Some("partial".to_owned()),
        Some(parts) => {
            let places: Vec<String> = parts.iter().map(|id| format!("{PATH}{id}")).collect();
            Some(format!("final;{}", places.join(" ")))
        }
        None => None,
    }
}

fn place(id: Uuid) -> String {
    format!("/v1/attachments/{id}")
}
