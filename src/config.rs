//! The configuration: composed from its layers, checked as a whole, and then fixed for the life of the process.
//!
//! Each room owns its section's type; this module composes them. Every fault of a configuration is found in one go and
//! names its key. "Nothing configured" means that a key is absent; there is no default for an outside system.

mod dsn;
mod environment;
mod faults;
mod files;
mod layers;
mod read;
mod rooms;
mod secrets;
mod sections;
mod show;
mod strangers;
mod vault;

pub use dsn::DsnError;
pub use environment::Environment;
pub use faults::Faults;
pub use files::{mode_of, open_to_others};
pub use layers::Deployment;
pub use sections::{
    BootSettings, DataSettings, DatabaseSettings, FaultSettings, LogFormat, LogSettings, ServerSettings,
    ShutdownSettings,
};
use somaagent_actors::{
    audit::AuditSettings,
    bus::{kafka::KafkaSettings, table::EventLogSettings},
    conversation::{SessionSettings, TurnSettings},
    dead_letters::DeadLetterSettings,
    extraction::ExtractionSettings,
    identity::{AuthSettings, sign_in::OidcSettings},
    llm::ModelSettings,
    memory::{jobs::ExportJobSettings, settings::MemorySettings},
    outbox::QueueSettings,
    policy::{FgaSettings, PolicySettings},
    replicator::ReplicatorSettings,
    settings::OperatorSettings,
    somabrain::BrainSettings,
    uploads::{scanner::AntivirusSettings, settings::UploadSettings},
    vault::VaultSettings,
};
use somaagent_http::{
    DoorSettings,
    settings::{CorsSettings, HeaderSettings, LimitSettings, WriteThroughSettings},
};
pub use strangers::Stranger;
pub use vault::{Kept, Unanswered};

use crate::embedded::responder::ResponderSettings;
use crate::roles::Role;
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
    /// Who may prove who they are, and how.
    pub auth: AuthSettings,
    /// What callers may do.
    pub policy: PolicySettings,
    /// Where people sign in.
    pub oidc: OidcSettings,
    /// The audit trail.
    pub audit: AuditSettings,
    /// Where it is known who belongs to which tenant.
    pub openfga: FgaSettings,
    /// Headers of its replies.
    pub headers: HeaderSettings,
    /// Which pages of other sites may use the API.
    pub cors: CorsSettings,
    /// How much callers may ask for.
    pub limits: LimitSettings,
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
    /// Reads and changes of memories.
    pub memory: MemorySettings,
    /// Exports of memories that go on by themselves.
    pub export_jobs: ExportJobSettings,
    /// What uploads are held to.
    pub uploads: UploadSettings,
    /// Who scans them.
    pub antivirus: AntivirusSettings,
    /// What reading one of them may cost.
    pub extraction: ExtractionSettings,
    /// Who may save settings while the process runs.
    pub settings: OperatorSettings,
    /// The offline responder.
    pub responder: ResponderSettings,
    /// Deadlines of the start.
    pub boot: BootSettings,
    /// The end of the process.
    pub shutdown: ShutdownSettings,
    /// The log.
    pub log: LogSettings,
    /// Where secrets are kept, if somewhere else.
    pub vault: VaultSettings,
    /// Which are kept there.
    pub kept: Vec<Kept>,
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
        let mut merged = layers::merged(deployment, environment, &mut faults);
        let kept = vault::kept(environment, &merged, &mut faults);
        vault::lay(&environment.vault, &kept, &mut merged, &mut faults);
        let mut sections = Sections::new(merged.clone(), layers::defaults(&mut faults));
        let mut config = Self::compose(deployment, kept, &mut sections, &mut faults);
        sections.finish(&mut faults);
        if let Some(config) = &mut config {
            config.check(&mut faults);
            if !secrets::may_be_known(config) {
                files::check(environment, &mut faults);
            }
            config.shown = show::masked(merged, config.require_auth());
        }
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// The effective configuration as TOML, secrets masked, headed by what is not in it: the environment, the parts that
    /// will run inside the process, and the folder of the database among them.
    #[must_use]
    pub fn shown(&self) -> String {
        let parts = self.embedded().map(|(_, part)| format!("# inside the process: the {part}"));
        let folder = self.data.folder().filter(|_| self.database.dsn.is_none());
        let folder = folder.map(|folder| format!("# data folder: {}", folder.display()));
        let head = std::iter::once(format!("# SA01_ENV={}", self.deployment.name())).chain(parts).chain(folder);
        head.chain(std::iter::once(self.shown.clone())).collect::<Vec<_>>().join("\n")
    }

    /// Whether callers must prove who they are: it is asked for, or somebody has given keys to prove it with.
    #[must_use]
    pub fn require_auth(&self) -> bool {
        self.http.require_auth || self.auth.has_keys() || self.oidc.enabled
    }

    /// Whether only this machine reaches the door: whoever names a proxy, or a host that is not this one, is not alone behind it.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.server.address().is_ok_and(|address| address.is_loopback())
            && self.http.trusted_proxies.trim().is_empty()
            && self.http.allowed_hosts.trim().is_empty()
    }

    /// What is not configured and therefore runs inside the process: the key that would change that, and its name.
    pub(crate) fn embedded(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let parts = [
            (self.database.dsn.is_none(), "database.dsn", "database"),
            (self.needs_model() && self.model.base_url.is_empty(), "model.base_url", "offline responder"),
            (self.brain.base_url.is_empty(), "brain.base_url", "memory service"),
        ];
        parts.into_iter().filter(|(absent, ..)| *absent).map(|(_, key, part)| (key, part))
    }

    fn needs_model(&self) -> bool {
        self.server.role.has(Role::Gateway)
    }

    fn compose(deployment: Deployment, kept: Vec<Kept>, sections: &mut Sections, faults: &mut Faults) -> Option<Self> {
        // Every section is read before any `?`, so that the faults of all of them are reported.
        let data = sections.take("data", faults);
        let server = sections.take("server", faults);
        let database = sections.take("database", faults);
        let sessions = sections.take("sessions", faults);
        let turns = sections.take("turns", faults);
        let http = sections.take("http", faults);
        let auth = sections.take("auth", faults);
        let policy = sections.take("policy", faults);
        let oidc = sections.take("oidc", faults);
        let audit = sections.take("audit", faults);
        let openfga = sections.take("openfga", faults);
        let headers = sections.take("headers", faults);
        let cors = sections.take("cors", faults);
        let limits = sections.take("limits", faults);
        let write_through = sections.take("write_through", faults);
        let model = sections.take("model", faults);
        let brain = sections.take("brain", faults);
        let kafka = sections.take("kafka", faults);
        let outbox = sections.take("outbox", faults);
        let memory_sync = sections.take("memory_sync", faults);
        let event_log = sections.take("event_log", faults);
        let replicator = sections.take("replicator", faults);
        let dead_letters = sections.take("dead_letters", faults);
        let memory = sections.take("memory", faults);
        let export_jobs = sections.take("export_jobs", faults);
        let uploads = sections.take("uploads", faults);
        let antivirus = sections.take("antivirus", faults);
        let extraction = sections.take("extraction", faults);
        let settings = sections.take("settings", faults);
        let responder = sections.take("responder", faults);
        let boot = sections.take("boot", faults);
        let shutdown = sections.take("shutdown", faults);
        let log = sections.take("log", faults);
        let vault = sections.take("vault", faults);
        let planted = sections.take("faults", faults);
        Some(Self {
            deployment,
            data: data?,
            server: server?,
            database: database?,
            sessions: sessions?,
            turns: turns?,
            http: http?,
            auth: auth?,
            policy: policy?,
            oidc: oidc?,
            audit: audit?,
            openfga: openfga?,
            headers: headers?,
            cors: cors?,
            limits: limits?,
            write_through: write_through?,
            model: model?,
            brain: brain?,
            kafka: kafka?,
            outbox: outbox?,
            memory_sync: memory_sync?,
            event_log: event_log?,
            replicator: replicator?,
            dead_letters: dead_letters?,
            memory: memory?,
            export_jobs: export_jobs?,
            uploads: uploads?,
            antivirus: antivirus?,
            extraction: extraction?,
            settings: settings?,
            responder: responder?,
            boot: boot?,
            shutdown: shutdown?,
            log: log?,
            vault: vault?,
            kept,
            faults: planted?,
            shown: String::new(),
        })
    }

    fn check(&self, faults: &mut Faults) {
        self.server.check(self.require_auth(), faults);
        self.database.check(faults);
        if self.database.dsn.is_none() {
            self.data.check(faults);
        }
        rooms::check_http(&self.http, self.server.role.has(Role::Gateway) && !self.require_auth(), faults);
        rooms::check_auth(&self.auth, &self.oidc, self.http.require_auth, faults);
        rooms::check_policy(&self.policy, faults);
        rooms::check_oidc(&self.oidc, faults);
        rooms::check_audit(&self.audit, faults);
        rooms::check_openfga(&self.openfga, self.require_auth(), faults);
        rooms::check_headers(&self.headers, faults);
        rooms::check_cors(&self.cors, self.require_auth(), faults);
        rooms::check_limits(&self.limits, faults);
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
        rooms::check_memory(&self.memory, faults);
        rooms::check_export_jobs(&self.export_jobs, faults);
        rooms::check_uploads(&self.uploads, faults);
        rooms::check_antivirus(&self.antivirus, faults);
        rooms::check_extraction(&self.extraction, faults);
        rooms::check_settings(&self.settings, faults);
        rooms::check_responder(self.responder, faults);
        if !self.kept.is_empty() {
            rooms::check_vault(&self.vault, self.deployment, faults);
        }
        self.boot.check(faults);
        self.shutdown.check(faults);
        self.log.check(faults);
        self.faults.check(faults);
        secrets::check(self, faults);
        if !self.server.role.is_all() && self.database.dsn.is_none() {
            let roles =
                format!("is not set, and a process that is only {} shares its database with others", self.server.role);
            faults.add("database.dsn", roles);
        }
        if self.deployment == Deployment::Prod {
            for (key, part) in self.embedded() {
                faults.add(key, format!("is not set, and SA01_ENV=PROD refuses the embedded {part}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
