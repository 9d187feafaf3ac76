//! Tokens that prove nothing.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use somaagent_test_services::tokens::{SECRET, Signer, ec_signer, ed_signer, other_rsa_signer, rsa_signer};

use super::{AUDIENCE, Case, EC_ISSUER, ED_ISSUER, RSA_ISSUER, claims, claims_of, good, now, with};

const INVALID: (u16, &str) = (401, "token-invalid");
const UNREADABLE: (u16, &str) = (401, "token-header-invalid");
const NOBODY: (u16, &str) = (401, "identity-missing");

pub(super) fn all() -> Vec<Case> {
    [shapes(), heads(), confusions(), times(), audiences(), identities()].into_iter().flatten().collect()
}

fn case(name: impl AsRef<str>, token: &str, (status, code): (u16, &'static str)) -> Case {
    Case::token(name.as_ref(), token, status, code)
}

fn hs() -> Signer {
    Signer::secret(SECRET)
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// What is no token, or one in pieces.
fn shapes() -> Vec<Case> {
    let token = good();
    let parts: Vec<&str> = token.split('.').collect();
    let (head, body, signature) = (parts[0], parts[1], parts[2]);
    let flipped = |part: &str, at: usize| {
        let mut bytes = part.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let other = encoded(with(&claims(), &json!({"sub": "eve"})).to_string());
    let huge = hs().sign(&with(&claims(), &json!({"padding": "x".repeat(9_000)})));
    vec![
        case("one part", head, UNREADABLE),
        case("two parts", &format!("{head}.{body}"), UNREADABLE),
        case("four parts", &format!("{token}.{signature}"), UNREADABLE),
        case("five parts, as if encrypted", &format!("{head}.{body}.{signature}.a.b"), UNREADABLE),
        case("dots", "..", UNREADABLE),
        case("four dots", "....", UNREADABLE),
        case("no head", &format!(".{body}.{signature}"), UNREADABLE),
        case("no claims", &format!("{head}..{signature}"), INVALID),
        case("no signature", &format!("{head}.{body}."), INVALID),
        case("a signature of one byte", &format!("{head}.{body}.AA"), INVALID),
        case("half a signature", &format!("{head}.{body}.{}", &signature[..20]), INVALID),
        case("a signature and a half", &format!("{token}AAAA"), INVALID),
        case("another first byte of the signature", &format!("{head}.{body}.{}", flipped(signature, 0)), INVALID),
        case("other claims under the signature", &format!("{head}.{other}.{signature}"), INVALID),
        case("another byte in the claims", &format!("{head}.{}.{signature}", flipped(body, 4)), INVALID),
        case("another byte in the head", &format!("{}.{body}.{signature}", flipped(head, 0)), UNREADABLE),
        case("parts in another order", &format!("{body}.{head}.{signature}"), UNREADABLE),
        case(
            "the signature of another token",
            &format!("{head}.{body}.{}", hs().sign(&json!({})).rsplit('.').next().unwrap()),
            INVALID,
        ),
        case("padding behind the signature", &format!("{token}="), INVALID),
        case("padding behind the head", &format!("{head}=.{body}.{signature}"), UNREADABLE),
        case("padding behind the claims", &format!("{head}.{body}=.{signature}"), INVALID),
        case(
            "the alphabet of plain base64",
            &format!("{head}.{}.{signature}", STANDARD.encode(b"\xfb\xff\xfe{}")),
            INVALID,
        ),
        case(
            "the head with padding",
            &format!("{}.{body}.{signature}", URL_SAFE.encode(br#"{"alg":"HS256"} "#)),
            UNREADABLE,
        ),
        case("a head that is no base64", &format!("%7B%7D.{body}.{signature}"), UNREADABLE),
        case("claims that are no base64", &format!("{head}.!!.{signature}"), INVALID),
        case("a head in plain text", &format!(r#"{{"alg":"HS256"}}.{body}.{signature}"#), UNREADABLE),
        case(
            "bits left over in the head",
            &format!("{}B.{body}.{signature}", encoded(br#"{"alg":"HS256"} "#).trim_end_matches('A')),
            UNREADABLE,
        ),
        case("longer than is looked at", &huge, INVALID),
        case("a kilobyte of rubbish", &"a".repeat(1_000), UNREADABLE),
        case("a kilobyte of dots", &".".repeat(1_000), UNREADABLE),
        case("null", "null", UNREADABLE),
        case("undefined", "undefined", UNREADABLE),
        case("an object", "[object", UNREADABLE),
        case("a path", "../../../../etc/passwd", UNREADABLE),
        case("a query", "'--", UNREADABLE),
        case("a key for programs that nobody has", "sk_1_abcdef", (401, "api-key-invalid")),
    ]
}

/// Heads that ask for what is not done.
fn heads() -> Vec<Case> {
    let body = claims().to_string();
    let signed = |head: &str| hs().sign_raw(head.as_bytes(), body.as_bytes());
    let mut cases = Vec::new();
    for algorithm in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        " none",
        "none ",
        "hs256",
        "HS1",
        "HS256\\u0000",
        "HS25\\u0036 ",
        "MD5",
        "RS1",
        "dir",
        "A128KW",
        "ES256K",
        "null",
    ] {
        let head = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
        cases.push(case(format!("signed as {algorithm:?}"), &signed(&head), INVALID));
        cases.push(case(
            format!("unsigned as {algorithm:?}"),
            &format!("{}.{}.", encoded(&head), encoded(&body)),
            INVALID,
        ));
    }
    for (head, answer) in [
        (r#"{"alg":null}"#, UNREADABLE),
        (r#"{"alg":256}"#, UNREADABLE),
        (r#"{"alg":["HS256"]}"#, UNREADABLE),
        (r#"{"alg":{"name":"HS256"}}"#, UNREADABLE),
        (r#"{"typ":"JWT"}"#, UNREADABLE),
        (r#"{"ALG":"HS256"}"#, UNREADABLE),
        ("{}", UNREADABLE),
        ("[]", UNREADABLE),
        ("null", UNREADABLE),
        (r#""HS256""#, UNREADABLE),
        ("", UNREADABLE),
        (r#"{"alg":"HS256""#, UNREADABLE),
        (r#"{"alg":"HS256"}{}"#, UNREADABLE),
        (r#"{"alg":"HS256","alg":"HS256"}"#, UNREADABLE),
        (r#"{"alg":"none","alg":"HS256"}"#, UNREADABLE),
        (r#"{"alg":"HS256","\u0061lg":"none"}"#, UNREADABLE),
        (r#"{"alg":"HS256","kid":"a","kid":"b"}"#, UNREADABLE),
        (r#"{"alg":"HS384"}"#, INVALID),
        (r#"{"alg":"HS512"}"#, INVALID),
        (r#"{"alg":"PS256"}"#, INVALID),
        (r#"{"alg":"HS256","crit":["exp"]}"#, INVALID),
        (r#"{"alg":"HS256","crit":[]}"#, INVALID),
        (r#"{"alg":"HS256","crit":null}"#, INVALID),
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, INVALID),
        (r#"{"alg":"HS256","b64":true}"#, INVALID),
        (r#"{"alg":"HS256","zip":"DEF"}"#, INVALID),
        (r#"{"alg":"HS256","enc":"A128GCM"}"#, INVALID),
        (r#"{"alg":"HS256","typ":"logout+jwt"}"#, INVALID),
        (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, INVALID),
        (r#"{"alg":"HS256","typ":"secevent+jwt"}"#, INVALID),
        (r#"{"alg":"HS256","typ":"JWE"}"#, INVALID),
        (r#"{"alg":"HS256","typ":""}"#, INVALID),
        (r#"{"alg":"HS256","typ":7}"#, INVALID),
        (r#"{"alg":"HS256","typ":null}"#, INVALID),
        (r#"{"alg":"HS256","kid":7}"#, INVALID),
        (r#"{"alg":"HS256","kid":null}"#, INVALID),
        (r#"{"alg":"HS256","kid":["a"]}"#, INVALID),
        (r#"{"alg":"HS256","kid":{"$ne":null}}"#, INVALID),
    ] {
        cases.push(case(format!("head {head}"), &signed(head), answer));
    }
    cases.push(case(
        "a key's name of many bytes",
        &signed(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(300))),
        INVALID,
    ));
    cases.push(case(
        "a head in another character set",
        &hs().sign_raw(b"{\"alg\":\"HS256\",\"x\":\"\xff\"}", body.as_bytes()),
        UNREADABLE,
    ));
    cases.push(case(
        "a head with a byte order mark",
        &hs().sign_raw(b"\xef\xbb\xbf{\"alg\":\"HS256\"}", body.as_bytes()),
        UNREADABLE,
    ));
    cases.push(case(
        "a head that is deep",
        &signed(&format!(r#"{{"alg":"HS256","x":{}{}}}"#, "[".repeat(200), "]".repeat(200))),
        UNREADABLE,
    ));
    cases
}

/// Signatures by a key of another kind, or of somebody else.
fn confusions() -> Vec<Case> {
    let (rsa, ec, ed) = (claims_of(RSA_ISSUER), claims_of(EC_ISSUER), claims_of(ED_ISSUER));
    let mut cases = Vec::new();
    for (name, pem, claims) in [
        ("rsa", &rsa_signer().public_pem, &rsa),
        ("ec", &ec_signer().public_pem, &ec),
        ("ed", &ed_signer().public_pem, &ed),
    ] {
        let forms = [
            ("as it is", pem.clone()),
            ("without its last line's end", pem.trim_end().to_owned()),
            ("on one line", pem.replace(['\n', '\r'], "")),
            ("without its frame", pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()),
        ];
        for (form, secret) in forms {
            cases.push(case(
                format!("the public key of {name}, {form}, as a secret"),
                &Signer::secret(&secret).sign(claims),
                INVALID,
            ));
        }
        cases.push(case(format!("the secret for the issuer {name}"), &hs().sign(claims), INVALID));
        cases.push(case(
            format!("no signature for the issuer {name}"),
            &format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(claims.to_string())),
            INVALID,
        ));
    }
    let jwk = other_rsa_signer().jwk("mine");
    let embedded = format!(r#"{{"alg":"RS256","jwk":{jwk}}}"#);
    let chained =
        json!({"alg": "RS256", "x5c": [STANDARD.encode(b"a certificate")], "x5u": "https://evil.example/chain"})
            .to_string();
    cases.extend([
        case("another key of RSA", &other_rsa_signer().sign(&rsa), INVALID),
        case(
            "another key of RSA that the token brings along",
            &other_rsa_signer().sign_raw(embedded.as_bytes(), rsa.to_string().as_bytes()),
            INVALID,
        ),
        case(
            "another key of RSA with a chain",
            &other_rsa_signer().sign_raw(chained.as_bytes(), rsa.to_string().as_bytes()),
            INVALID,
        ),
        case("the key of ec for the issuer rsa", &ec_signer().sign(&rsa), INVALID),
        case("the key of rsa for the issuer ec", &rsa_signer().sign(&ec), INVALID),
        case("the key of ed for the issuer ec", &ed_signer().sign(&ec), INVALID),
        case("the key of rsa for nobody", &rsa_signer().sign(&claims()), INVALID),
        case("an empty secret", &Signer::secret("").sign(&claims()), INVALID),
        case("a secret of one blank", &Signer::secret(" ").sign(&claims()), INVALID),
        case("the word secret", &Signer::secret("secret").sign(&claims()), INVALID),
        case("the secret and a line's end", &Signer::secret(&format!("{SECRET}\n")).sign(&claims()), INVALID),
    ]);
    for url in ["https://evil.example/keys", "http://127.0.0.1:1/keys", "file:///etc/passwd", "data:,{}"] {
        let head = json!({"alg": "RS256", "jku": url, "kid": "mine"}).to_string();
        cases.push(case(
            format!("keys to be fetched from {url}"),
            &other_rsa_signer().sign_raw(head.as_bytes(), rsa.to_string().as_bytes()),
            INVALID,
        ));
    }
    for kid in [
        "../../../dev/null",
        "/dev/null",
        "' OR '1'='1",
        "key; DROP TABLE turns",
        "${jndi:ldap://evil.example}",
        "\\u0000",
        "\\u202e",
        "%00",
    ] {
        let head = format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#);
        cases.push(case(
            format!("a key named {kid}"),
            &other_rsa_signer().sign_raw(head.as_bytes(), rsa.to_string().as_bytes()),
            INVALID,
        ));
    }
    // The empty file, which some take for the secret of such a key.
    let head = r#"{"alg":"HS256","kid":"../../../dev/null"}"#;
    cases.push(case(
        "the secret of an empty file",
        &Signer::secret("").sign_raw(head.as_bytes(), claims().to_string().as_bytes()),
        INVALID,
    ));
    cases
}

/// Tokens out of their time.
fn times() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("a minute ago", json!(now() - 60)),
        ("years ago", json!(1)),
        ("at the beginning of time", json!(0)),
        ("before the beginning of time", json!(-1)),
        ("long ago, with a fraction", json!(1_700_000_000.5)),
        ("as text", json!((now() + 60).to_string())),
        ("as a date", json!("2099-01-01T00:00:00Z")),
        ("never", Value::Null),
        ("true", json!(true)),
        ("in a list", json!([now() + 60])),
        ("in an object", json!({"at": now() + 60})),
        ("beyond all numbers", json!(1e300)),
        ("at a number that is none", json!("NaN")),
    ] {
        cases.push(case(format!("ends {name}"), &hs().sign(&with(&claims(), &json!({"exp": value}))), INVALID));
    }
    for (name, value) in [
        ("in a minute", json!(now() + 60)),
        ("in years", json!(now() + 99_999_999)),
        ("as text", json!("now")),
        ("beyond all numbers", json!(1e300)),
        ("before all time", json!(-1)),
    ] {
        cases.push(case(format!("begins {name}"), &hs().sign(&with(&claims(), &json!({"nbf": value}))), INVALID));
    }
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    cases.push(case("has no end", &hs().sign(&endless), INVALID));
    let far = format!(r#"{{"sub":"ada","tenant":"acme","exp":{}}}"#, "9".repeat(400));
    cases.push(case("ends beyond what can be read", &hs().sign_raw(br#"{"alg":"HS256"}"#, far.as_bytes()), INVALID));
    let twice = format!(r#"{{"sub":"ada","tenant":"acme","exp":1,"exp":{}}}"#, now() + 60);
    cases.push(case("ends twice", &hs().sign_raw(br#"{"alg":"HS256"}"#, twice.as_bytes()), INVALID));
    cases
}

/// Tokens for somebody else, or of somebody else.
fn audiences() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        json!("other"),
        json!(""),
        json!("SOMA"),
        json!("soma "),
        json!("som\u{430}"),
        json!(["other", "third"]),
        json!([]),
        json!([[AUDIENCE]]),
        json!({"soma": 1}),
        json!(7),
        Value::Null,
    ] {
        let token = rsa_signer().sign(&with(&claims_of(RSA_ISSUER), &json!({"aud": value})));
        cases.push(case(format!("for {value}"), &token, INVALID));
    }
    for value in [
        json!("https://RSA.example"),
        json!("https://rsa.example/"),
        json!("https://rsa.example.evil.example"),
        json!("https://rs\u{430}.example"),
        json!(["https://rsa.example"]),
        json!(7),
        json!(""),
    ] {
        let token = rsa_signer().sign(&with(&claims_of(RSA_ISSUER), &json!({"iss": value})));
        cases.push(case(format!("of {value}"), &token, INVALID));
    }
    cases
}

/// Tokens that are right and name nobody.
fn identities() -> Vec<Case> {
    let mut cases = Vec::new();
    // The library takes these for no claims at all.
    let deep = (0..60).fold(json!("ada"), |inner, _| json!([inner]));
    for value in [json!(["ada"]), json!({"name": "ada"}), deep] {
        let shown: String = value.to_string().chars().take(40).collect();
        cases.push(case(format!("sub is {shown}"), &hs().sign(&with(&claims(), &json!({ "sub": value }))), INVALID));
    }
    for (name, value) in [
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!("   ")),
        ("sub", json!(7)),
        ("sub", json!("a\u{0}b")),
        ("sub", json!("a\r\nX-Admin: 1")),
        ("sub", json!("x".repeat(2_000))),
        ("tenant", Value::Null),
        ("tenant", json!("")),
        ("tenant", json!(" ")),
        ("tenant", json!(7)),
        ("tenant", json!([])),
        ("tenant", json!([7])),
        ("tenant", json!({"id": "acme"})),
        ("tenant", json!("a\u{0}b")),
        ("tenant", json!("x".repeat(300))),
        ("scope", json!(7)),
        ("scope", json!({"admin": true})),
        ("scope", json!(["chat admin"])),
        ("scope", json!(["chat", 7])),
        ("scope", json!("chat\nadmin")),
    ] {
        let token = hs().sign(&with(&claims(), &json!({ name: value })));
        let shown: String = value.to_string().chars().take(40).collect();
        cases.push(case(format!("{name} is {shown}"), &token, NOBODY));
    }
    for text in [
        r#"{"sub":"ada","sub":"eve","tenant":"acme","exp":9999999999}"#,
        r#"{"sub":"ada","tenant":"acme","ten\u0061nt":"umbrella","exp":9999999999}"#,
        r#"{"sub":"ada","tenant":"acme","exp":9999999999,"x":{"a":1,"a":2}}"#,
        "[]",
        "null",
        "",
        "{",
        r#"{"sub":"ada"}{}"#,
        "\u{feff}{}",
    ] {
        cases.push(case(format!("claims {text:?}"), &hs().sign_raw(br#"{"alg":"HS256"}"#, text.as_bytes()), INVALID));
    }
    cases
}
