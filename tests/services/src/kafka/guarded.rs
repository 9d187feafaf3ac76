//! Listeners of a broker that want to know who comes: by password, by certificate, over TLS.

use crate::{papers, port};

/// A user of the guarded listener, who may do nothing there.
pub const GUEST: &str = "guest";
/// The guest's password.
pub const GUEST_PASSWORD: &str = "guest-canary";
/// A user of the listener for SCRAM, who may do everything.
pub const WRITER: &str = "writer";
/// The writer's password.
pub const WRITER_PASSWORD: &str = "writer-canary";

/// A guarded way to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// `SASL_PLAINTEXT` with `PLAIN`; every broker has it.
    Plain,
    /// `SASL_SSL` with `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    Scram,
    /// `SSL` with a certificate of the client.
    Certificate,
}

impl Guard {
    const fn listener(self) -> &'static str {
        match self {
            Self::Plain => "GUARDED",
            Self::Scram => "SCRAM",
            Self::Certificate => "CERTIFICATE",
        }
    }

    const fn protocol(self) -> &'static str {
        match self {
            Self::Plain => "SASL_PLAINTEXT",
            Self::Scram => "SASL_SSL",
            Self::Certificate => "SSL",
        }
    }

    fn properties(self, papers: Option<&papers::Papers>) -> Vec<String> {
        let name = format!("listener.name.{}", self.listener().to_lowercase());
        let module = "org.apache.kafka.common.security";
        let mut lines = match self {
            Self::Plain => vec![
                format!("{name}.sasl.enabled.mechanisms=PLAIN"),
                format!(
                    "{name}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required \
                     user_{GUEST}=\"{GUEST_PASSWORD}\";"
                ),
            ],
            Self::Scram => vec![
                format!("{name}.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512"),
                format!("{name}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;"),
                format!("{name}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;"),
            ],
            Self::Certificate => vec![format!("{name}.ssl.client.auth=required")],
        };
        if let (Self::Scram | Self::Certificate, Some(papers)) = (self, papers) {
            lines.extend([
                format!("{name}.ssl.keystore.type=PEM"),
                format!("{name}.ssl.keystore.location={}", papers.file("server").display()),
                format!("{name}.ssl.truststore.type=PEM"),
                format!("{name}.ssl.truststore.location={}", papers.file("ca").display()),
            ]);
        }
        lines
    }
}

/// The guarded listeners of a broker.
#[derive(Debug)]
pub(super) struct Guarded {
    listeners: Vec<(Guard, u16)>,
    papers: Option<papers::Papers>,
}

impl Guarded {
    /// Those without TLS, and with `papers` those with it.
    pub(super) fn new(papers: Option<papers::Papers>) -> Self {
        let all = [Guard::Plain, Guard::Scram, Guard::Certificate];
        let guards = if papers.is_some() { &all[..] } else { &all[..1] };
        Self { listeners: guards.iter().map(|guard| (*guard, port::free())).collect(), papers }
    }

    pub(super) fn port(&self, guard: Guard) -> Option<u16> {
        self.listeners.iter().find(|(known, _)| *known == guard).map(|(_, port)| *port)
    }

    pub(super) const fn papers(&self) -> Option<&papers::Papers> {
        self.papers.as_ref()
    }

    /// `,NAME://127.0.0.1:port` of each.
    pub(super) fn listeners(&self) -> String {
        let each = |(guard, port): &(Guard, u16)| format!(",{}://127.0.0.1:{port}", guard.listener());
        self.listeners.iter().map(each).collect()
    }

    /// `,NAME:PROTOCOL` of each.
    pub(super) fn protocols(&self) -> String {
        let each = |(guard, _): &(Guard, u16)| format!(",{}:{}", guard.listener(), guard.protocol());
        self.listeners.iter().map(each).collect()
    }

    pub(super) fn properties(&self) -> Vec<String> {
        self.listeners.iter().flat_map(|(guard, _)| guard.properties(self.papers.as_ref())).collect()
    }

    /// Who may do everything.
    pub(super) fn super_users() -> String {
        format!("super.users=User:ANONYMOUS;User:{WRITER};User:CN={}", papers::CLIENT)
    }

    /// What makes the folder of a broker know its users.
    pub(super) fn users() -> [String; 4] {
        let user = |mechanism: &str| format!("{mechanism}=[name={WRITER},password={WRITER_PASSWORD}]");
        ["--add-scram".to_owned(), user("SCRAM-SHA-256"), "--add-scram".to_owned(), user("SCRAM-SHA-512")]
    }
}
