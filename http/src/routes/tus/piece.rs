//! A piece of an upload, as it comes.

use actix_web::{HttpRequest, http::header::CONTENT_TYPE};
use somaagent_actors::{
    domain::caller::Caller,
    uploads::tus::{Checksum, TusUpload},
};
use uuid::Uuid;

use super::refusal::{Spoken, told};
use crate::{
    door::Door,
    extract::{Incoming, bad_header, header},
    problem::{Code, Problem},
    tus::{Dialect, PIECE_TYPE, bare_checksum, bytes, checksum},
};

/// What the head says of a piece.
pub(super) struct PieceHead {
    spoken: Spoken,
    offset: u64,
    checksum: Option<Checksum>,
}

impl PieceHead {
    /// That of `request`.
    ///
    /// # Errors
    /// It does not say where the piece belongs, or is not as the dialect has it.
    pub(super) fn of(request: &HttpRequest, dialect: Dialect) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if dialect == Dialect::Tus && !kind.eq_ignore_ascii_case(PIECE_TYPE.as_bytes()) {
            return Err(Problem::new(Code::UnsupportedMediaType).because(format!("the body must be {PIECE_TYPE}")));
        }
        let offset = header(request, "Upload-Offset")?.and_then(bytes);
        let offset = offset.ok_or_else(|| bad_header("Upload-Offset", "must be a number of bytes"))?;
        let given = header(request, "Upload-Checksum")?;
        let (spoken, checksum) = match dialect {
            Dialect::Tus => (Spoken::Tus, given.map(checksum)),
            Dialect::Json => (Spoken::Piece, given.map(bare_checksum)),
        };
        Ok(Self { spoken, offset, checksum: checksum.transpose()? })
    }
}

/// Takes a piece and returns the upload as it is then.
///
/// # Errors
/// It does not fit the upload, or broke off; what is kept of it then, a look at the upload tells.
pub(super) async fn receive(
    door: &Door,
    caller: &Caller,
    id: Uuid,
    (head, announced): (PieceHead, Option<u64>),
    mut incoming: Incoming,
) -> Result<TusUpload, Problem> {
    let PieceHead { spoken, offset, checksum } = head;
    let piece = door.uploads.tus().write(caller, id, (offset, announced), checksum).await;
    let mut piece = piece.map_err(|error| told(error, spoken))?;
    loop {
        match incoming.next().await {
            Ok(Some(bytes)) => piece.push(bytes).await.map_err(|error| told(error, spoken))?,
            Ok(None) => return piece.finish().await.map_err(|error| told(error, spoken)),
            Err(problem) => {
                if let Err(error) = piece.break_off().await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "of a piece that broke off not all is kept"
                    );
                }
                return Err(problem);
            }
        }
    }
}
