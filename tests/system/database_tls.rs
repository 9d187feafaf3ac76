//! TLS to PostgreSQL: the connection has what its DSN asks for, or there is none.

use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::papers::{CLIENT, Papers};
use somaagent_test_services::postgres::{Database, Postgres};
use somaagent_test_services::process::{Binary, Running};
use somaagent_test_services::wait::eventually;
use sqlx::AssertSqlSafe;
use url::Url;

use crate::stack::{binary, new_session};

const PASSWORD: &str = "canary-4b1d07";

/// A database of a server that has TLS.
struct World {
    papers: Papers,
    /// What nobody here vouches for.
    strangers: Papers,
    database: Database,
    _postgres: Postgres,
}

impl World {
    async fn begin() -> Self {
        let papers = Papers::new().unwrap();
        let postgres = Postgres::start_with_tls(&papers).unwrap();
        let database = postgres.fresh_database().await.unwrap();
        Self { papers, strangers: Papers::new().unwrap(), database, _postgres: postgres }
    }

    /// A parameter of the DSN that names a file of these papers.
    fn file(name: &str, papers: &Papers, file: &str) -> String {
        format!("{name}={}", papers.file(file).display())
    }

    /// That names the right authority.
    fn root(&self) -> String {
        Self::file("sslrootcert", &self.papers, "ca")
    }

    /// The wrong one.
    fn wrong_root(&self) -> String {
        Self::file("sslrootcert", &self.strangers, "ca")
    }

    fn at(&self, query: &str) -> Binary {
        asking(&self.database, "127.0.0.1", query)
    }
}

/// A binary whose DSN asks for this.
fn asking(database: &Database, host: &str, query: &str) -> Binary {
    let mut dsn: Url = database.dsn().parse().unwrap();
    dsn.set_host(Some(host)).unwrap();
    dsn.set_password(Some(PASSWORD)).unwrap();
    dsn.set_query(Some(query));
    binary().set("SA01_DB_DSN", dsn.as_str())
}

async fn is_served(app: &Running) {
    let answer = Client::new(app.url()).unwrap().message(&Post::new("hi").to(&new_session())).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Waits until the program has several connections, and tells whether each is encrypted.
async fn are_encrypted(database: &Database) -> Vec<bool> {
    let pool = database.pool().await.unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE datname = current_database() AND starts_with(application_name, 'somaagent')";
    eventually("connections", async || {
        let lines: Vec<bool> = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
        (lines.len() > 2).then_some(lines)
    })
    .await
}

/// Expects that neither a start nor a command gets through, that each says why, and that none waits for it to change.
async fn is_refused(binary: &Binary, says: &str) {
    let started = binary.run().await.unwrap();
    assert_eq!(started.code, Some(1), "{}", started.output);
    assert!(started.output.contains("the step `database`"), "{}", started.output);
    assert!(!started.output.contains("did not answer within"), "{}", started.output);
    let doctor = binary.clone().argument("doctor").run().await.unwrap();
    assert_eq!(doctor.code, Some(2), "{}", doctor.output);
    let verified = binary.clone().argument("audit").argument("verify").run().await.unwrap();
    assert!(verified.code.is_some_and(|code| code != 0), "{}", verified.output);
    for output in [&started.output, &doctor.output] {
        assert!(output.contains(says), "{says:?} is missing in {output}");
    }
    for output in [started.output, doctor.output, verified.output] {
        assert!(!output.contains(PASSWORD) && !output.contains("panicked"), "{output}");
    }
}

#[tokio::test]
async fn every_connection_is_encrypted_where_the_server_has_tls() {
    let world = World::begin().await;
    for query in ["sslmode=require", ""] {
        let mut app = world.at(query).start().await.unwrap();
        is_served(&app).await;
        let lines = are_encrypted(&world.database).await;
        assert!(lines.iter().all(|is_encrypted| *is_encrypted), "{query}: {lines:?}");
        assert_eq!(app.terminate().await.unwrap(), Some(0));
        assert!(!app.output().contains(PASSWORD), "{}", app.output());
    }
    let mut app = world.at("sslmode=disable").start().await.unwrap();
    is_served(&app).await;
    let lines = are_encrypted(&world.database).await;
    assert!(lines.iter().all(|is_encrypted| !is_encrypted), "{lines:?}");
    assert_eq!(app.terminate().await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_server_that_proves_who_it_is_serves_the_process_and_its_commands() {
    let world = World::begin().await;
    let root = world.root();
    let here = format!("sslmode=verify-full&{root}");
    let system = world.papers.file("ca").display().to_string();
    for binary in [
        world.at(&here),
        world.at("").set("PGSSLMODE", "verify-full").set("PGSSLROOTCERT", &system),
        world.at("sslrootcert=system").set("SSL_CERT_FILE", &system),
        // Where the name is not looked at it may be another one.
        asking(&world.database, "localhost", &format!("sslmode=verify-ca&{root}")),
        asking(&world.database, "localhost", &format!("sslmode=require&{root}")),
    ] {
        let mut app = binary.start().await.unwrap();
        is_served(&app).await;
        assert_eq!(app.terminate().await.unwrap(), Some(0));
    }
    let verified = world.at(&here).argument("audit").argument("verify").run().await.unwrap();
    assert_eq!(verified.code, Some(0), "{}", verified.output);
    let doctor = world.at(&here).argument("doctor").run().await.unwrap();
    assert!(doctor.output.contains("lets us in"), "{}", doctor.output);
}

#[tokio::test]
async fn a_server_that_proves_nothing_is_refused_at_once_and_the_remedy_told() {
    let world = World::begin().await;
    let (root, wrong) = (world.root(), world.wrong_root());
    let nobody = "sslrootcert must name the file of the authority";
    for mode in ["require", "verify-ca", "verify-full"] {
        is_refused(&world.at(&format!("sslmode={mode}&{wrong}")), nobody).await;
    }
    let strangers = world.strangers.file("ca").display().to_string();
    is_refused(&world.at("sslmode=verify-full").set("SSL_CERT_FILE", &strangers), nobody).await;
    let elsewhere = asking(&world.database, "localhost", &format!("sslmode=verify-full&{root}"));
    is_refused(&elsewhere, "must name the server as its certificate does").await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let world = World::begin().await;
    let plain = Postgres::start().unwrap();
    let database = plain.fresh_database().await.unwrap();
    for query in ["sslmode=require", &format!("sslmode=verify-full&{}", world.root())] {
        is_refused(&asking(&database, "127.0.0.1", query), "set ssl = on there").await;
    }
    let app = asking(&database, "127.0.0.1", "sslmode=prefer").start().await.unwrap();
    is_served(&app).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_of_the_client_gets_it() {
    let world = World::begin().await;
    let pool = world.database.pool().await.unwrap();
    let name = world.database.name();
    for sql in [format!("CREATE ROLE {CLIENT} LOGIN"), format!("ALTER DATABASE {name} OWNER TO {CLIENT}")] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    let by = |papers: &Papers| {
        let [cert, key] = [("sslcert", "cert"), ("sslkey", "key")].map(|(name, file)| World::file(name, papers, file));
        world.at(&format!("user={CLIENT}&sslmode=verify-full&{}&{cert}&{key}", world.root()))
    };
    is_served(&by(&world.papers).start().await.unwrap()).await;
    is_refused(&world.at(&format!("user={CLIENT}&sslmode=verify-full&{}", world.root())), "certificate").await;
    is_refused(&by(&world.strangers), "sslcert and sslkey name").await;
}

#[tokio::test]
async fn a_line_to_another_machine_that_is_left_to_chance_is_told_at_the_start() {
    for (query, is_told) in
        [("", true), ("?sslmode=prefer", true), ("?sslmode=disable", false), ("?sslmode=require", false)]
    {
        // An address for documentation: nobody answers there.
        let dsn = format!("postgres://me:{PASSWORD}@192.0.2.1/soma{query}");
        let ended = binary().set("SA01_DB_DSN", &dsn).set("SA01_BOOT__STEP_MS", "100").run().await.unwrap();
        assert_eq!(ended.code, Some(1), "{}", ended.output);
        assert_eq!(ended.output.contains("does not ask for TLS"), is_told, "{query}: {}", ended.output);
        assert!(!ended.output.contains(PASSWORD), "{}", ended.output);
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_a_fault_of_the_configuration() {
    let world = World::begin().await;
    for query in ["sslmode=verify-full&sslrootcert=/no/such.pem", "sslcert=/no/such.pem&sslkey=/no/such.pem"] {
        let ended = world.at(query).run().await.unwrap();
        assert_eq!(ended.code, Some(78), "{}", ended.output);
        assert!(ended.output.contains("/no/such.pem cannot be read"), "{}", ended.output);
        assert!(!ended.output.contains(PASSWORD), "{}", ended.output);
    }
}
