//! What proving who somebody is, by a token or an API key, counting what they ask, and deciding what they may do add to a
//! request that costs little itself.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use somaagent_test_services::client::Client;
use somaagent_test_services::process::{Binary, Running};
use somaagent_test_services::tokens::{SECRET, Signer, ec_signer, ed_signer, rsa_signer};

use crate::binary::Subject;
use crate::clock;
use crate::measure::Samples;
use crate::report::{Budget, Figure, Report};
use crate::wire::Wire;

/// What is asked: it touches no database and no actor.
const PATH: &str = "/v1/runtime-config";

/// With a candidate of the policy, which nobody needs: it is measured against no bound.
const WATCHED: &str = "HS256 beside a candidate";

/// The shipped policy, as a candidate beside itself.
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/policy");

/// One thread serves each server, so that no kind has a thread that is more awake than another's.
const ONE_THREAD: (&str, &str) = ("SA01_HTTP__WORKERS", "1");

/// Requests of each kind before anything is measured.
const WARM_UP: usize = 500;

/// Every request is counted, and none refused.
const LIMIT: [(&str, &str); 3] = [
    ("GATEWAY_RATE_LIMIT_ENABLED", "true"),
    ("GATEWAY_RATE_LIMIT_RPS", "1000000"),
    ("GATEWAY_RATE_LIMIT_BURST", "1000000"),
];

/// Microseconds that a request may take longer, in the middle: with a token, and with an API key that was used before.
const TOKEN_ADDS_US: f64 = 30.0;
const KEY_ADDS_US: f64 = 10.0;

/// Seconds since 1970 at which the tokens end: the year 2100.
const END: u64 = 4_102_444_800;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Requests of each kind, in turn
    #[arg(long, default_value_t = Self::FULL.asks)]
    asks: usize,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { asks: 20_000 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { asks: 1_000 };
}

/// Requests of one kind: to a server that knows who asks, or to one that asks nobody.
struct Kind {
    name: &'static str,
    wire: Wire,
    request: Vec<u8>,
    samples: Samples,
    /// Microseconds that it may take longer, in the middle, if there is a bound.
    may_add_us: Option<f64>,
}

impl Kind {
    async fn new(name: &'static str, server: &Running, token: Option<String>) -> Result<Self> {
        let port = server.port();
        let shown = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{shown}\r\n").into_bytes();
        let (wire, samples) = (Wire::connect(port).await?, Samples::default());
        Ok(Self { name, wire, request, samples, may_add_us: Some(TOKEN_ADDS_US) })
    }

    async fn ask(&mut self, counts: bool) -> Result<()> {
        let began = clock::now();
        self.wire.expect_ok(&self.request).await?;
        let end = clock::now();
        if counts {
            self.samples.push(1_000.0 * clock::millis_between(began, end));
        }
        Ok(())
    }
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let start = async |settings: &[(&str, &str)]| {
        let set = |binary: Binary, (name, value): &(&str, &str)| binary.set(name, value);
        settings.iter().fold(subject.alone()?.set(ONE_THREAD.0, ONE_THREAD.1), set).start().await
    };
    let issuers = issuers();
    let secret = ("GATEWAY_JWT_SECRET", SECRET);
    let mut open = start(&[]).await?;
    let mut guarded = start(&[&LIMIT[..], &[secret, ("SA01_AUTH__ISSUERS", &issuers)]].concat()).await?;
    let mut watched = start(&[&LIMIT[..], &[secret, ("SA01_POLICY_SHADOW_DIR", POLICY)]].concat()).await?;
    let token = Signer::secret(SECRET).sign(&claims(""));
    let mut kinds = vec![Kind::new("HS256", &guarded, Some(token.clone())).await?];
    for (name, signer) in signers() {
        kinds.push(Kind::new(name, &guarded, Some(signer.sign(&claims(name)))).await?);
    }
    let key = Kind::new("API key", &guarded, Some(api_key(&guarded).await?)).await?;
    kinds.push(Kind { may_add_us: Some(KEY_ADDS_US), ..key });
    let mut report = Report::new("auth");
    compare(&mut report, &open, kinds, options.asks).await?;
    guarded.terminate().await?;
    // Apart, so that each of a server's kinds comes as long after the one before it; and connected no sooner, because a
    // connection that asks nothing is closed.
    let candidate = Kind { may_add_us: None, ..Kind::new(WATCHED, &watched, Some(token)).await? };
    compare(&mut report, &open, vec![candidate], options.asks).await?;
    watched.terminate().await?;
    open.terminate().await?;
    report.note(format!("{} requests of each kind for {PATH}, in turn, by one client", options.asks));
    report.note("reference: the same request to a server that asks nobody who they are; both decide by the policy, only the other counts");
    Ok(report)
}

/// Measures these kinds beside the reference.
async fn compare(report: &mut Report, open: &Running, mut kinds: Vec<Kind>, asks: usize) -> Result<()> {
    let mut reference = Kind::new("nobody is asked", open, None).await?;
    alternate(&mut reference, &mut kinds, asks).await?;
    tell(report, &reference, &kinds);
    Ok(())
}

/// Asks each kind as often, in turn, and the reference as often as all of them together: a server that is asked less is slower.
async fn alternate(reference: &mut Kind, kinds: &mut [Kind], asks: usize) -> Result<()> {
    for n in 0..WARM_UP + asks {
        for kind in &mut *kinds {
            reference.ask(n >= WARM_UP).await?;
            kind.ask(n >= WARM_UP).await?;
        }
    }
    Ok(())
}

fn tell(report: &mut Report, reference: &Kind, kinds: &[Kind]) {
    for percent in [50, 99] {
        for kind in kinds {
            let figure = Figure::new(format!("{} p{percent}", kind.name), kind.samples.percentile(percent), "µs")
                .against(reference.samples.percentile(percent));
            report.add(match kind.may_add_us.filter(|_| percent == 50) {
                Some(bound) => figure.within(Budget::AddsAtMost(bound)),
                None => figure,
            });
        }
    }
}

/// A key that may what the tokens may.
async fn api_key(server: &Running) -> Result<String> {
    let mut maker = claims("");
    maker["scope"] = json!("admin chat");
    let client = Client::new(server.url())?.showing(&Signer::secret(SECRET).sign(&maker))?;
    let made = client.post("/v1/keys", &json!({"label": "bench", "scopes": ["chat"]})).await?.json();
    Ok(made["secret"].as_str().context("no key was made")?.to_owned())
}

/// Signers by public keys, each named as its issuer.
fn signers() -> [(&'static str, &'static Signer); 3] {
    [("RS256", rsa_signer()), ("ES256", ec_signer()), ("EdDSA", ed_signer())]
}

fn issuers() -> String {
    let table = |(name, signer): (&str, &Signer)| {
        let key = json!(signer.public_pem);
        format!(r#"{{issuer = "{name}", public_key = {key}, algorithms = "{name}", tenants = "{name}"}}"#)
    };
    format!("[{}]", signers().map(table).join(", "))
}

/// Each issuer speaks for a tenant of its name; the secret's has no name.
fn claims(issuer: &str) -> Value {
    let mut claims = json!({"sub": "ada", "tenant": "acme", "scope": "chat", "exp": END});
    if !issuer.is_empty() {
        claims["iss"] = json!(issuer);
        claims["tenant"] = json!(issuer);
    }
    claims
}
