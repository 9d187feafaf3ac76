//! What a client that may have a file already, or a part of it, is to be answered (RFC 9110 §13 and §14).

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::{
        Method,
        header::{
            EntityTag, Header, HttpDate, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
            IfMatch, IfModifiedSince, IfNoneMatch, IfRange, IfUnmodifiedSince, RANGE, Range,
        },
    },
};

use super::ranges::{self, Part, Wish};

/// What tells one version of a file from another.
#[derive(Clone, Debug)]
pub(crate) struct Validators {
    /// Strong: the same tag means the same bytes.
    pub(crate) etag: EntityTag,
    /// In whole seconds, as HTTP writes dates.
    pub(crate) modified: HttpDate,
}

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it.
    Whole,
    /// Parts of it, one at least, in the order of the wish.
    Parts(Vec<Part>),
    /// That the client has it.
    NotModified,
    /// That it is not what the client thinks.
    Failed,
    /// That no wished part is in it.
    Unsatisfiable,
}

/// Judges the conditions of `request` about a file of `size` bytes, in the order of §13.2.2. A header that cannot be read is as good as
/// none, but for `If-Match`, where that would let through what was to be held back.
pub(super) fn judge(request: &HttpRequest, file: &Validators, size: u64) -> Answer {
    let has = |name| request.headers().contains_key(name);
    if has(IF_MATCH) {
        let matches = match read::<IfMatch>(request) {
            Some(IfMatch::Any) => true,
            Some(IfMatch::Items(tags)) => tags.iter().any(|tag| tag.strong_eq(&file.etag)),
            None => false,
        };
        if !matches {
            return Answer::Failed;
        }
    } else if has(IF_UNMODIFIED_SINCE)
        && read::<IfUnmodifiedSince>(request).is_some_and(|IfUnmodifiedSince(since)| file.modified > since)
    {
        return Answer::Failed;
    }
    if has(IF_NONE_MATCH) {
        let has_it = match read::<IfNoneMatch>(request) {
            Some(IfNoneMatch::Any) => true,
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&file.etag)),
            None => false,
        };
        if has_it {
            return Answer::NotModified;
        }
    } else if has(IF_MODIFIED_SINCE)
        && read::<IfModifiedSince>(request).is_some_and(|IfModifiedSince(since)| file.modified <= since)
    {
        return Answer::NotModified;
    }
    // Ranges are of `GET` alone (§14.2).
    if request.method() != Method::GET || !has(RANGE) || !is_for_this(request, file) {
        return Answer::Whole;
    }
    let Some(Range::Bytes(wished)) = read::<Range>(request) else { return Answer::Whole };
    match ranges::wish(&wished, size) {
        Wish::Whole => Answer::Whole,
        Wish::Nothing => Answer::Unsatisfiable,
        Wish::Parts(parts) => Answer::Parts(parts),
    }
}

/// Whether the wish for parts is about this version (§13.1.5). A date is too coarse to be sure, unless it is the very one.
fn is_for_this(request: &HttpRequest, file: &Validators) -> bool {
    if !request.headers().contains_key(IF_RANGE) {
        return true;
    }
    match read::<IfRange>(request) {
        Some(IfRange::EntityTag(tag)) => tag.strong_eq(&file.etag),
        Some(IfRange::Date(date)) => date == file.modified,
        None => false,
    }
}

fn read<H: Header>(request: &HttpRequest) -> Option<H> {
    request.get_header::<H>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::time::{Duration, UNIX_EPOCH};

    use actix_web::test::TestRequest;

    use super::*;

    const DAY: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
    const BEFORE: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
    const AFTER: &str = "Sun, 09 Sep 2001 01:46:41 GMT";

    fn answer(method: Method, headers: &[(&'static str, &str)]) -> Answer {
        let file = Validators {
            etag: EntityTag::new_strong("abc".to_owned()),
            modified: (UNIX_EPOCH + Duration::from_secs(1_000_000_000)).into(),
        };
        let mut request = TestRequest::default().method(method);
        for header in headers {
            request = request.append_header(*header);
        }
        judge(&request.to_http_request(), &file, 100)
    }

    #[test]
    fn conditions_are_judged_in_their_order() {
        let part = || Answer::Parts(vec![Part { from: 0, length: 10 }]);
        let range = ("range", "bytes=0-9");
        for (headers, expected) in [
            (vec![], Answer::Whole),
            (vec![("if-match", "\"abc\"")], Answer::Whole),
            (vec![("if-match", "*")], Answer::Whole),
            (vec![("if-match", "\"x\", \"abc\"")], Answer::Whole),
            (vec![("if-match", "\"x\"")], Answer::Failed),
            (vec![("if-match", "W/\"abc\"")], Answer::Failed),
            (vec![("if-match", "rubbish")], Answer::Failed),
            (vec![("if-match", "\"abc\""), ("if-unmodified-since", BEFORE)], Answer::Whole),
            (vec![("if-unmodified-since", BEFORE)], Answer::Failed),
            (vec![("if-unmodified-since", DAY)], Answer::Whole),
            (vec![("if-unmodified-since", "yesterday")], Answer::Whole),
            (vec![("if-none-match", "\"abc\"")], Answer::NotModified),
            (vec![("if-none-match", "W/\"abc\"")], Answer::NotModified),
            (vec![("if-none-match", "*")], Answer::NotModified),
            (vec![("if-none-match", "\"x\"")], Answer::Whole),
            (vec![("if-none-match", "\"x\""), ("if-modified-since", AFTER)], Answer::Whole),
            (vec![("if-modified-since", DAY)], Answer::NotModified),
            (vec![("if-modified-since", BEFORE)], Answer::Whole),
            (vec![("if-match", "\"x\""), ("if-none-match", "\"abc\"")], Answer::Failed),
            (vec![range], part()),
            (vec![range, ("if-range", "\"abc\"")], part()),
            (vec![range, ("if-range", DAY)], part()),
            (vec![range, ("if-range", "\"x\"")], Answer::Whole),
            (vec![range, ("if-range", "W/\"abc\"")], Answer::Whole),
            (vec![range, ("if-range", AFTER)], Answer::Whole),
            (vec![range, ("if-range", "rubbish")], Answer::Whole),
            (vec![range, ("if-none-match", "\"abc\"")], Answer::NotModified),
            (vec![("range", "bytes=100-")], Answer::Unsatisfiable),
            (vec![("range", "lines=1-2")], Answer::Whole),
            (vec![("range", "bytes")], Answer::Whole),
            (vec![("range", "bytes=")], Answer::Whole),
            (vec![("range", "bytes=9-0")], Answer::Whole),
        ] {
            assert_eq!(answer(Method::GET, &headers), expected, "{headers:?}");
        }
        assert_eq!(answer(Method::HEAD, &[range]), Answer::Whole, "ranges are of GET alone");
        assert_eq!(answer(Method::HEAD, &[("if-none-match", "\"abc\"")]), Answer::NotModified);
    }
}
