//! Requests that are wrong in their head, whatever they show.

use super::{Case, good};

pub(super) fn all() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(cookies());
    cases.extend(csrf());
    cases.extend(shapes());
    cases
}

/// Heads without a token in the right place.
fn headers() -> Vec<Case> {
    let token = good();
    let invalid = |name: &str, line: &str| Case::with(name, line.as_bytes(), 401, "authorization-invalid");
    let missing = |name: &str, line: &str| Case::with(name, line.as_bytes(), 401, "authorization-missing");
    vec![
        missing("no header", ""),
        missing("the token in the query's stead", &format!("X-Token: {token}\r\n")),
        missing("the token in a header for proxies", &format!("Proxy-Authorization: Bearer {token}\r\n")),
        missing("who the proxy says it is", "X-Forwarded-User: ada\r\nX-Remote-User: ada\r\nX-Tenant-Id: acme\r\n"),
        missing("an address of this machine", "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n"),
        missing("another path by header", "X-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz\r\n"),
        invalid("an empty header", "Authorization:\r\n"),
        invalid("a header of blanks", "Authorization:    \r\n"),
        invalid("the scheme alone", "Authorization: Bearer\r\n"),
        invalid("the scheme and blanks", "Authorization: Bearer   \r\n"),
        invalid("the token alone", &format!("Authorization: {token}\r\n")),
        invalid("basic", "Authorization: Basic YWRtaW46YWRtaW4=\r\n"),
        invalid("digest", "Authorization: Digest username=\"admin\"\r\n"),
        invalid("negotiate", "Authorization: Negotiate YII=\r\n"),
        invalid("another scheme with the token", &format!("Authorization: Token {token}\r\n")),
        invalid("the scheme twice", &format!("Authorization: Bearer Bearer {token}\r\n")),
        invalid("two tokens", &format!("Authorization: Bearer {token} {token}\r\n")),
        invalid("two tokens with a comma", &format!("Authorization: Bearer {token}, Bearer {token}\r\n")),
        invalid("the header twice", &format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n")),
        invalid(
            "the header twice, a bad one first",
            &format!("Authorization: Bearer x\r\nauthorization: Bearer {token}\r\n"),
        ),
        invalid("a tab for the blank", &format!("Authorization: Bearer\t{token}\r\n")),
        invalid("quotes", &format!("Authorization: \"Bearer {token}\"\r\n")),
        Case::with(
            "a token in quotes",
            format!("Authorization: Bearer \"{token}\"\r\n").as_bytes(),
            401,
            "token-header-invalid",
        ),
        Case::with(
            "letters that look alike",
            "Authorization: B\u{435}arer x\r\n".as_bytes(),
            401,
            "authorization-invalid",
        ),
        Case::with("a byte that is no text", b"Authorization: Bearer \xff\r\n", 401, "authorization-invalid"),
    ]
}

/// Cookies.
fn cookies() -> Vec<Case> {
    let token = good();
    let missing = |name: &str, line: &str| Case::with(name, line.as_bytes(), 401, "authorization-missing");
    vec![
        missing("a cookie of another name", &format!("Cookie: token={token}\r\n")),
        missing("a cookie in capitals", &format!("Cookie: JWT={token}\r\n")),
        missing("an empty cookie", "Cookie: jwt=\r\n"),
        missing("a cookie without a value", "Cookie: jwt\r\n"),
        Case::with(
            "a planted cookie beside the own",
            format!("Cookie: jwt={token}; jwt={token}\r\n").as_bytes(),
            401,
            "token-invalid",
        ),
        Case::with(
            "a planted cookie in a second header",
            format!("Cookie: jwt=x\r\nCookie: jwt={token}\r\n").as_bytes(),
            401,
            "token-invalid",
        ),
        Case::with("rubbish in a cookie", b"Cookie: jwt=rubbish\r\n", 401, "token-header-invalid"),
        Case::with(
            "a good cookie behind a bad header",
            format!("Authorization: Bearer x\r\nCookie: jwt={token}\r\n").as_bytes(),
            401,
            "token-header-invalid",
        ),
        Case::with(
            "a cookie from another site's page",
            format!("Cookie: jwt={token}\r\nOrigin: https://evil.example\r\n").as_bytes(),
            403,
            "origin-not-allowed",
        ),
        Case::with(
            "a cookie from nowhere",
            format!("Cookie: jwt={token}\r\nOrigin: null\r\n").as_bytes(),
            403,
            "origin-not-allowed",
        ),
        Case::with(
            "a cookie from another port",
            format!("Cookie: jwt={token}\r\nOrigin: http://127.0.0.1:1\r\n").as_bytes(),
            403,
            "origin-not-allowed",
        ),
        Case::with(
            "a cookie that another site made the browser send",
            format!("Cookie: jwt={token}\r\nSec-Fetch-Site: cross-site\r\n").as_bytes(),
            403,
            "origin-not-allowed",
        ),
    ]
}

/// What a page of another site can make a browser send, or plant in it, to change something.
fn csrf() -> Vec<Case> {
    let token = good();
    let forged = "AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let refused = |name: &str, start: &str, cookie: &str, lines: &str| {
        let request = format!(
            "{start} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nCookie: jwt={token}{cookie}\r\n{lines}\
             Content-Type: application/json\r\nContent-Length: 17\r\n\r\n{{\"message\":\"tea\"}}"
        );
        Case::raw(name, request.as_bytes(), 403, "csrf-token-invalid")
    };
    let message = "POST /v1/session/message";
    let planted = format!("; csrf_token={forged}");
    let shown = format!("X-CSRF-Token: {forged}\r\n");
    vec![
        refused("a cookie alone", message, "", ""),
        refused("a cookie and a token in the header alone", message, "", &shown),
        refused("a cookie and a token in the cookie alone", message, &planted, ""),
        refused("a planted token that is shown", message, &planted, &shown),
        refused("a planted word that is shown", message, "; csrf_token=x", "X-CSRF-Token: x\r\n"),
        refused("two empty tokens", message, "; csrf_token=", "X-CSRF-Token:\r\n"),
        refused("two planted tokens", message, &format!("{planted}{planted}"), &shown),
        refused("a token that is shown twice", message, &planted, &format!("{shown}{shown}")),
        refused(
            "a token of another name",
            message,
            &format!("; XSRF-TOKEN={forged}"),
            &format!("X-XSRF-TOKEN: {forged}\r\n"),
        ),
        refused("a token in the query", &format!("{message}?csrf_token={forged}"), &planted, ""),
        refused("another method by header beside a cookie", message, "", "X-HTTP-Method-Override: GET\r\n"),
        refused("a deletion by a cookie alone", "DELETE /v1/sessions/0190a3f0-0000-7000-8000-000000000001", "", ""),
    ]
}

/// Methods, paths and frames that one reader takes for another's.
fn shapes() -> Vec<Case> {
    let raw = |name: &str, start: &str, rest: &str, status, code| {
        let request = format!("{start} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{rest}\r\n");
        Case::raw(name, request.as_bytes(), status, code)
    };
    let nobody = |name: &str, start: &str, rest: &str| raw(name, start, rest, 401, "authorization-missing");
    vec![
        raw("the head of a list", "HEAD /v1/sessions", "", 401, ""),
        nobody("a list with a query", "GET /v1/sessions?access_token=x", ""),
        nobody(
            "another method by header",
            "GET /v1/sessions",
            "X-HTTP-Method-Override: OPTIONS\r\nX-HTTP-Method: TRACE\r\n",
        ),
        nobody("an escaped letter", "GET /v1/%73essions", ""),
        nobody("an escaped letter of what asks for no tenant", "GET /v1/admin/%61ctors", ""),
        nobody("an escaped letter of the configuration", "GET /v1/runtime%2Dconfig", ""),
        nobody("the whole address", "GET http://127.0.0.1/v1/sessions", ""),
        raw("two slashes", "GET //v1/sessions", "", 404, "not-found"),
        raw("two slashes inside", "GET /v1//sessions", "", 404, "not-found"),
        raw("a slash behind", "GET /v1/sessions/", "", 404, "not-found"),
        raw("capitals", "GET /V1/SESSIONS", "", 404, "not-found"),
        raw("a parameter of the path", "GET /v1/sessions;jwt=x", "", 404, "not-found"),
        raw("up from what is everybody's", "GET /healthz/../v1/sessions", "", 404, "not-found"),
        raw("up from what is everybody's, escaped", "GET /healthz/%2e%2e/v1/sessions", "", 404, "not-found"),
        raw("an escaped slash", "GET /v1%2fsessions", "", 404, "not-found"),
        raw("an escaped end of text", "GET /v1/sessions%00", "", 404, "not-found"),
        raw("an unknown method", "BREW /v1/sessions", "", 405, "method-not-allowed"),
        raw("trace", "TRACE /v1/sessions", "", 405, "method-not-allowed"),
        raw("a method in small letters", "get /v1/sessions", "", 405, "method-not-allowed"),
        raw("a tunnel", "CONNECT /v1/sessions", "", 405, "method-not-allowed"),
        raw("two lengths", "POST /v1/session/message", "Content-Length: 2\r\nContent-Length: 3\r\n", 400, ""),
        raw("a length that is none", "POST /v1/session/message", "Content-Length: +2\r\n", 400, ""),
        raw("a negative length", "POST /v1/session/message", "Content-Length: -1\r\n", 400, ""),
        raw(
            "a length and pieces",
            "POST /v1/session/message",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            400,
            "",
        ),
        raw("pieces in another word", "POST /v1/session/message", "Transfer-Encoding: xchunked\r\n", 400, ""),
        raw("a blank before the colon", "GET /v1/sessions", "Authorization : Bearer x\r\n", 400, ""),
        raw("a header over two lines", "GET /v1/sessions", "Authorization: Bearer\r\n x\r\n", 400, ""),
        raw("a header without a name", "GET /v1/sessions", ": x\r\n", 400, ""),
        Case::raw("no host", b"GET /v1/sessions HTTP/1.1\r\nConnection: close\r\n\r\n", 400, ""),
        Case::raw("no protocol", b"GET /v1/sessions\r\n\r\n", 400, ""),
    ]
}
