//! What the protocol tus 1.0.0 writes into heads (<https://tus.io/protocols/resumable-upload>): its names and its grammar.

mod checksum;
mod concat;
mod metadata;

use actix_web::{
    Error, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{HeaderName, HeaderValue},
    },
    middleware::Next,
};

pub(crate) use self::{
    checksum::{bare_checksum, checksum},
    concat::{Concat, concat},
    metadata::{MAX_TYPE_BYTES, Metadata, file_type, metadata},
};
use crate::{
    extract::header,
    problem::{Code, Problem},
};

/// The version that is spoken.
pub(crate) const VERSION: &str = "1.0.0";
/// What of it is spoken beside its core.
pub(crate) const EXTENSIONS: &str = "creation,checksum,expiration,termination,concatenation";
/// By what checksums may be made.
pub(crate) const ALGORITHMS: &str = "sha1,sha256";
/// The type of a piece.
pub(crate) const PIECE_TYPE: &str = "application/offset+octet-stream";
/// Where an upload is: this and its id.
pub(crate) const PATH: &str = "/v1/uploads/tus/";

pub(crate) const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
/// What says which method is meant.
const OVERRIDE: &str = "X-HTTP-Method-Override";
pub(crate) const SUPPORTED: HeaderName = HeaderName::from_static("tus-version");
/// Headers of replies that pages of other sites may read where they may use the API at all.
pub(crate) const EXPOSED: [&str; 13] = [
    "location",
    "tus-checksum-algorithm",
    "tus-extension",
    "tus-max-size",
    "tus-resumable",
    "tus-version",
    "upload-attachment",
    "upload-attachment-status",
    "upload-concat",
    "upload-expires",
    "upload-length",
    "upload-metadata",
    "upload-offset",
];

/// How a client speaks of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// By tus: the request has `Tus-Resumable`.
    Tus,
    /// In JSON, and says itself that an upload is to be finished.
    Json,
}

impl Dialect {
    /// That of `request`.
    ///
    /// # Errors
    /// It is of another version of tus, or the header is given twice.
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        match header(request, "Tus-Resumable")? {
            None => Ok(Self::Json),
            Some(VERSION) => Ok(Self::Tus),
            Some(_) => Err(Code::TusVersionUnsupported.into()),
        }
    }
}

/// A whole number of bytes: digits alone.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The method that a client of tus means that can only say another one. No more than a `POST` is taken for it: what sites may send
/// was judged by that one. What is no method means nothing.
fn meant(request: &HttpRequest) -> Option<Method> {
    if request.method() != Method::POST || Dialect::of(request).ok()? == Dialect::Json {
        return None;
    }
    let name = header(request, OVERRIDE).ok()??;
    Method::from_bytes(name.as_bytes()).ok()
}

/// Says in every reply which version is spoken, as tus wants it, and takes requests by the method that they mean.
pub(crate) async fn name_version<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if let Some(method) = meant(request.request()) {
        request.head_mut().method = method;
    }
    let is_question = request.method() == Method::OPTIONS;
    let mut response = next.call(request).await?;
    let is_unknown = response.status() == StatusCode::PRECONDITION_FAILED;
    let version = HeaderValue::from_static(VERSION);
    response.headers_mut().insert(RESUMABLE, version.clone());
    if is_question || is_unknown {
        response.headers_mut().insert(SUPPORTED, version);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn whoever_names_no_version_speaks_json_and_another_one_is_refused() {
        let of = |values: &[&str]| {
            let request = values
                .iter()
                .fold(TestRequest::default(), |request, value| request.append_header(("Tus-Resumable", *value)));
            Dialect::of(&request.to_http_request()).map_err(|problem| problem.code())
        };
        assert_eq!((of(&[]), of(&[""]), of(&["1.0.0"])), (Ok(Dialect::Json), Ok(Dialect::Json), Ok(Dialect::Tus)));
        for other in ["0.2.2", "1.0", "1.0.1", "1.0.0, 1.0.0", "x"] {
            assert_eq!(of(&[other]), Err(Code::TusVersionUnsupported), "{other}");
        }
        assert_eq!(of(&["1.0.0", "1.0.0"]), Err(Code::InvalidHeader));
    }

    #[test]
    fn a_post_by_tus_means_what_its_header_says_and_nothing_else_does() {
        let of = |method: Method, version: Option<&str>, named: &str| {
            let request = TestRequest::default().method(method).insert_header((OVERRIDE, named));
            let request =
                version.into_iter().fold(request, |request, version| request.insert_header((RESUMABLE, version)));
            meant(&request.to_http_request())
        };
        let tus = Some(VERSION);
        assert_eq!(of(Method::POST, tus, "PATCH"), Some(Method::PATCH));
        assert_eq!(of(Method::POST, tus, "DELETE"), Some(Method::DELETE));
        assert_eq!((of(Method::POST, tus, "PA TCH"), of(Method::POST, Some("2.0.0"), "PATCH")), (None, None));
        assert_eq!((of(Method::GET, tus, "DELETE"), of(Method::POST, None, "DELETE")), (None, None));
    }

    #[test]
    fn numbers_have_digits_alone() {
        assert_eq!((bytes("0"), bytes("007"), bytes("18446744073709551615")), (Some(0), Some(7), Some(u64::MAX)));
        for wrong in ["", "-1", "+1", "1.0", "1e3", " 1", "0x1", "١", "18446744073709551616"] {
            assert_eq!(bytes(wrong), None, "{wrong:?}");
        }
    }
}
