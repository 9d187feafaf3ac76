//! A TCP proxy that stands between the system and one of its services and misbehaves on command or by a random schedule.
//!
//! In front of PostgreSQL it reads the message framing ([`Proxy::postgres`]), so that it can act exactly between a commit
//! and the reply that tells of it; in front of anything else ([`Proxy::start`]) it passes bytes.

mod fault;
mod frames;
mod link;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

pub use self::fault::Fault;
use self::frames::Protocol;
use crate::lock::locked;
use crate::model::Gate;
use crate::wait::within;

/// One of the two ways through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the service.
    Up,
    /// From the service to the client.
    Down,
}

/// How bytes flow in one direction at the moment.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    stalled: bool,
    delay: Duration,
}

/// An order to one connection.
#[derive(Debug)]
enum Order {
    Spoil(Direction, Vec<u8>),
}

/// One connection through the proxy, as its proxy knows it.
#[derive(Debug)]
struct Link {
    orders: mpsc::UnboundedSender<Order>,
    task: AbortHandle,
}

/// At which side of a commit a trap springs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The statement has been seen and is not passed on.
    BeforeCommit,
    /// The server has committed and its reply is not passed on.
    AfterCommit,
}

/// Waits for a write that contains `needle`.
#[derive(Debug)]
struct Trap {
    moment: Moment,
    needle: String,
    sprung: watch::Sender<bool>,
    /// Held back until the gate lets it pass; cut when there is none.
    hold: Option<Gate>,
}

/// A trap that was set; tells when it has sprung.
#[derive(Debug)]
pub struct Sprung(watch::Receiver<bool>);

impl Sprung {
    /// Waits until a write has fallen into the trap.
    ///
    /// # Panics
    /// When none does.
    pub async fn wait(&mut self) {
        let _ = within("a write to fall into the proxy's trap", self.0.wait_for(|sprung| *sprung)).await;
    }

    /// Whether a write has fallen into it.
    #[must_use]
    pub fn has_sprung(&self) -> bool {
        *self.0.borrow()
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    target: (String, u16),
    protocol: Protocol,
    up: watch::Sender<Flow>,
    down: watch::Sender<Flow>,
    refusing: AtomicBool,
    traps: Mutex<Vec<Trap>>,
    links: Mutex<Vec<Link>>,
    opened: AtomicUsize,
}

impl Shared {
    fn flow(&self, direction: Direction) -> &watch::Sender<Flow> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// Takes the first trap that this write falls into.
    fn sprung_by(&self, moment: Moment, statements: &[Arc<str>]) -> Option<Trap> {
        if !statements.iter().any(|sql| frames::writes(sql)) {
            return None;
        }
        let mut traps = locked(&self.traps);
        let hit = |trap: &Trap| {
            trap.moment == moment && statements.iter().any(|sql| sql.to_lowercase().contains(&trap.needle))
        };
        let place = traps.iter().position(hit)?;
        let trap = traps.remove(place);
        trap.sprung.send_replace(true);
        Some(trap)
    }
}

/// A proxy in front of one service. Ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: AbortHandle,
}

impl Proxy {
    /// Starts a proxy that passes bytes to `target` and knows nothing of them.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        Self::to((target.ip().to_string(), target.port()), Protocol::Bytes).await
    }

    /// Starts a proxy in front of a PostgreSQL server.
    pub async fn postgres(target: (String, u16)) -> Result<Self> {
        Self::to(target, Protocol::Postgres).await
    }

    async fn to(target: (String, u16), protocol: Protocol) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            protocol,
            up: watch::Sender::default(),
            down: watch::Sender::default(),
            refusing: AtomicBool::new(false),
            traps: Mutex::default(),
            links: Mutex::default(),
            opened: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(shared.clone(), listener)).abort_handle();
        Ok(Self { shared, address, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        locked(&self.shared.links).iter().filter(|link| !link.task.is_finished()).count()
    }

    /// Connections that were ever opened.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Resets every open connection.
    pub fn cut(&self) {
        for link in locked(&self.shared.links).drain(..) {
            link.task.abort();
        }
    }

    /// Resets the one open connection that `choice` lands on; none when none is open.
    pub fn cut_one(&self, choice: usize) {
        let mut links = locked(&self.shared.links);
        links.retain(|link| !link.task.is_finished());
        if !links.is_empty() {
            let place = choice % links.len();
            links.swap_remove(place).task.abort();
        }
    }

    /// Holds everything back in this direction until [`Self::resume`].
    pub fn stall(&self, direction: Direction) {
        self.shared.flow(direction).send_modify(|flow| flow.stalled = true);
    }

    /// Ends stall and delay in this direction.
    pub fn resume(&self, direction: Direction) {
        self.shared.flow(direction).send_replace(Flow::default());
    }

    /// Holds each piece in this direction back for `length`.
    pub fn delay(&self, direction: Direction, length: Duration) {
        self.shared.flow(direction).send_modify(|flow| flow.delay = length);
    }

    /// Puts `rubbish` into every open connection in this direction, between two reads.
    pub fn spoil(&self, direction: Direction, rubbish: &[u8]) {
        for link in locked(&self.shared.links).iter() {
            let _ = link.orders.send(Order::Spoil(direction, rubbish.to_vec()));
        }
    }

    /// Closes new connections at once, or stops doing so.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::Relaxed);
    }

    /// Cuts the connection whose next write contains `needle` (any case) before the server has seen the write.
    #[must_use]
    pub fn cut_before_commit(&self, needle: &str) -> Sprung {
        self.trap(Moment::BeforeCommit, needle, None)
    }

    /// Cuts the connection whose next write contains `needle` (any case) when the server has committed it and before the
    /// client hears of it.
    #[must_use]
    pub fn cut_after_commit(&self, needle: &str) -> Sprung {
        self.trap(Moment::AfterCommit, needle, None)
    }

    /// Lets the server commit the next write that contains `needle` and holds its reply back until `gate` opens.
    #[must_use]
    pub fn hold_after_commit(&self, needle: &str, gate: &Gate) -> Sprung {
        self.trap(Moment::AfterCommit, needle, Some(gate.clone()))
    }

    /// Takes every trap away that has not sprung.
    pub fn disarm(&self) {
        locked(&self.shared.traps).clear();
    }

    /// Ends every fault that lasts: stalls, delays, refusals and traps. Connections stay as they are.
    pub fn heal(&self) {
        self.disarm();
        self.refuse(false);
        self.resume(Direction::Up);
        self.resume(Direction::Down);
    }

    fn trap(&self, moment: Moment, needle: &str, hold: Option<Gate>) -> Sprung {
        let sprung = watch::Sender::new(false);
        let seen = sprung.subscribe();
        locked(&self.shared.traps).push(Trap { moment, needle: needle.to_lowercase(), sprung, hold });
        Sprung(seen)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.refusing.load(Ordering::Relaxed) {
            let _ = client.set_zero_linger();
            continue;
        }
        shared.opened.fetch_add(1, Ordering::Relaxed);
        let (orders, received) = mpsc::unbounded_channel();
        let _ = client.set_nodelay(true);
        let work = link::run(shared.clone(), client, received);
        let task = tokio::spawn(async move {
            let _ = work.await;
        });
        let mut links = locked(&shared.links);
        links.retain(|link| !link.task.is_finished());
        links.push(Link { orders, task: task.abort_handle() });
    }
}

async fn connect(target: &(String, u16)) -> std::io::Result<TcpStream> {
    let service = TcpStream::connect((target.0.as_str(), target.1)).await?;
    service.set_nodelay(true)?;
    Ok(service)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use sqlx::{Connection as _, Executor as _, PgConnection};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::postgres::{Database, Postgres};

    /// A service that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn say(client: &mut TcpStream, text: &str) -> std::io::Result<String> {
        client.write_all(text.as_bytes()).await?;
        let mut heard = vec![0; text.len()];
        client.read_exact(&mut heard).await?;
        Ok(String::from_utf8_lossy(&heard).into_owned())
    }

    #[tokio::test]
    async fn bytes_pass_until_the_cut() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut client, "hello").await.unwrap(), "hello");
        proxy.cut();
        assert!(within("the cut", say(&mut client, "hello")).await.is_err());
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut next, "again").await.unwrap(), "again");
    }

    #[tokio::test]
    async fn a_stalled_direction_holds_bytes_back_and_loses_none() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut client, "hello").await.unwrap(), "hello");
        proxy.stall(Direction::Down);
        client.write_all(b"later").await.unwrap();
        let mut heard = [0; 5];
        let early = tokio::time::timeout(Duration::from_millis(50), client.read_exact(&mut heard)).await;
        assert!(early.is_err(), "a stalled direction passed bytes");
        proxy.resume(Direction::Down);
        within("the held bytes", client.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"later");
    }

    #[tokio::test]
    async fn rubbish_arrives_between_the_bytes() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut client, "hello").await.unwrap();
        proxy.spoil(Direction::Down, b"###");
        let mut heard = [0; 3];
        within("the rubbish", client.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"###");
    }

    async fn table() -> (Database, Proxy, PgConnection) {
        let postgres = Postgres::shared().unwrap();
        let database = postgres.fresh_database().await.unwrap();
        let proxy = Proxy::postgres(postgres.address().unwrap()).await.unwrap();
        let mut client = PgConnection::connect(&database.dsn_through(proxy.port())).await.unwrap();
        client.execute("CREATE TABLE rows (n int)").await.unwrap();
        (database, proxy, client)
    }

    async fn insert(client: &mut PgConnection, n: i32) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO rows (n) VALUES ($1)").bind(n).execute(client).await.map(|_| ())
    }

    async fn count(database: &Database) -> i64 {
        let pool = database.pool().await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM rows").fetch_one(&pool).await.unwrap()
    }

    #[tokio::test]
    async fn a_cut_after_the_commit_loses_the_reply_and_keeps_the_row() {
        let (database, proxy, mut client) = table().await;
        // The first one prepares the statement, so that the trap meets a text it has seen earlier.
        insert(&mut client, 1).await.unwrap();
        let mut sprung = proxy.cut_after_commit("insert into rows");
        assert!(insert(&mut client, 2).await.is_err());
        sprung.wait().await;
        assert_eq!(count(&database).await, 2);
    }

    #[tokio::test]
    async fn a_cut_after_an_explicit_commit_keeps_the_row() {
        let (database, proxy, mut client) = table().await;
        let sprung = proxy.cut_after_commit("commit");
        let mut transaction = client.begin().await.unwrap();
        insert(&mut transaction, 1).await.unwrap();
        assert!(!sprung.has_sprung());
        assert!(transaction.commit().await.is_err());
        assert!(sprung.has_sprung());
        assert_eq!(count(&database).await, 1);
    }

    #[tokio::test]
    async fn a_cut_before_the_commit_keeps_nothing() {
        let (database, proxy, mut client) = table().await;
        let _sprung = proxy.cut_before_commit("insert into rows");
        assert!(insert(&mut client, 1).await.is_err());
        assert_eq!(count(&database).await, 0);
    }

    #[tokio::test]
    async fn a_held_reply_arrives_when_its_gate_opens() {
        let (database, proxy, mut client) = table().await;
        let gate = Gate::closed();
        let mut sprung = proxy.hold_after_commit("insert into rows", &gate);
        let writing = tokio::spawn(async move { insert(&mut client, 1).await });
        sprung.wait().await;
        assert_eq!(count(&database).await, 1);
        assert!(!writing.is_finished());
        gate.open();
        within("the held reply", writing).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn reads_fall_into_no_trap() {
        let (_database, proxy, mut client) = table().await;
        let sprung = proxy.cut_after_commit("");
        sqlx::query("SELECT n FROM rows").execute(&mut client).await.unwrap();
        assert!(!sprung.has_sprung());
    }
}
