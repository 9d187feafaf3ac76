//! The configuration: composed from its layers, checked as a whole, and then fixed for the life of the process.
//!
//! Each room owns its section's type; this module composes them. Every fault of a configuration is found in one go and
//! names its key. "Nothing configured" means that a key is absent; there is no default for an outside system.

mod environment;
mod faults;
mod layers;
mod read;
mod rooms;
mod sections;
mod show;

pub use environment::Environment;
pub use faults::Faults;
pub use layers::Deployment;
pub use sections::{
    BootSettings, DataSettings, DatabaseSettings, FaultSettings, LogFormat, LogSettings, ServerSettings,
    ShutdownSettings, parse_dsn,
};
use somaagent_actors::{
    bus::{kafka::KafkaSettings, table::EventLogSettings},
    conversation::{SessionSettings, TurnSettings},
    dead_letters::DeadLetterSettings,
    llm::ModelSettings,
    outbox::QueueSettings,
    replicator::ReplicatorSettings,
    somabrain::BrainSettings,
};
use somaagent_http::{
    DoorSettings,
    settings::{HeaderSettings, WriteThroughSettings},
};

use crate::embedded::responder::ResponderSettings;
use read::Sections;

/// The whole configuration of the process. Every value was checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// In which surroundings the process runs.
    pub deployment: Deployment,
    /// Where the embedded parts keep their files.
    pub data: DataSettings,
    /// The listeners.
    pub server: ServerSettings,
    /// The database.
    pub database: DatabaseSettings,
    /// The front door.
    pub http: DoorSettings,
    /// Headers of its replies.
    pub headers: HeaderSettings,
    /// Whether replies to messages wait for the memory.
    pub write_through: WriteThroughSettings,
    /// Conversations in memory.
    pub sessions: SessionSettings,
    /// Turns.
    pub turns: TurnSettings,
    /// The model; without a base URL the offline responder takes its place.
    pub model: ModelSettings,
    /// The memory service; without a base URL the one inside the process takes its place.
    pub brain: BrainSettings,
    /// The brokers of the log; without any it is kept in the database.
    pub kafka: KafkaSettings,
    /// The way from the outbox into the log.
    pub outbox: QueueSettings,
    /// The way of memories to the memory service.
    pub memory_sync: QueueSettings,
    /// The log inside the database.
    pub event_log: EventLogSettings,
    /// The copy of what was remembered.
    pub replicator: ReplicatorSettings,
    /// What could not be carried on.
    pub dead_letters: DeadLetterSettings,
    /// The offline responder.
    pub responder: ResponderSettings,
    /// Deadlines of the start.
    pub boot: BootSettings,
    /// The end of the process.
    pub shutdown: ShutdownSettings,
    /// The log.
    pub log: LogSettings,
    /// Faults planted for tests.
    pub faults: FaultSettings,
    shown: String,
}

impl Config {
    /// Composes and checks the configuration.
    ///
    /// # Errors
    /// All faults of all layers at once.
    pub fn load(environment: &Environment) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let deployment = Deployment::read(environment, &mut faults);
        let merged = layers::merged(deployment, environment, &mut faults);
        let shown = show::masked(merged.clone());
        let mut sections = Sections::new(merged, layers::defaults(&mut faults));
        let config = Self::compose(deployment, shown, &mut sections, &mut faults);
        sections.finish(&mut faults);
        if let Some(config) = &config {
            config.check(&mut faults);
        }
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// The effective configuration as TOML, secrets masked, headed by what is not in it: the environment and the parts
    /// that will run inside the process.
    #[must_use]
    pub fn shown(&self) -> String {
        let parts = self.embedded().map(|(_, part)| format!("# inside the process: the {part}"));
        let head = std::iter::once(format!("# SA01_ENV={}", self.deployment.name())).chain(parts);
        head.chain(std::iter::once(self.shown.clone())).collect::<Vec<_>>().join("\n")
    }

    /// What is not configured and therefore runs inside the process: the key that would change that, and its name.
    fn embedded(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let parts = [
            (self.database.dsn.is_none(), "database.dsn", "database"),
            (self.model.base_url.is_empty(), "model.base_url", "offline responder"),
            (self.brain.base_url.is_empty(), "brain.base_url", "memory service"),
        ];
        parts.into_iter().filter(|(absent, ..)| *absent).map(|(_, key, part)| (key, part))
    }

    fn compose(deployment: Deployment, shown: String, sections: &mut Sections, faults: &mut Faults) -> Option<Self> {
        // Every section is read before any `?`, so that the faults of all of them are reported.
        let data = sections.take("data", faults);
        let server = sections.take("server", faults);
        let database = sections.take("database", faults);
        let sessions = sections.take("sessions", faults);
        let turns = sections.take("turns", faults);
        let http = sections.take("http", faults);
        let headers = sections.take("headers", faults);
        let write_through = sections.take("write_through", faults);
        let model = sections.take("model", faults);
        let brain = sections.take("brain", faults);
        let kafka = sections.take("kafka", faults);
        let outbox = sections.take("outbox", faults);
        let memory_sync = sections.take("memory_sync", faults);
        let event_log = sections.take("event_log", faults);
        let replicator = sections.take("replicator", faults);
        let dead_letters = sections.take("dead_letters", faults);
        let responder = sections.take("responder", faults);
        let boot = sections.take("boot", faults);
        let shutdown = sections.take("shutdown", faults);
        let log = sections.take("log", faults);
        let planted = sections.take("faults", faults);
        Some(Self {
            deployment,
            data: data?,
            server: server?,
            database: database?,
            sessions: sessions?,
            turns: turns?,
            http: http?,
            headers: headers?,
            write_through: write_through?,
            model: model?,
            brain: brain?,
            kafka: kafka?,
            outbox: outbox?,
            memory_sync: memory_sync?,
            event_log: event_log?,
            replicator: replicator?,
            dead_letters: dead_letters?,
            responder: responder?,
            boot: boot?,
            shutdown: shutdown?,
            log: log?,
            faults: planted?,
            shown,
        })
    }

    fn check(&self, faults: &mut Faults) {
        self.server.check(faults);
        self.database.check(faults);
        rooms::check_http(&self.http, faults);
        rooms::check_write_through(&self.write_through, faults);
        rooms::check_sessions(&self.sessions, faults);
        rooms::check_turns(&self.turns, faults);
        rooms::check_model(&self.model, faults);
        rooms::check_brain(&self.brain, faults);
        rooms::check_kafka(&self.kafka, faults);
        rooms::check_queue("outbox", &self.outbox, faults);
        rooms::check_queue("memory_sync", &self.memory_sync, faults);
        rooms::check_event_log(&self.event_log, faults);
        rooms::check_replicator(&self.replicator, faults);
        rooms::check_dead_letters(&self.dead_letters, faults);
        rooms::check_responder(self.responder, faults);
        self.boot.check(faults);
        self.shutdown.check(faults);
        self.log.check(faults);
        self.faults.check(faults);
        if self.deployment == Deployment::Prod {
            for (key, part) in self.embedded() {
                faults.add(key, format!("is not set, and SA01_ENV=PROD refuses the embedded {part}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    fn faults<const N: usize>(variables: [(&str, &str); N]) -> String {
        Config::load(&Environment::of(variables)).unwrap_err().to_string()
    }

    #[test]
    fn nothing_configured_is_a_whole_configuration_with_the_embedded_database() {
        let config = Config::load(&Environment::default()).unwrap();
        assert_eq!(config.deployment, Deployment::Dev);
        assert_eq!((config.server.host.as_str(), config.server.port), ("127.0.0.1", 8010));
        assert_eq!(config.server.metrics_address().unwrap().1, 9400);
        assert!(config.database.dsn.is_none());
        assert_eq!((config.turns.max_attempts, config.sessions.queue_max), (3, 16));
    }

    #[test]
    fn variables_override_by_any_of_their_names() {
        let config = Config::load(&Environment::of([
            ("PORT", "9001"),
            ("SA01_TURNS__MAX_ATTEMPTS", "5"),
            ("GATEWAY_DISABLE_SSE", "on"),
            ("LOG_LEVEL", "DEBUG"),
            ("GATEWAY_METRICS_PORT", "-1"),
        ]))
        .unwrap();
        assert_eq!(config.server.port, 9001);
        assert_eq!(config.turns.max_attempts, 5);
        assert!(config.http.disable_sse);
        assert_eq!(config.server.metrics_address(), None);
    }

    #[test]
    fn all_faults_are_reported_at_once_and_named() {
        let text = faults([
            ("SA01_ENV", "LIVE"),
            ("GATEWAY_PORT", "eighty"),
            ("PG_POOL_MAX_SIZE", "0"),
            ("SA01_TURNS__MAX_ATEMPTS", "3"),
            ("SA01_NOWHERE__KEY", "3"),
            ("SA01_LOG__FORMAT", "xml"),
            ("LOG_LEVEL", "loud=very"),
            ("SA01_DB_DSN", "localhost"),
            ("SA01_DATA_DIR", ""),
        ]);
        for named in [
            "9 faults",
            "SA01_ENV: LIVE is not",
            "server.port (GATEWAY_PORT): GATEWAY_PORT is not a whole number",
            "database.pool_size (PG_POOL_MAX_SIZE): 0 is not between",
            "turns.max_atempts (SA01_TURNS__MAX_ATEMPTS): unknown field",
            "nowhere: is unknown",
            "log.format (SA01_LOG__FORMAT): unknown variant `xml`",
            "log.level (LOG_LEVEL)",
            "database.dsn (SA01_DB_DSN): is not a URL",
            "data.dir (SA01_DATA_DIR): SA01_DATA_DIR is set but empty",
        ] {
            assert!(text.contains(named), "{named} is missing in {text}");
        }
    }

    #[test]
    fn settings_without_a_default_have_the_type_of_their_room() {
        let config = Config::load(&Environment::of([
            ("SA01_LLM_BASE_URL", "http://m"),
            ("SA01_LLM_MODEL", "m"),
            ("SA01_LLM_API_KEY", "123"),
            ("SA01_MODEL__TEMPERATURE", "0.5"),
            ("SA01_MODEL__EXTRA", "{ max_tokens = 9 }"),
        ]))
        .unwrap();
        assert_eq!(config.model.temperature, Some(0.5));
        assert_eq!(config.model.extra["max_tokens"], 9);
        assert!(config.model.api_key.is_some());
        let text = faults([("SA01_MODEL__TEMPERATURE", "warm"), ("SA01_LLM_API_KEY", "canary")]);
        assert!(text.contains("model.temperature (SA01_MODEL__TEMPERATURE): invalid type"), "{text}");
        assert!(text.contains("model.api_key (SA01_LLM_API_KEY): is set, but") && !text.contains("canary"), "{text}");
    }

    #[test]
    fn numbers_out_of_the_types_range_are_faults_of_their_key() {
        let text = faults([("GATEWAY_PORT", "70000"), ("SA01_SESSIONS__QUEUE_MAX", "-1")]);
        assert!(text.contains("server.port") && text.contains("sessions.queue_max"), "{text}");
    }

    #[test]
    fn the_file_of_defaults_says_what_the_rooms_do() {
        let config = Config::load(&Environment::default()).unwrap();
        assert_eq!(format!("{:?}", config.http), format!("{:?}", DoorSettings::default()));
        assert_eq!(format!("{:?}", config.headers), format!("{:?}", HeaderSettings::default()));
        assert_eq!(format!("{:?}", config.write_through), format!("{:?}", WriteThroughSettings::default()));
        assert_eq!(format!("{:?}", config.sessions), format!("{:?}", SessionSettings::default()));
        assert_eq!(format!("{:?}", config.turns), format!("{:?}", TurnSettings::default()));
        assert_eq!(format!("{:?}", config.model), format!("{:?}", ModelSettings::default()));
        assert_eq!(format!("{:?}", config.brain), format!("{:?}", BrainSettings::default()));
        assert_eq!(format!("{:?}", config.kafka), format!("{:?}", KafkaSettings::default()));
        assert_eq!(format!("{:?}", config.outbox), format!("{:?}", QueueSettings::OUTBOX));
        assert_eq!(format!("{:?}", config.memory_sync), format!("{:?}", QueueSettings::MEMORY_SYNC));
        assert_eq!(format!("{:?}", config.event_log), format!("{:?}", EventLogSettings::default()));
        assert_eq!(format!("{:?}", config.replicator), format!("{:?}", ReplicatorSettings::default()));
        assert_eq!(format!("{:?}", config.dead_letters), format!("{:?}", DeadLetterSettings::default()));
        assert_eq!(format!("{:?}", config.responder), format!("{:?}", ResponderSettings::default()));
    }

    #[test]
    fn production_refuses_each_embedded_part_by_name() {
        let text = faults([("SA01_ENV", "PROD")]);
        assert!(text.contains("database.dsn (SA01_DB_DSN)") && text.contains("embedded database"), "{text}");
    }

    #[test]
    fn listening_beyond_this_machine_is_refused() {
        assert!(faults([("GATEWAY_HOST", "0.0.0.0")]).contains("server.host (GATEWAY_HOST): 0.0.0.0 is not loopback"));
        assert!(faults([("GATEWAY_REQUIRE_AUTH", "true")]).contains("http.require_auth (GATEWAY_REQUIRE_AUTH)"));
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_never_shown() {
        let folder = std::env::temp_dir().join(format!("sa01-{}", uuid::Uuid::new_v4()));
        std::fs::write(&folder, "postgres://me:canary@127.0.0.1/d\n").unwrap();
        let environment = Environment::of([("SA01_DB_DSN_FILE", folder.to_str().unwrap())]);
        let config = Config::load(&environment).unwrap();
        std::fs::remove_file(&folder).unwrap();
        assert!(!format!("{config:?}").contains("canary") && !config.shown().contains("the database"));
        assert!(config.shown().contains("postgres://me:********@127.0.0.1/d"), "{}", config.shown());
        assert!(faults([("SA01_DB_DSN_FILE", "/nowhere")]).contains("/nowhere, which cannot be read"));
        assert!(faults([("SA01_DB_DSN_FILE", "/x"), ("SA01_DB_DSN", "y")]).contains("both set"));
    }

    #[test]
    fn brokers_are_configured_by_their_old_names_and_their_password_is_never_shown() {
        let variables = [
            ("KAFKA_BOOTSTRAP_SERVERS", "old:9092"),
            ("SA01_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,kafka2:9092"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_SASL_MECHANISM", "PLAIN"),
            ("KAFKA_SASL_USERNAME", "me"),
            ("KAFKA_SASL_PASSWORD", "canary"),
            ("PUBLISH_KAFKA_TIMEOUT_SECONDS", "2.0"),
        ];
        let config = Config::load(&Environment::of(variables)).unwrap();
        assert_eq!(config.kafka.bootstrap_servers, "kafka:9092,kafka2:9092");
        assert_eq!(config.kafka.timeout().as_secs(), 2);
        assert!(!format!("{config:?}").contains("canary") && config.shown().contains("sasl_password = \"********\""));
        let text = faults([
            ("KAFKA_BOOTSTRAP_SERVERS", "http://kafka"),
            ("KAFKA_SASL_PASSWORD", "canary"),
            ("PUBLISH_KAFKA_TIMEOUT_SECONDS", "0"),
        ]);
        for named in ["kafka.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS)", "kafka.security_protocol", "3 faults"] {
            assert!(text.contains(named) && !text.contains("canary"), "{named} is missing in {text}");
        }
    }

    #[test]
    fn a_file_overrides_the_overlay_and_may_hold_no_secret() {
        let file = std::env::temp_dir().join(format!("sa01-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&file, "[turns]\nmax_attempts = 7\n[server]\nport = 1\n").unwrap();
        let named = file.to_str().unwrap();
        let config = Config::load(&Environment::of([("SA01_CONFIG", named), ("PORT", "2")])).unwrap();
        assert_eq!((config.turns.max_attempts, config.server.port), (7, 2));
        std::fs::write(&file, "[database]\ndsn = \"postgres://me:canary@h/d\"\n").unwrap();
        let text = faults([("SA01_CONFIG", named)]);
        assert!(text.contains("database.dsn") && !text.contains("canary"), "{text}");
        std::fs::write(&file, "[turns\nmax_attempts = 7").unwrap();
        assert!(faults([("SA01_CONFIG", named)]).contains(named));
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_configuration() {
        let config = Config::load(&Environment::default()).unwrap();
        let file = std::env::temp_dir().join(format!("sa01-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&file, config.shown()).unwrap();
        let again = Config::load(&Environment::of([("SA01_CONFIG", file.to_str().unwrap())])).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(config.shown(), again.shown());
    }
}
