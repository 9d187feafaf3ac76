//! What the client of the memory service adds to a bare request. The one bench that runs a part of the system in this process:
//! from outside its time cannot be told from that of a turn.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use prometheus::Registry;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use somaagent_actors::domain::ids::Tenant;
use somaagent_actors::domain::memory::MemorySpace;
use somaagent_actors::somabrain::messages::{Asker, Recall};
use somaagent_actors::somabrain::{BrainClient, BrainDeps, BrainMetrics, BrainSettings};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorSpec, Tree};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock;
use crate::measure::Samples;
use crate::report::{Budget, Figure, Report};
use crate::wire::Head;

/// What the server answers to everything: it is well, and this is what it remembers.
const ANSWER: &str =
    r#"{"ok":true,"results":[{"content":"the apple tree behind the house","score":0.9,"layer":"ltm"}],"wm_hits":0}"#;

/// What is looked for.
const QUERY: &str = "What did I say about the apple tree?";

/// Asks of each kind before anything is measured.
const WARM_UP: usize = 200;

/// Far longer than an ask takes.
const SOON: Duration = Duration::from_mins(1);

/// Milliseconds that the client may add, in the middle.
const ADDED_MS: f64 = 0.1;

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

/// Measures.
pub async fn run(options: &Options) -> Result<Report> {
    LocalSet::new().run_until(measure(options)).await
}

async fn measure(options: &Options) -> Result<Report> {
    let url = serve()?;
    let tree = Tree::new(&Registry::new())?;
    let supervisor = tree.root(SupervisorSpec::new("somabrain", Strategy::OneForOne));
    let settings = BrainSettings { base_url: url.clone(), ..BrainSettings::default() };
    let deps = BrainDeps::new(&settings, BrainMetrics::new(&Registry::new())?)?;
    let seat = supervisor.seat::<BrainClient>(Restart::Permanent);
    let port = seat.port("recall", 64);
    seat.start(move || BrainClient::new(deps)).await?;
    let (bare, tenant) = (Client::builder().build()?, Tenant::new("public").context("no tenant")?);
    let (mut ours, mut direct) = (Samples::default(), Samples::default());
    for n in 0..WARM_UP + options.asks {
        let began = clock::now();
        ask(&port, &tenant).await?;
        let between = clock::now();
        request(&bare, &url).await?;
        let end = clock::now();
        if n >= WARM_UP {
            ours.between(began, between);
            direct.between(between, end);
        }
    }
    let mut report = Report::new("brain");
    for percent in [50, 99] {
        let figure = Figure::new(format!("recall p{percent}"), ours.percentile(percent), "ms");
        let figure = figure.against(direct.percentile(percent));
        report.add(if percent == 50 { figure.within(Budget::AddsAtMost(ADDED_MS)) } else { figure });
    }
    report.note(format!("{} recalls of one asker, every other one a bare request", options.asks));
    report.note("reference: the same request by the same HTTP library, without actor, breaker, budget and typed reply");
    Ok(report)
}

async fn ask(port: &Port<Recall>, tenant: &Tenant) -> Result<()> {
    let make = |reply| Recall {
        query: QUERY.into(),
        asker: Asker {
            tenant: tenant.clone(),
            correlation_id: Uuid::nil(),
            trace: None,
            deadline: Instant::now() + SOON,
        },
        space: MemorySpace { universe: None, namespace: "wm".into() },
        top_k: 8,
        session_id: Uuid::nil(),
        reply,
    };
    let recalled = port.call(make, SOON).await.map_err(|error| anyhow!("{error}"))??;
    ensure!(recalled.memories.len() == 1, "something else was recalled");
    Ok(())
}

async fn request(client: &Client, url: &str) -> Result<()> {
    let body = format!(r#"{{"query":"{QUERY}","top_k":8,"namespace":"wm","tenant":"public"}}"#);
    let request = client.post(format!("{url}/memory/recall")).header(CONTENT_TYPE, "application/json");
    let request = request.header("X-Tenant-ID", "public").header("X-Request-ID", Uuid::nil().to_string());
    let answer = request.body(body).send().await?.error_for_status()?.bytes().await?;
    ensure!(answer.len() == ANSWER.len(), "the server answered something else");
    Ok(())
}

/// Starts a server that gives everybody the same answer at once, on a thread of its own, which ends with this process.
fn serve() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}", listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("brain".into()).spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                tokio::spawn(answer(socket));
            }
            #[expect(unreachable_code, reason = "names the type of the errors above")]
            anyhow::Ok(())
        })
    })?;
    Ok(url)
}

async fn answer(mut socket: TcpStream) -> Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut read = Vec::new();
    loop {
        ensure!(socket.read_buf(&mut read).await? > 0, "the client hung up");
        while let Some(head) = Head::of(&read)? {
            let end = head.body + head.length.unwrap_or_default();
            if read.len() < end {
                break;
            }
            read.drain(..end);
            socket.write_all(answer.as_bytes()).await.context("the client hung up")?;
        }
    }
}
