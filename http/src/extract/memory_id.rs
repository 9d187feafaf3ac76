//! The memory a path names.

use actix_web::{FromRequest as _, HttpRequest, dev::Payload, web::Path};
use futures_util::FutureExt as _;

use super::FromHead;
use crate::problem::{Code, Problem};

/// The only parameter of the path, an id of any text. What the store could not hold names no memory: 404.
#[derive(Clone, Debug)]
pub(crate) struct MemoryId(pub(crate) String);

impl FromHead for MemoryId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let id = Path::<String>::from_request(request, &mut Payload::None).now_or_never().and_then(Result::ok);
        let id = id.map(Path::into_inner).filter(|id| !id.contains(['\0', '\u{fffd}']));
        id.map(Self).ok_or_else(|| Code::MemoryNotFound.into())
    }
}
