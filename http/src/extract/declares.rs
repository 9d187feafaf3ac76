//! What a handler may be refused with before it runs, read off its arguments: the description of an operation cannot
//! forget what its extractors check.

use actix_web::{
    Handler, HttpRequest,
    web::{Data, Path},
};

use super::{
    ApiKeyId, AttachmentId, By, ExportJobId, Hints, IdempotencyKey, IfMatch, JobId, JsonBody, KeyMaker, LetterId,
    LetterTopic, LinkId, LinkToken, LoginId, MemoryId, Parts, Prefer, Query, RawBody, SessionId, SettingsVersionNumber,
    UploadId, WithoutKey,
};
use crate::problem::Code;

/// What an argument of a handler adds to the description of its operation.
pub(crate) trait Declares {
    /// The problems that reading it can end in.
    const PROBLEMS: &'static [Code] = &[];
    /// Whether it reads the tenant's name from head or query.
    const NAMES_TENANT: bool = false;
}

impl Declares for HttpRequest {}

impl<T> Declares for Data<T> {}

impl<T> Declares for Path<T> {}

impl Declares for By {
    const PROBLEMS: &'static [Code] = &[Code::InvalidHeader, Code::InvalidQuery, Code::TenantDenied];
    const NAMES_TENANT: bool = true;
}

impl Declares for ApiKeyId {
    const PROBLEMS: &'static [Code] = &[Code::ApiKeyNotFound];
}

impl Declares for AttachmentId {
    const PROBLEMS: &'static [Code] = &[Code::AttachmentIdInvalid];
}

impl Declares for KeyMaker {
    const PROBLEMS: &'static [Code] = &[Code::TokenRequired, Code::AuthenticationOff];
}

impl Declares for Hints {
    const PROBLEMS: &'static [Code] = &[Code::InvalidHeader];
}

impl Declares for IdempotencyKey {
    const PROBLEMS: &'static [Code] = &[Code::InvalidHeader];
}

impl Declares for IfMatch {
    const PROBLEMS: &'static [Code] = &[Code::InvalidHeader];
}

impl Declares for SettingsVersionNumber {
    const PROBLEMS: &'static [Code] = &[Code::SettingsVersionNotFound];
}

impl Declares for Query {
    const PROBLEMS: &'static [Code] = &[Code::InvalidQuery];
}

impl Declares for SessionId {
    const PROBLEMS: &'static [Code] = &[Code::SessionNotFound];
}

impl Declares for LetterTopic {
    const PROBLEMS: &'static [Code] = &[Code::NotFound];
}

impl Declares for LetterId {
    const PROBLEMS: &'static [Code] = &[Code::DeadLetterNotFound];
}

impl Declares for JobId {
    const PROBLEMS: &'static [Code] = &[Code::JobNotFound];
}

impl Declares for ExportJobId {
    const PROBLEMS: &'static [Code] = &[Code::JobNotFound];
}

impl Declares for LinkId {
    const PROBLEMS: &'static [Code] = &[Code::LinkNotFound];
}

impl Declares for LinkToken {}

impl Declares for LoginId {
    const PROBLEMS: &'static [Code] = &[Code::LoginNotFound];
}

impl Declares for WithoutKey {
    const PROBLEMS: &'static [Code] = &[Code::TokenRequired];
}

impl Declares for MemoryId {
    const PROBLEMS: &'static [Code] = &[Code::MemoryNotFound];
}

impl Declares for Parts {}

impl Declares for RawBody {
    const PROBLEMS: &'static [Code] =
        &[Code::BadRequest, Code::RequestTimeout, Code::TooManyBodies, Code::UnsupportedMediaType];
}

impl Declares for UploadId {}

impl Declares for Prefer {}

impl<T> Declares for JsonBody<T> {
    const PROBLEMS: &'static [Code] = &[
        Code::BadJson,
        Code::BadRequest,
        Code::RequestTimeout,
        Code::TooManyBodies,
        Code::BodyTooLarge,
        Code::UnsupportedMediaType,
        Code::InvalidBody,
    ];
}

/// What the arguments of a handler declare together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    /// The problems, each once.
    pub(crate) problems: Vec<Code>,
    /// Whether the tenant's name is read.
    pub(crate) names_tenant: bool,
}

impl Declared {
    fn add<T: Declares>(&mut self) {
        for code in T::PROBLEMS {
            if !self.problems.contains(code) {
                self.problems.push(*code);
            }
        }
        self.names_tenant |= T::NAMES_TENANT;
    }
}

/// The arguments of a handler.
pub(crate) trait Arguments {
    /// What they declare.
    fn declared() -> Declared;
}

macro_rules! arguments {
    ($($name:ident)*) => {
        impl<$($name: Declares),*> Arguments for ($($name,)*) {
            fn declared() -> Declared {
                #[allow(unused_mut, reason = "a handler may have no arguments")]
                let mut declared = Declared::default();
                $(declared.add::<$name>();)*
                declared
            }
        }
    };
}

arguments!();
arguments!(A);
arguments!(A B);
arguments!(A B C);
arguments!(A B C D);
arguments!(A B C D E);
arguments!(A B C D E F);
arguments!(A B C D E F G);

/// What the arguments of `handler` declare.
pub(crate) fn declared_by<A: Arguments, H: Handler<A>>(_: H) -> Declared {
    A::declared()
}
