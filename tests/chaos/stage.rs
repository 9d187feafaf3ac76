//! Everything of one run: the servers, the doubles, the proxies between, and the roles as processes.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex as Lock};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use somaagent_test_services::brain::Brain;
use somaagent_test_services::client::Client;
use somaagent_test_services::kafka::{Detour, Kafka};
use somaagent_test_services::model::{self, Model, Script};
use somaagent_test_services::port;
use somaagent_test_services::postgres::{Ending, Postgres};
use somaagent_test_services::process::{Binary, ProcessSignal, Running};
use somaagent_test_services::proxy::Proxy;
use tokio::sync::Mutex;

use crate::evidence::{PIECES, Planted, piece};
use crate::schedule::{Line, Seat};

/// Pause between two pieces of an answer, so that faults find turns under way.
const BETWEEN_PIECES: Duration = Duration::from_millis(12);

/// The servers, which stay from run to run.
pub struct Ground {
    postgres: Arc<Postgres>,
    kafka: Arc<Kafka>,
    /// Between the processes and the broker, which calls itself by this proxy's name.
    log: Arc<Proxy>,
    /// One ending at a time.
    ending: [Mutex<()>; 2],
}

impl Ground {
    /// Starts the servers.
    pub async fn new() -> Result<Self> {
        let listens = port::free();
        let log = Proxy::start((Ipv4Addr::LOCALHOST, listens).into()).await?;
        let detour = Detour { listens, told: log.port() };
        let start = move || anyhow::Ok((Postgres::start()?, Kafka::start_behind(detour)?));
        let (postgres, kafka) = tokio::task::spawn_blocking(start).await??;
        Ok(Self {
            postgres: Arc::new(postgres),
            kafka: Arc::new(kafka),
            log: Arc::new(log),
            ending: Default::default(),
        })
    }

    /// The broker, past the proxy.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Ends PostgreSQL at once and starts it again after a while.
    pub async fn crash_postgres(&self, rest: Duration) -> Result<()> {
        let _alone = self.ending[0].lock().await;
        let postgres = self.postgres.clone();
        tokio::task::spawn_blocking(move || postgres.end(Ending::Crash)).await??;
        tokio::time::sleep(rest).await;
        let postgres = self.postgres.clone();
        tokio::task::spawn_blocking(move || postgres.restart()).await?
    }

    /// Kills the broker and starts it again after a while.
    pub async fn kill_kafka(&self, rest: Duration) -> Result<()> {
        let _alone = self.ending[1].lock().await;
        let kafka = self.kafka.clone();
        tokio::task::spawn_blocking(move || kafka.kill9()).await??;
        tokio::time::sleep(rest).await;
        let kafka = self.kafka.clone();
        tokio::task::spawn_blocking(move || kafka.restart()).await?
    }
}

/// A process and its place.
struct Place {
    seat: Seat,
    running: Mutex<Running>,
}

/// See the module.
pub struct Stage {
    pub ground: Arc<Ground>,
    pub brain: Brain,
    pub model: Model,
    pub client: Client,
    /// What was put into the log past the system.
    pub planted: Lock<Vec<Planted>>,
    /// What went wrong without being asked to.
    pub complaints: Lock<Vec<String>>,
    lines: [Arc<Proxy>; 4],
    places: Vec<Place>,
    /// How any process is started.
    binary: Binary,
    /// The logs of processes that are gone.
    logs: Lock<Vec<(String, String)>>,
}

impl Stage {
    /// Starts the system on an empty database and an empty log.
    pub async fn new(ground: Arc<Ground>) -> Result<Self> {
        ground.log.cut();
        ground.log.heal();
        ground.kafka.remove_topics().await?;
        let (model, brain) = (Model::start().await?, Brain::start().await?);
        brain.set_deletes(true);
        model.answer(|exchange| {
            let number = exchange.number;
            let pieces =
                (0..PIECES).fold(Script::new(), |script, at| script.text(&piece(number, at)).pause(BETWEEN_PIECES));
            pieces.done()
        });
        let database = ground.postgres.fresh_database().await?;
        let lines = [
            Arc::new(Proxy::postgres(ground.postgres.address()?).await?),
            ground.log.clone(),
            Arc::new(Proxy::start(brain.address()).await?),
            Arc::new(Proxy::start(model.address()).await?),
        ];
        let binary = settings(&lines, &database.dsn_through(lines[0].port()), database.name())?;
        let starts = Seat::ALL.map(|seat| start(&binary, seat));
        let places = try_join_all(starts).await?;
        let client = Client::new(places[0].running.lock().await.url())?;
        let (planted, complaints, logs) = Default::default();
        Ok(Self { ground, brain, model, client, planted, complaints, lines, places, binary, logs })
    }

    /// The proxy of a line.
    pub fn line(&self, line: Line) -> &Proxy {
        match line {
            Line::Database => &self.lines[0],
            Line::Log => &self.lines[1],
            Line::Memory => &self.lines[2],
            Line::Model => &self.lines[3],
        }
    }

    fn place(&self, seat: Seat) -> Option<&Place> {
        self.places.iter().find(|place| place.seat == seat)
    }

    /// Kills a process and starts it again after a while.
    pub async fn kill(&self, seat: Seat, rest: Duration) -> Result<()> {
        let Some(place) = self.place(seat) else { return Ok(()) };
        let mut running = place.running.lock().await;
        if self.lives(seat, &mut running) {
            running.kill().await?;
            tokio::time::sleep(rest).await;
        }
        running.restart().await
    }

    /// Stops a process for a while and lets it go on.
    pub async fn freeze(&self, seat: Seat, length: Duration) -> Result<()> {
        let Some(place) = self.place(seat) else { return Ok(()) };
        let mut running = place.running.lock().await;
        if !self.lives(seat, &mut running) {
            return running.restart().await;
        }
        running.signal(ProcessSignal::STOP)?;
        tokio::time::sleep(length).await;
        Ok(running.signal(ProcessSignal::CONT)?)
    }

    /// Starts one more replicator and kills it after a while.
    pub async fn third_replicator(&self, length: Duration) -> Result<()> {
        let mut third = role(&self.binary, Seat::Replicator)?.start().await?;
        tokio::time::sleep(length).await;
        third.kill().await?;
        self.keep_log("third replicator", third.output());
        Ok(())
    }

    /// Ends every fault that lasts, and makes sure that every process runs.
    pub async fn heal(&self) -> Result<()> {
        for line in &self.lines {
            line.heal();
        }
        self.brain.recover();
        for place in &self.places {
            let mut running = place.running.lock().await;
            if !self.lives(place.seat, &mut running) {
                running.restart().await?;
            }
        }
        Ok(())
    }

    /// Whether a process runs. None may end by itself, whatever happens around it.
    fn lives(&self, seat: Seat, running: &mut Running) -> bool {
        let lives = running.is_running();
        if !lives {
            self.complain(format!("the {} ended by itself", seat.role()));
        }
        lives
    }

    /// Notes something that went wrong without being asked to.
    pub fn complain(&self, what: String) {
        self.complaints.lock().unwrap().push(what);
    }

    fn keep_log(&self, name: &str, log: String) {
        self.logs.lock().unwrap().push((name.to_owned(), log));
    }

    /// The logs of all processes, by name.
    pub async fn logs(&self) -> Vec<(String, String)> {
        let mut logs = self.logs.lock().unwrap().clone();
        for place in &self.places {
            logs.push((format!("{:?}", place.seat), place.running.lock().await.output()));
        }
        logs
    }
}

/// Short leases, rests and deadlines: what dies is missed soon, and what failed is tried again soon.
fn settings(lines: &[Arc<Proxy>; 4], dsn: &str, name: &str) -> Result<Binary> {
    let binary = Binary::new(env!("CARGO_BIN_EXE_somaagent"))?
        .set("SA01_DB_DSN", dsn)
        .set("KAFKA_BOOTSTRAP_SERVERS", &lines[1].address().to_string())
        .set("SOMA_BASE_URL", &format!("http://{}", lines[2].address()))
        .set("SA01_LLM_BASE_URL", &model::base_url(lines[3].port()))
        .set("SA01_LLM_MODEL", "scripted")
        // The group's place in the log of an earlier run is not that of this one.
        .set("MEMORY_REPLICATOR_GROUP", name);
    let pairs = [
        ("SA01_BOOT__STEP_MS", "120000"),
        ("SSE_HEARTBEAT_SECONDS", "3600"),
        ("SA01_DATABASE__STATEMENT_TIMEOUT_MS", "1500"),
        ("SA01_DATABASE__ACQUIRE_TIMEOUT_MS", "1500"),
        ("SA01_SESSIONS__LEASE_MS", "3000"),
        ("SA01_SESSIONS__ASK_TIMEOUT_MS", "5000"),
        ("SA01_TURNS__SWEEP_MS", "300"),
        ("SA01_TURNS__RECALL_DEADLINE_MS", "300"),
        ("SA01_TURNS__MAX_ATTEMPTS", "10"),
        ("SA01_MODEL__RETRY_FIRST_WAIT_MS", "50"),
        ("SA01_MODEL__RETRY_MAX_WAIT_MS", "200"),
        ("SOMA_TIMEOUT_SECONDS", "1.0"),
        ("SOMA_RETRY_BASE_MS", "20"),
        ("SA01_BRAIN__BREAKER_COOLDOWN_MS", "100"),
        ("SA01_BRAIN__HEALTH_INTERVAL_MS", "300"),
        ("PUBLISH_KAFKA_TIMEOUT_SECONDS", "2.0"),
        ("SA01_KAFKA__SESSION_TIMEOUT_MS", "3000"),
        ("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05"),
        ("OUTBOX_SYNC_BACKOFF_BASE_SECONDS", "0.05"),
        ("OUTBOX_SYNC_BACKOFF_MAX_SECONDS", "0.3"),
        ("SA01_OUTBOX__LEASE_MS", "5000"),
        ("MEMORY_SYNC_INTERVAL_SECONDS", "0.05"),
        ("MEMORY_SYNC_BACKOFF_BASE_SECONDS", "0.05"),
        ("MEMORY_SYNC_BACKOFF_MAX_SECONDS", "0.3"),
        // A refusal of the content makes a dead letter at once.
        ("MEMORY_SYNC_MAX_RETRIES", "0"),
        ("SA01_MEMORY_SYNC__LEASE_MS", "4000"),
    ];
    Ok(pairs.into_iter().fold(binary, |binary, (name, value)| binary.set(name, value)))
}

/// How a role is started.
fn role(binary: &Binary, seat: Seat) -> Result<Binary> {
    let binary = binary.elsewhere()?.argument("--role").argument(seat.role());
    Ok(match seat {
        Seat::Gateway => binary.fixed_port(),
        Seat::Outbox => binary.free_port("OUTBOX_SYNC_METRICS_PORT"),
        Seat::MemorySync => binary.free_port("MEMORY_SYNC_METRICS_PORT"),
        Seat::Replicator | Seat::OtherReplicator => binary.free_port("REPLICATOR_METRICS_PORT"),
    })
}

async fn start(binary: &Binary, seat: Seat) -> Result<Place> {
    let running = role(binary, seat)?.start().await?;
    ensure!(running.port() > 0, "the {} does not say where it listens", seat.role());
    Ok(Place { seat, running: Mutex::new(running) })
}
