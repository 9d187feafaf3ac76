//! A file as a reply: all of it, parts of it, or that the client has it already. Nothing in it is ever run by a browser.

mod conditions;
mod ranges;

use std::{
    error::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::SizedStream,
    http::{
        Method, StatusCode,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, Charset,
            ContentDisposition, DispositionParam, DispositionType, ETag, EntityTag, ExtendedValue, HeaderName,
            HeaderValue, LastModified,
        },
    },
    web::Bytes,
};
use futures_util::{Stream, StreamExt as _, future::Either, stream};
use uuid::Uuid;

pub(crate) use conditions::Validators;
use conditions::{Answer, judge};
pub(crate) use ranges::Part;
use ranges::{Segment, multipart};

use crate::problem::{Code, Problem};

/// What a browser may do with a file that it shows in spite of everything: nothing, and as nobody.
const SANDBOX: &str =
    "sandbox; default-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Its name, safe to save under.
    pub(crate) name: String,
    /// Its type.
    pub(crate) mime: String,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// SHA-256 of its bytes in hexadecimal digits, or what else is the same for the same bytes alone.
    pub(crate) sha256: String,
    /// When it became what it is.
    pub(crate) modified: SystemTime,
}

impl File {
    fn validators(&self) -> Validators {
        let since = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        // As clients see it, and say it again.
        let modified = UNIX_EPOCH + Duration::from_secs(since.as_secs());
        Validators { etag: EntityTag::new_strong(self.sha256.clone()), modified: modified.into() }
    }

    /// The type, where it can be a header; else that nothing is known of it.
    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_str(&self.mime).unwrap_or(HeaderValue::from_static("application/octet-stream"))
    }

    /// The reply to `request`, whose parts `read` gives.
    ///
    /// # Errors
    /// The client's conditions do not hold, or it wishes parts that are not there.
    pub(crate) fn answer<S, E>(
        &self,
        request: &HttpRequest,
        read: impl Fn(Part) -> S + 'static,
    ) -> Result<HttpResponse, Problem>
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Error + 'static,
    {
        match judge(request, &self.validators(), self.size) {
            Answer::Failed => Err(Code::PreconditionFailed.into()),
            Answer::Unsatisfiable => {
                Err(Problem::new(Code::RangeNotSatisfiable).content_range(format!("bytes */{}", self.size)))
            }
            Answer::NotModified => Ok(self.head(StatusCode::NOT_MODIFIED).finish()),
            Answer::Whole => {
                let mut head = self.head(StatusCode::OK);
                head.insert_header((CONTENT_TYPE, self.content_type())).insert_header(disposition(&self.name));
                // The library would read all of a body that is not sent.
                let is_sent = request.method() != Method::HEAD;
                let all = is_sent.then(|| read(Part::all(self.size)));
                Ok(head.body(SizedStream::new(self.size, stream::iter(all).flatten())))
            }
            Answer::Parts(parts) => {
                let mut head = self.head(StatusCode::PARTIAL_CONTENT);
                head.insert_header(disposition(&self.name));
                if let [part] = parts[..] {
                    head.insert_header((CONTENT_TYPE, self.content_type()));
                    head.insert_header((CONTENT_RANGE, part.content_range(self.size)));
                    return Ok(head.body(SizedStream::new(part.length, read(part))));
                }
                let boundary = Uuid::new_v4().simple().to_string();
                let (segments, length) = multipart(&parts, &self.mime, self.size, &boundary);
                head.insert_header((CONTENT_TYPE, format!("multipart/byteranges; boundary={boundary}")));
                let body = stream::iter(segments).flat_map(move |segment| match segment {
                    Segment::Text(bytes) => Either::Left(stream::iter([Ok(bytes)])),
                    Segment::Of(part) => Either::Right(read(part)),
                });
                Ok(head.body(SizedStream::new(length, body)))
            }
        }
    }

    /// What every reply about the file says (RFC 9110 §15.4.5 for one without it).
    fn head(&self, status: StatusCode) -> HttpResponseBuilder {
        let mut head = HttpResponseBuilder::new(status);
        let Validators { etag, modified } = self.validators();
        head.insert_header(ETag(etag))
            .insert_header(LastModified(modified))
            .insert_header((ACCEPT_RANGES, "bytes"))
            // It may be taken away, or be found to be harmful: whoever keeps it asks again.
            .insert_header((CACHE_CONTROL, "private, no-cache"))
            .insert_header((CONTENT_SECURITY_POLICY, SANDBOX))
            .insert_header((CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"));
        head
    }
}

/// Has the file saved under `name`, whatever it is: once in ASCII for old clients, once as it is (RFC 6266 §4.3, RFC 8187).
fn disposition(name: &str) -> ContentDisposition {
    let plain: String = name.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '_' }).collect();
    let mut parameters = vec![DispositionParam::Filename(plain.replace(['"', '\\', '%'], "_"))];
    if parameters[0].as_filename() != Some(name) {
        let value = name.as_bytes().to_vec();
        parameters.push(DispositionParam::FilenameExt(ExtendedValue {
            charset: Charset::Ext("UTF-8".to_owned()),
            language_tag: None,
            value,
        }));
    }
    ContentDisposition { disposition: DispositionType::Attachment, parameters }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible, rc::Rc};

    use actix_web::{
        body::{BodySize, MessageBody as _},
        test::TestRequest,
    };

    use super::*;

    #[test]
    fn whoever_asks_for_the_head_alone_has_nothing_read() {
        let (name, mime, modified) = ("a".to_owned(), "text/plain".to_owned(), UNIX_EPOCH);
        let file = File { name, mime, size: 7, sha256: "5f".to_owned(), modified };
        for (method, is_read) in [(Method::GET, true), (Method::HEAD, false)] {
            let (request, asked) = (TestRequest::default().method(method).to_http_request(), Rc::new(Cell::new(false)));
            let seen = Rc::clone(&asked);
            let answer = file.answer(&request, move |_| {
                asked.set(true);
                stream::empty::<Result<Bytes, Infallible>>()
            });
            let size = answer.ok().map(|answer| answer.body().size());
            assert_eq!((size, seen.get()), (Some(BodySize::Sized(7)), is_read));
        }
    }

    #[test]
    fn a_name_is_told_in_ascii_and_as_it_is() {
        for (name, expected) in [
            ("a b.txt", r#"attachment; filename="a b.txt""#),
            ("Löwe.pdf", r#"attachment; filename="L_we.pdf"; filename*=UTF-8''L%C3%B6we.pdf"#),
            ("50%.txt", r#"attachment; filename="50_.txt"; filename*=UTF-8''50%25.txt"#),
            ("a\"b;c.txt", r#"attachment; filename="a_b;c.txt"; filename*=UTF-8''a%22b%3Bc.txt"#),
            ("a\r\nX: y", "attachment; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
        ] {
            assert_eq!(disposition(name).to_string(), expected, "{name}");
        }
    }
}
