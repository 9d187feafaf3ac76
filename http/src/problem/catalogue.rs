//! Every problem code the door can answer with.

use std::time::Duration;

use serde::{Serialize, Serializer};

macro_rules! catalogue {
    ($($(#[doc = $doc:literal])+ $name:ident: $status:literal $code:literal $title:literal;)+) => {
        /// Why a request failed, as clients see it. Codes are stable; `problems.md` has a line for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as clients read it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// What it means, in a few words that never change.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

catalogue! {
    /// The body is not JSON.
    BadJson: 400 "bad-json" "The body is not valid JSON";
    /// The quick action does not exist.
    UnknownAction: 400 "unknown-action" "Unknown action";
    /// An export must name its tenant.
    TenantRequired: 400 "tenant-required" "tenant parameter required for export";
    /// The body is not a form of several parts, or not a whole one.
    BadMultipart: 400 "bad-multipart" "The body is not valid multipart/form-data";
    /// The form has no file.
    NoFiles: 400 "no-files" "No files provided";
    /// The form has more files than allowed.
    TooManyFiles: 400 "too-many-files" "Too many files";
    /// The request could not be read.
    BadRequest: 400 "bad-request" "The request could not be read";
    /// A checksum was made by something that is not known here.
    ChecksumUnsupported: 400 "checksum-algorithm-unsupported" "Checksums of this kind are not known here";
    /// An upload in pieces cannot become an attachment now.
    UploadIncomplete: 400 "upload-incomplete" "The upload cannot be finished";
    /// What the path names cannot be an attachment.
    AttachmentIdInvalid: 400 "attachment-id-invalid" "invalid attachment id";
    /// It is not said whose logins are to end.
    SubjectRequired: 400 "subject-required" "subject parameter required to end logins";
    /// What came back from the provider belongs to no attempt of this browser's.
    OidcStateInvalid: 400 "oidc-state-invalid" "state expired or invalid";
    /// The provider sent somebody back with nothing.
    OidcCodeMissing: 400 "oidc-code-missing" "missing code/state";
    /// The request shows no token.
    AuthorizationMissing: 401 "authorization-missing" "Missing Authorization header";
    /// The header that should carry a token carries something else.
    AuthorizationInvalid: 401 "authorization-invalid" "Invalid Authorization header";
    /// The token has no head that can be read.
    TokenHeaderInvalid: 401 "token-header-invalid" "Invalid token header";
    /// The token is not taken.
    TokenInvalid: 401 "token-invalid" "Invalid token";
    /// The token does not say who it speaks of.
    IdentityMissing: 401 "identity-missing" "Missing identity claims";
    /// The API key is not taken.
    ApiKeyInvalid: 401 "api-key-invalid" "Invalid API key";
    /// The provider's token is not taken.
    IdTokenInvalid: 401 "id-token-invalid" "invalid id_token";
    /// The provider's token is that of another attempt.
    NonceMismatch: 401 "nonce-mismatch" "nonce mismatch";
    /// The person or the provider said no.
    SignInDenied: 403 "sign-in-denied" "Nobody was signed in";
    /// People of this tenant may not sign in here.
    SignInNotAllowed: 403 "sign-in-not-allowed" "People of this tenant may not sign in here";
    /// Nobody may send files.
    UploadsDisabled: 403 "uploads-disabled" "Uploads are disabled by administrator";
    /// The caller may not do this.
    PolicyDenied: 403 "policy-denied" "Request blocked by policy";
    /// Only workers of this installation may do this.
    InternalDenied: 403 "internal-denied" "forbidden";
    /// Only who looks after the system may do this.
    AdminScopeRequired: 403 "admin-scope-required" "Admin scope required";
    /// Only operators of the installation may do this.
    OperatorRequired: 403 "operator-required" "Only operators may change settings";
    /// An API key may not do this, whatever its scopes are.
    TokenRequired: 403 "token-required" "An API key may not do this";
    /// The request names another tenant than the caller's, or the caller does not belong to the one that the token names.
    TenantDenied: 403 "tenant-denied" "Tenant access denied";
    /// The request names a host this door does not answer for.
    HostNotAllowed: 403 "host-not-allowed" "This host name is not served";
    /// The request comes from another site's page.
    OriginNotAllowed: 403 "origin-not-allowed" "Requests from other sites are refused";
    /// The request relies on a cookie and does not show the token that goes with it.
    CsrfTokenInvalid: 403 "csrf-token-invalid" "CSRF token missing or invalid";
    /// Nobody has to prove who they are, and the request is another machine's.
    AddressNotAllowed: 403 "address-not-allowed" "Only this machine is served";
    /// What was sent may do harm, or nobody could tell.
    AttachmentQuarantined: 403 "attachment-quarantined" "The attachment is quarantined";
    /// There are no links to attachments.
    LinksDisabled: 403 "links-disabled" "Links to attachments are off";
    /// No file is fetched from elsewhere.
    ExternalDisabled: 403 "external-references-disabled" "External references are off";
    /// No file is fetched from there.
    ExternalNotAllowed: 403 "external-reference-not-allowed" "Files are not fetched from there";
    /// Nothing can be added to an upload that was made of parts.
    UploadFinal: 403 "upload-final" "The upload was made of parts";
    /// Nothing has this path.
    NotFound: 404 "not-found" "Not Found";
    /// The caller has no such session.
    SessionNotFound: 404 "session-not-found" "Session not found";
    /// There is no such attachment for the caller.
    AttachmentUnknown: 404 "attachment-unknown" "not found";
    /// There is no smaller picture of the attachment.
    ThumbnailNotFound: 404 "thumbnail-not-found" "There is no thumbnail";
    /// The caller has no such upload.
    UploadNotFound: 404 "upload-not-found" "Upload not found";
    /// The caller has no such dead letter.
    DeadLetterNotFound: 404 "dead-letter-not-found" "DLQ item not found";
    /// The caller has no such order or export job.
    JobNotFound: 404 "job-not-found" "Job not found";
    /// The role has no model.
    ModelProfileNotFound: 404 "model-profile-not-found" "model profile not found";
    /// The caller's tenant has no such API key.
    ApiKeyNotFound: 404 "api-key-not-found" "API key not found";
    /// The caller has no such login, or it is over.
    LoginNotFound: 404 "login-not-found" "Login not found";
    /// There is no such link, or it is over.
    LinkNotFound: 404 "link-not-found" "Link not found";
    /// The caller has no such memory.
    MemoryNotFound: 404 "memory-not-found" "memory event not found";
    /// There is no such version of the settings.
    SettingsVersionNotFound: 404 "settings-version-not-found" "Version of the settings not found";
    /// The path exists, the method does not.
    MethodNotAllowed: 405 "method-not-allowed" "Method Not Allowed";
    /// The body did not arrive in time.
    RequestTimeout: 408 "request-timeout" "The body did not arrive in time";
    /// The session takes no messages now.
    SessionPaused: 409 "session-paused" "The session is paused";
    /// The session answers another message.
    SessionBusy: 409 "session-busy" "The session is answering another message";
    /// As many messages wait as may.
    SessionQueueFull: 409 "session-queue-full" "Too many messages wait in this session";
    /// The session has events the client has not seen.
    HeadMoved: 409 "head-moved" "The session has moved on";
    /// The client expects events that do not exist.
    HeadAhead: 409 "head-ahead" "The session has fewer events than expected";
    /// Nobody has said that exactly this may be deleted.
    ConfirmationNeeded: 409 "confirmation-needed" "This deletes much and must be confirmed";
    /// To send the dead letter would undo a later version of its memory.
    LetterSuperseded: 409 "letter-superseded" "A later version of the memory is known";
    /// Nobody has to say who they are, so a key would speak for nobody.
    AuthenticationOff: 409 "authentication-off" "API keys need authentication";
    /// There are as many links to the attachment as there may be.
    TooManyLinks: 409 "too-many-links" "Too many links to the attachment";
    /// The tenant has as many export jobs as it may have.
    TooManyExports: 409 "too-many-exports" "Too many export jobs";
    /// The export job has no result, or not yet.
    JobNotCompleted: 409 "job-not-completed" "job not completed";
    /// Nothing is looked through here.
    AntivirusOff: 409 "antivirus-off" "The antivirus is off";
    /// What is asked for makes sense only of what is quarantined.
    AttachmentNotQuarantined: 409 "attachment-not-quarantined" "The attachment is not quarantined";
    /// What is quarantined has no bytes any more.
    AttachmentBytesDropped: 409 "attachment-bytes-dropped" "The bytes of the attachment were dropped";
    /// What is saved, or is to be, was written by another version of the program or by something else.
    SettingsUnreadable: 409 "settings-unreadable" "The settings cannot be read";
    /// A piece does not go on where the upload stopped.
    UploadConflict: 409 "upload-conflict" "The piece does not fit the upload";
    /// The session was deleted.
    SessionDeleted: 410 "session-deleted" "The session was deleted";
    /// The result of the export job has expired.
    ExportGone: 410 "export-gone" "export file no longer available";
    /// The bytes of the attachment are not kept any more.
    AttachmentGone: 410 "attachment-gone" "The attachment is gone";
    /// What the client takes for granted does not hold.
    PreconditionFailed: 412 "precondition-failed" "A condition of the request does not hold";
    /// The client speaks another version of tus.
    TusVersionUnsupported: 412 "tus-version-unsupported" "Only version 1.0.0 of tus is spoken here";
    /// The replica has not come as far as the reader asks.
    ReplicaBehind: 412 "replica-behind" "The replica has not come so far yet";
    /// Another version of the settings is saved than the client expects.
    SettingsMoved: 412 "settings-moved" "The settings were changed meanwhile";
    /// The body is larger than allowed.
    BodyTooLarge: 413 "body-too-large" "The body is too large";
    /// A file is larger than allowed.
    FileTooLarge: 413 "file-too-large" "File too large";
    /// A file is larger than one may be that is kept here.
    InlineCapExceeded: 413 "inline-cap-exceeded" "File exceeds inline cap";
    /// There is no room left for a file.
    QuotaExceeded: 413 "quota-exceeded" "No room left for the file";
    /// The batch has more items than allowed.
    TooManyItems: 413 "too-many-items" "Too many items";
    /// The body is not declared as what the operation takes.
    UnsupportedMediaType: 415 "unsupported-media-type" "The body must be application/json";
    /// Files of this type are not taken.
    MimeNotAllowed: 415 "mime-not-allowed" "MIME type not allowed";
    /// The wished parts are not there.
    RangeNotSatisfiable: 416 "range-not-satisfiable" "The wished parts are not there";
    /// The request is for a host that is not served here.
    Misdirected: 421 "misdirected" "This host is not served here";
    /// A field of the body is missing or wrong.
    InvalidBody: 422 "invalid-body" "The body has wrong fields";
    /// A query parameter is wrong.
    InvalidQuery: 422 "invalid-query" "The query has wrong parameters";
    /// A header is wrong.
    InvalidHeader: 422 "invalid-header" "A header has a wrong value";
    /// The message is longer than allowed.
    MessageTooLong: 422 "message-too-long" "The message is too long";
    /// An attachment does not exist for this caller.
    AttachmentNotFound: 422 "attachment-not-found" "An attachment does not exist";
    /// The key was used for another request.
    IdempotencyKeyReused: 422 "idempotency-key-reused" "The idempotency key belongs to another request";
    /// Somebody looks through the upload just now.
    UploadLocked: 423 "upload-locked" "The upload is being finished";
    /// The caller asks too often.
    RateLimited: 429 "rate-limited" "Too Many Requests";
    /// An operation of those who look after the system is asked for too often.
    AdminRateLimited: 429 "admin-rate-limited" "Too Many Requests (admin rate limit)";
    /// The caller has as many streams open as it may have.
    TooManyStreams: 429 "too-many-streams" "Too many open streams";
    /// As many requests of the caller wait for their bodies as may.
    TooManyBodies: 429 "too-many-bodies" "Too many unfinished requests";
    /// The caller has as many unfinished uploads as it may have.
    TooManyUploads: 429 "too-many-uploads" "Too many unfinished uploads";
    /// The bytes of a piece are not those that its checksum is of (a status of tus).
    ChecksumMismatch: 460 "checksum-mismatch" "The bytes are not those that the checksum is of";
    /// Something broke here.
    Internal: 500 "internal" "Internal error";
    /// The issuer of tokens has no key that could prove one.
    SigningKeyUnresolved: 500 "signing-key-unresolved" "Unable to resolve signing key";
    /// The keys that prove tokens cannot be had.
    JwksUnavailable: 502 "jwks-unavailable" "JWKS fetch failed";
    /// The provider has not said how it is to be asked.
    OidcUnavailable: 502 "oidc-unavailable" "OIDC discovery failed";
    /// The provider gave nothing for the code.
    OidcExchangeFailed: 502 "oidc-exchange-failed" "OIDC token exchange failed";
    /// The provider gave no ID token.
    IdTokenMissing: 502 "id-token-missing" "id_token missing";
    /// Whether the caller may do this cannot be found out.
    PolicyUnavailable: 502 "policy-unavailable" "OPA evaluation failed";
    /// Whether the caller belongs to the tenant cannot be found out.
    AuthorizationUnavailable: 502 "authorization-unavailable" "Authorization service unavailable";
    /// The memory is gone here, but the memory service failed to delete it.
    DeletionIncomplete: 502 "deletion-incomplete" "Deleted here, but not by the memory service";
    /// A file that is elsewhere did not come, or not whole.
    ExternalFailed: 502 "external-reference-failed" "The file could not be fetched";
    /// A file could not be looked through, and must be.
    AntivirusError: 502 "antivirus-error" "Antivirus error (strict mode)";
    /// Too much is going on.
    Overloaded: 503 "overloaded" "Too busy, try again";
    /// A part that is needed is away; nothing was changed.
    Unavailable: 503 "unavailable" "Not available now, nothing was changed";
    /// The process is shutting down.
    Draining: 503 "draining" "Shutting down, try again";
    /// The session is owned by another node.
    SessionElsewhere: 503 "session-elsewhere" "The session is being served by another node";
    /// Nobody can sign in here.
    OidcDisabled: 503 "oidc-disabled" "OIDC not enabled";
    /// Event streams are switched off.
    SseDisabled: 503 "sse-disabled" "SSE disabled";
    /// The outcome is unknown.
    OutcomeUnknown: 504 "outcome-unknown" "The outcome is unknown, send again with the same idempotency key";
    /// A read took too long.
    Timeout: 504 "timeout" "The answer took too long";
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Code {
    /// The URI of the problem type.
    #[must_use]
    pub fn type_uri(self) -> String {
        format!("urn:somaagent01:problem:{}", self.as_str())
    }

    /// When a client may try again, for codes where that makes sense.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Draining => Some(Duration::from_secs(5)),
            Self::SseDisabled => Some(Duration::from_mins(5)),
            _ if matches!(self.status(), 429 | 502 | 503) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The code whose `as_str` is `text`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn problems_md_has_one_line_for_every_code() {
        let page = include_str!("../../problems.md");
        let lines: BTreeMap<&str, u16> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| {
                let (code, rest) = line.split_once("` | ")?;
                Some((code, rest.split(' ').next()?.parse().ok()?))
            })
            .collect();
        let codes: BTreeMap<&str, u16> = Code::ALL.iter().map(|code| (code.as_str(), code.status())).collect();
        assert_eq!(lines, codes);
    }

    #[test]
    fn codes_are_kebab_case_and_read_back() {
        for code in Code::ALL {
            assert!(code.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{code:?}");
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!(code.type_uri().ends_with(code.as_str()));
            assert_eq!(code.retry_after().is_some(), matches!(code.status(), 429 | 502 | 503), "{code:?}");
        }
    }
}
