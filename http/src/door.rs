//! What the process hands to the door.

use std::{future::Future, pin::Pin, sync::Arc};

use serde::Serialize;
use somaagent_actors::{
    audit::queries::Trail,
    contents::Contents,
    conversation::{Conversations, queries::Reads},
    dead_letters::DeadLetters,
    identity::{ApiKeys, Verifier, sign_in::SignIn},
    llm::ModelProbe,
    memory::{jobs::ExportJobs, queries::Memories},
    outbox::WriteThrough,
    policy::{Membership, Policy},
    settings::Settings,
    uploads::{Uploads, downloads::Attachments, scanner::Scanners},
};
use somaagent_supervision::{Port, Tree};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::problem::{Code, Problem};

/// Everything handlers work with: cheap handles, the same for every worker.
#[derive(Clone)]
pub struct Door {
    /// Asks to conversations.
    pub conversations: Conversations,
    /// Bounded reads of stored sessions.
    pub reads: Reads,
    /// Takes files.
    pub uploads: Uploads,
    /// What people have sent.
    pub attachments: Attachments,
    /// What is in it.
    pub contents: Contents,
    /// What is remembered.
    pub memories: Memories,
    /// Exports that go on by themselves.
    pub export_jobs: ExportJobs,
    /// Who writes memories at once.
    pub write_through: Port<WriteThrough>,
    /// What could not be carried on.
    pub dead_letters: DeadLetters,
    /// Who changed what.
    pub trail: Trail,
    /// Proves who callers are; without it nobody has to.
    pub verifier: Option<Verifier>,
    /// Proves who programs are that show a key, where callers must prove it; makes, lists and revokes keys.
    pub api_keys: ApiKeys,
    /// Signs people in, where they can.
    pub sign_in: Option<SignIn>,
    /// Whether people see the door by TLS, whether or not they sign in.
    pub is_seen_by_tls: bool,
    /// Have uploads scanned.
    pub scanners: Scanners,
    /// Looks whether the model of conversations is there.
    pub dialogue_model: ModelProbe,
    /// What operators save while the process runs.
    pub settings: Settings,
    /// Decides what callers may do.
    pub policy: Policy,
    /// Knows who belongs to which tenant; without it the token is believed.
    pub membership: Option<Membership>,
    /// The actors, for `/v1/admin/actors`.
    pub tree: Tree,
    /// The parts that health replies name, in their order.
    pub components: Arc<[Component]>,
    /// Facts about this deployment that clients may know.
    pub facts: Arc<Facts>,
    /// Whether the process is shutting down.
    pub draining: Draining,
}

/// A switch that is turned once, when the process begins to shut down.
#[derive(Clone, Debug, Default)]
pub struct Draining(watch::Sender<bool>);

impl Draining {
    /// From now on new messages and new streams are refused and the process reports itself as not ready.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the process is shutting down.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Done once the process is shutting down.
    pub(crate) async fn begun(&self) {
        // It fails only when the switch is gone, which is held here.
        drop(self.0.subscribe().wait_for(|begun| *begun).await);
    }
}

/// The condition of a part or of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It works.
    Ok,
    /// It works less well.
    Degraded,
    /// It does not work.
    Down,
}

/// What a check found.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Finding {
    /// The condition of the part.
    pub status: Condition,
    /// More about it, such as `lag_seconds=0.120`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Finding {
    /// The part works.
    #[must_use]
    pub const fn ok() -> Self {
        Self { status: Condition::Ok, detail: None }
    }

    /// The part is in another condition; `detail` is shown to everybody, so it must hold no address or secret.
    #[must_use]
    pub fn not_ok(status: Condition, detail: impl Into<String>) -> Self {
        Self { status, detail: Some(detail.into()) }
    }
}

/// How much a part matters to the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The whole is in the part's condition.
    Vital,
    /// The whole is at most degraded by it.
    Helpful,
    /// It is shown and changes nothing.
    Shown,
}

/// Which health replies name a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `/v1/health` and `/health`.
    Health,
    /// `/healthz`.
    Healthz,
    /// All of them.
    Both,
}

/// A check: asked anew for every health reply, dropped when it takes longer than the settings allow.
pub type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Finding> + Send>> + Send + Sync>;

/// A part of the system whose health is shown.
pub struct Component {
    /// Its name in replies, such as `postgres`.
    pub name: &'static str,
    /// How much it matters.
    pub weight: Weight,
    /// Where it is shown.
    pub scope: Scope,
    /// How it is checked.
    pub check: Check,
    /// Whether it is one just now.
    pub is_there: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Component {
    /// A part checked by `check`.
    pub fn new<F, Fut>(name: &'static str, weight: Weight, scope: Scope, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Finding> + Send + 'static,
    {
        Self { name, weight, scope, check: Box::new(move || Box::pin(check())), is_there: Box::new(|| true) }
    }

    /// The same, shown only while this is so: a part that can be switched off.
    #[must_use]
    pub fn while_true(self, is_there: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_there: Box::new(is_there), ..self }
    }
}

/// Facts about this deployment that any client may know.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `DEV`, `STAGING`, `PROD` or a name of one's own.
    pub deployment_mode: String,
    /// The version of the program.
    pub version: String,
    /// `offline` while the built-in responder answers, else `model`.
    pub responder: &'static str,
    /// The model that answers, if one is configured.
    pub model: Option<String>,
    /// The universe of new memories.
    pub universe_default: Option<String>,
    /// The namespace of new memories.
    pub namespace_default: String,
    /// Whether a policy service is configured.
    pub opa_configured: bool,
    /// Where memories are kept, without credentials.
    pub somabrain_base_url: Option<String>,
    /// How many tools the model may call.
    pub tools_enabled_count: u64,
}

impl Door {
    /// Refuses new work while the process is shutting down.
    pub(crate) fn accepting(&self) -> Result<(), Problem> {
        if self.draining.is_on() { Err(Code::Draining.into()) } else { Ok(()) }
    }
}
