//! The server's thread: takes one connection after the other and serves it to its end.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pglite_oxide::PgliteProxy;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use thiserror::Error;
use tokio::sync::watch;

use super::files;
use super::socket::SocketFolder;
use crate::data_dir::DataDir;

/// Connections that may fail one after the other before the thread gives up: by then it is the socket that is broken,
/// or the data, and a new start is the better answer than a busy loop.
const FAILURES_MAX: u32 = 16;

/// What the database is called in the data folder.
const FILES: &str = "postgres";

/// The server: its files, its socket, and its thread when it runs.
#[derive(Debug)]
pub struct EmbeddedServer {
    data: DataDir,
    socket: SocketFolder,
    stopping: Arc<AtomicBool>,
    /// The latest run; none before the first start. Only one may be there at a time: two would ruin the data.
    run: Mutex<Option<watch::Receiver<Run>>>,
}

/// How far a thread is.
#[derive(Debug, Clone)]
enum Run {
    Serving,
    Ended(String),
}

/// The server cannot be started.
#[derive(Debug, Error)]
pub enum EmbeddedServerError {
    /// Its files are not whole and cannot be made so.
    #[error("the files of the embedded PostgreSQL cannot be made ready")]
    Files(#[source] io::Error),
    /// Its socket cannot be made.
    #[error("the socket of the embedded PostgreSQL cannot be made")]
    Socket(#[source] io::Error),
    /// The system gives no thread.
    #[error("the embedded PostgreSQL gets no thread")]
    Thread(#[source] io::Error),
}

impl EmbeddedServer {
    /// A server on the data in `data`, which stays locked as long as the server is there. Nothing runs yet, but the
    /// files of the database are there and whole.
    ///
    /// # Errors
    /// If the files cannot be made ready, or there can be no socket.
    pub fn new(data: DataDir) -> Result<Self, EmbeddedServerError> {
        files::make_whole(&data.path().join(FILES)).map_err(EmbeddedServerError::Files)?;
        let socket = SocketFolder::make(data.path()).map_err(EmbeddedServerError::Socket)?;
        Ok(Self { data, socket, stopping: Arc::new(AtomicBool::new(false)), run: Mutex::new(None) })
    }

    /// Whether the data folder has a database.
    #[must_use]
    pub fn has_database(data: &Path) -> bool {
        files::has_cluster(&data.join(FILES))
    }

    /// The folder its files are in.
    #[must_use]
    pub const fn data(&self) -> &DataDir {
        &self.data
    }

    /// How to connect. `host` is the folder of the socket; a socket's path or a URL will not do.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        connect_options(self.socket.folder())
    }

    /// Makes sure that the thread runs. Connections are accepted from here on; the first one starts the database.
    ///
    /// # Errors
    /// If the socket or the thread cannot be made.
    pub fn start(&self) -> Result<(), EmbeddedServerError> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.as_ref().is_some_and(|run| matches!(*run.borrow(), Run::Serving)) {
            return Ok(());
        }
        let path = self.socket.socket();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(EmbeddedServerError::Socket(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(EmbeddedServerError::Socket)?;
        let (sender, receiver) = watch::channel(Run::Serving);
        let (proxy, stopping) = (PgliteProxy::new(self.data.path().join(FILES)), Arc::clone(&self.stopping));
        thread::Builder::new()
            .name("postgres".into())
            .spawn(move || {
                let mut end = ReportEnd { sender, why: "its thread panicked".into() };
                end.why = serve(&proxy, &listener, &stopping);
            })
            .map_err(EmbeddedServerError::Thread)?;
        *run = Some(receiver);
        Ok(())
    }

    /// Waits until the thread has ended and says why; at once if it has. A server that was never started has not ended.
    pub async fn ended(&self) -> String {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut run) = run else { return std::future::pending().await };
        match run.wait_for(|run| matches!(run, Run::Ended(_))).await.as_deref() {
            Ok(Run::Ended(why)) => why.clone(),
            _ => "its thread is gone".into(),
        }
    }

    /// Ends the thread: no further connection is accepted, and one that is open is served until its client closes it.
    /// Close the pool first. `false` if the thread has not ended `within` the time; it ends with the process then.
    pub async fn stop(&self, within: Duration) -> bool {
        self.stopping.store(true, Ordering::SeqCst);
        if self.run.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return true;
        }
        // The thread sleeps in `accept`; a connection wakes it. If there is nobody to wake it has ended.
        drop(UnixStream::connect(self.socket.socket()));
        tokio::time::timeout(within, self.ended()).await.is_ok()
    }
}

fn connect_options(folder: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(&folder.to_string_lossy())
        .port(5432)
        .username("postgres")
        .database("postgres")
        .ssl_mode(PgSslMode::Disable)
}

/// Tells how the thread ended, also when it panics.
struct ReportEnd {
    sender: watch::Sender<Run>,
    why: String,
}

impl Drop for ReportEnd {
    fn drop(&mut self) {
        self.sender.send_replace(Run::Ended(std::mem::take(&mut self.why)));
    }
}

/// Serves until it is to stop or nothing works any more; says why it ended.
fn serve(proxy: &PgliteProxy, listener: &UnixListener, stopping: &AtomicBool) -> String {
    let mut failures = 0;
    while !stopping.load(Ordering::SeqCst) {
        // Every connection is a backend of its own on the same data: what one does wrong ends with it.
        match proxy.accept_unix_once(listener) {
            Ok(()) => failures = 0,
            Err(error) => {
                tracing::warn!(
                    error = &*error as &dyn std::error::Error,
                    "a connection to the embedded PostgreSQL failed"
                );
                failures += 1;
                if failures == FAILURES_MAX {
                    return format!("{failures} connections failed in a row");
                }
            }
        }
    }
    "it was stopped".into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::io::Write;

    use sqlx::{Connection, PgConnection, query_scalar};

    use super::*;
    use crate::config::DataSettings;

    const SOON: Duration = Duration::from_mins(1);

    fn server(dir: &tempfile::TempDir) -> EmbeddedServer {
        let data = DataDir::open(&DataSettings { dir: Some(dir.path().join("data")) }).unwrap();
        EmbeddedServer::new(data).unwrap()
    }

    async fn connect(server: &EmbeddedServer) -> PgConnection {
        PgConnection::connect_with(&server.connect_options()).await.unwrap()
    }

    async fn one(connection: &mut PgConnection) -> i32 {
        query_scalar("SELECT 1").fetch_one(connection).await.unwrap()
    }

    #[tokio::test]
    async fn after_rubbish_on_its_socket_the_next_query_works() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        server.start().unwrap();
        for rubbish in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0; 4], &[0, 0, 0, 8, 0, 3, 0, 0]] {
            let mut vandal = UnixStream::connect(server.socket.socket()).unwrap();
            vandal.write_all(rubbish).unwrap();
            drop(vandal);
            let mut connection = connect(&server).await;
            assert_eq!(one(&mut connection).await, 1);
            connection.close().await.unwrap();
        }
        assert!(server.stop(SOON).await);
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_a_stop_and_a_lost_client() {
        let dir = tempfile::tempdir().unwrap();
        {
            let server = server(&dir);
            server.start().unwrap();
            let mut connection = connect(&server).await;
            for sql in
                ["CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (7)", "BEGIN", "INSERT INTO kept VALUES (8)"]
            {
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
            // Goes away in the middle of its transaction.
            drop(connection);
            assert!(server.stop(SOON).await);
        }
        let server = server(&dir);
        server.start().unwrap();
        let mut connection = connect(&server).await;
        let kept: Vec<i32> = query_scalar("SELECT id FROM kept").fetch_all(&mut connection).await.unwrap();
        assert_eq!(kept, [7]);
    }

    #[tokio::test]
    async fn a_database_that_lies_over_a_template_opens_with_all_its_rows_and_lies_over_it_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(".s.PGSQL.5432");
        let listener = UnixListener::bind(&socket).unwrap();
        let root = dir.path().join("data").join(FILES);
        let proxy = PgliteProxy::new(root.clone());
        let serve = move || proxy.accept_unix_once(&listener);
        let earlier = thread::Builder::new().name("earlier".to_owned()).spawn(serve).unwrap();
        let options = connect_options(dir.path());
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql("CREATE TABLE kept AS SELECT 7 AS id").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        earlier.join().unwrap().unwrap();
        let note = root.join("tmp/pglite/base/.pglite-oxide-pgdata-overlay.json");
        assert!(note.is_file(), "this is no database of an earlier version");
        let server = server(&dir);
        assert!(!note.exists());
        server.start().unwrap();
        let mut connection = connect(&server).await;
        let rows: (i32, i64) = sqlx::query_as("SELECT (SELECT id FROM kept), (SELECT count(*) FROM pg_class)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert!(rows.0 == 7 && rows.1 > 100, "{rows:?}");
    }

    #[tokio::test]
    async fn a_thread_that_ended_is_noticed_and_can_be_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        server.start().unwrap();
        for _ in 0..FAILURES_MAX {
            UnixStream::connect(server.socket.socket()).unwrap().write_all(&[0; 4]).unwrap();
        }
        let why = tokio::time::timeout(SOON, server.ended()).await.unwrap();
        assert!(why.contains("in a row"), "{why}");
        server.start().unwrap();
        assert_eq!(one(&mut connect(&server).await).await, 1);
    }

    #[tokio::test]
    async fn a_second_start_while_it_serves_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&dir);
        server.start().unwrap();
        let mut connection = connect(&server).await;
        server.start().unwrap();
        assert_eq!(one(&mut connection).await, 1);
    }
}
