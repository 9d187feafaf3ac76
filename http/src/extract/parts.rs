//! Bodies of several parts (RFC 7578), read while they come. Nothing of them is kept here.

use std::{
    cell::RefCell,
    future::{Ready, poll_fn, ready},
    io,
    rc::Rc,
    time::Duration,
};

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    error::PayloadError,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ContentDisposition},
    web::{Bytes, Data},
};
use futures_util::{Stream, StreamExt as _, stream};
use somaagent_actors::uploads::Declared;
use tokio::time::timeout;

use super::wrong;
use crate::{
    limits::unhurried,
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// How long more is read of a body that is refused.
const LINGER: Duration = Duration::from_secs(1);

/// The body of a request that has several parts. It is looked at only when the handler [opens](Self::open) it.
pub(crate) struct Parts {
    request: HttpRequest,
    payload: Payload,
}

/// The parts, one after the other.
pub(crate) struct Opened(Multipart);

impl FromRequest for Parts {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { request: request.clone(), payload: payload.take() }))
    }
}

impl Parts {
    /// How many bytes the head says there are, if it does.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Does `reading` with the parts, of which there are at most `most` bytes. While it waits for them the request is not among
    /// those under way; a client that sends nothing for too long is given up.
    ///
    /// # Errors
    /// That of `reading`; the head of the request says that it has no such body; too many bodies are waited for; or too
    /// much is going on.
    pub(crate) async fn open<T, F: Future<Output = Result<T, Problem>>>(
        self,
        most: u64,
        reading: impl FnOnce(Opened) -> F,
    ) -> Result<T, Problem> {
        let Self { request, payload } = self;
        let settings = request.app_data::<Data<DoorSettings>>();
        let idle = settings.map_or_else(|| DoorSettings::default().body_timeout(), |settings| settings.body_timeout());
        let (head, of, payload) = (announced(&request, most), request.clone(), Rc::new(RefCell::new(payload)));
        let reading = async move {
            let read = match head {
                Ok(()) => {
                    let body = limited(Rc::clone(&payload), most, idle);
                    reading(Opened(Multipart::new(of.headers(), body))).await
                }
                Err(problem) => Err(problem),
            };
            linger(&payload).await;
            read
        };
        unhurried(request, reading).await
    }
}

/// A body that is read by turns.
pub(super) type Shared = Rc<RefCell<Payload>>;

pub(super) async fn next(payload: &Shared) -> Option<Result<Bytes, PayloadError>> {
    poll_fn(|context| payload.borrow_mut().poll_next_unpin(context)).await
}

/// Reads on for a moment what nobody wants, if that was not all. A client that is still sending would lose its answer with a
/// connection that is closed at once.
pub(super) async fn linger(payload: &Shared) {
    // Over or not, that was the moment.
    let _over = timeout(LINGER, async { while let Some(Ok(_)) = next(payload).await {} }).await;
}

impl Opened {
    /// Those of a body that no request brought.
    #[cfg(any(test, fuzzing))]
    pub(crate) const fn of(parts: Multipart) -> Self {
        Self(parts)
    }

    /// The next part. What is left of the one before is read and forgotten.
    ///
    /// # Errors
    /// The body is not what it should be, or does not come.
    pub(crate) async fn next(&mut self) -> Result<Option<Field>, Problem> {
        let Some(field) = self.0.next().await.transpose().map_err(broken)? else { return Ok(None) };
        // A part has no coding of its own (RFC 7578 §4.7): what looks decoded to one would not to the other.
        let coding =
            field.headers().get("Content-Transfer-Encoding").map(|value| value.as_bytes().to_ascii_lowercase());
        if coding.is_some_and(|coding| !matches!(&*coding, b"binary" | b"8bit" | b"7bit")) {
            return Err(bad_multipart("a part must not be encoded"));
        }
        Ok(Some(field))
    }
}

/// The next bytes of a part.
///
/// # Errors
/// As [`Opened::next`].
pub(crate) async fn piece(field: &mut Field) -> Result<Option<Bytes>, Problem> {
    field.next().await.transpose().map_err(broken)
}

/// What a file is called. A name in Unicode comes first, where there are two.
pub(crate) fn called(disposition: &ContentDisposition) -> Option<String> {
    let extended = disposition.get_filename_ext().map(|name| String::from_utf8_lossy(&name.value).into_owned());
    extended.or_else(|| disposition.get_filename().map(str::to_owned))
}

/// What the head of a part says of its file.
pub(crate) fn said_of(field: &Field) -> Declared {
    Declared {
        filename: field.content_disposition().and_then(called),
        mime: field.content_type().map(ToString::to_string),
    }
}

/// A whole part as a text of at most `most` bytes.
///
/// # Errors
/// As [`Opened::next`]; or it is longer, or no text.
pub(crate) async fn text(field: &mut Field, name: &str, most: usize) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(more) = piece(field).await? {
        bytes.extend_from_slice(&more);
        if bytes.len() > most {
            return Err(wrong(vec![name.into()], &format!("must be at most {most} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong(vec![name.into()], "must be UTF-8"))
}

/// What the head says about the body: its type, its coding, its length.
fn announced(request: &HttpRequest, most: u64) -> Result<(), Problem> {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "multipart/form-data" {
        return Err(Problem::new(Code::UnsupportedMediaType).because("the body must be multipart/form-data"));
    }
    let coding = text(CONTENT_ENCODING).trim();
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        return Err(Problem::new(Code::UnsupportedMediaType).because("the body must not be compressed"));
    }
    match text(CONTENT_LENGTH).parse::<u64>() {
        Ok(length) if length > most => Err(too_large(most)),
        _ => Ok(()),
    }
}

/// The body, cut where it is longer than it may be and where nothing comes any more.
fn limited(payload: Shared, most: u64, idle: Duration) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    stream::unfold((payload, most), move |(payload, left)| async move {
        let next = match timeout(idle, next(&payload)).await {
            Ok(next) => next?,
            Err(_) => Err(PayloadError::Io(io::ErrorKind::TimedOut.into())),
        };
        let length = next.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        match left.checked_sub(length) {
            Some(left) => Some((next, (payload, left))),
            None => Some((Err(PayloadError::Io(io::ErrorKind::FileTooLarge.into())), (payload, 0))),
        }
    })
    // It is looked at once more after its end.
    .fuse()
}

fn broken(error: MultipartError) -> Problem {
    match error {
        MultipartError::Payload(PayloadError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
            Code::RequestTimeout.into()
        }
        MultipartError::Payload(PayloadError::Io(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
            Problem::new(Code::BodyTooLarge).because("the body is larger than all files together may be")
        }
        MultipartError::Payload(PayloadError::Overflow) => bad_multipart("the head of a part is too long"),
        error @ (MultipartError::Payload(_) | MultipartError::Incomplete) => {
            bad_multipart("the body broke off or is badly framed").caused_by(error.to_string())
        }
        error => bad_multipart("it is not as RFC 7578 has it").caused_by(error.to_string()),
    }
}

fn bad_multipart(why: &'static str) -> Problem {
    Problem::new(Code::BadMultipart).because(why)
}

fn too_large(most: u64) -> Problem {
    Problem::new(Code::BodyTooLarge).because(format!("the body is larger than {most} bytes"))
}
