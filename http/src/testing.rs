//! A door over a system whose database is away: what the door decides by itself can be seen, and what it asks is
//! answered as in an outage.

#![expect(clippy::expect_used, reason = "a fixture that cannot be built is a failed test")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    body::{MessageBody, to_bytes},
    dev::ServiceResponse,
    http::{Method, StatusCode, header::HeaderMap},
    test::{TestRequest, call_service, init_service},
};
use futures_util::future::LocalBoxFuture;
use prometheus::Registry;
use serde_json::Value;
use somaagent_actors::{
    audit::queries::Trail,
    contents::Contents,
    conversation::{Closing, ConversationMetrics, Conversations, Deps, queries::Reads},
    dead_letters::{DeadLetters, Ports, queries::LetterReads},
    domain::memory::MemorySpace,
    extraction::{ExtractionSettings, Extractor},
    identity::{ApiKeys, Verifier, api_keys::ApiKeyMetrics},
    llm::{ModelClient, ModelProbe, ModelSettings},
    memory::{
        jobs::{ExportJobMetrics, ExportJobs},
        queries::Memories,
    },
    policy::{Policy, PolicySettings},
    settings::{Operators, Settings, SettingsMetrics},
    store::{Connections, Store},
    uploads::{
        UploadMetrics, Uploads,
        downloads::Attachments,
        scanner::{AntivirusSettings, ScannerMetrics, Scanners},
        settings::UploadSettings,
    },
};
use somaagent_supervision::{Probe, Strategy, SupervisorSpec, Tree};
use time::OffsetDateTime;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};

use crate::{
    door::{Component, Condition, Door, Draining, Facts, Finding, Scope, Weight},
    server::{Shared, app},
    settings::DoorSettings,
};

/// A reply, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Status and problem code.
    pub(crate) fn problem(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Reads the whole reply.
async fn read<B: MessageBody>(response: ServiceResponse<B>) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = to_bytes(response.into_body()).await.unwrap_or_default();
    Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}

/// A request as a program on this machine sends it.
pub(crate) fn request(method: Method, uri: &str) -> TestRequest {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 4711));
    TestRequest::default().method(method).uri(uri).peer_addr(peer).insert_header(("Host", "127.0.0.1:8010"))
}

/// A request with a JSON body.
pub(crate) fn with_body(method: Method, uri: &str, body: &str) -> TestRequest {
    request(method, uri).insert_header(("Content-Type", "application/json")).set_payload(body.to_owned())
}

/// A door to knock at.
pub(crate) struct TestDoor {
    service: Box<dyn Fn(TestRequest) -> LocalBoxFuture<'static, Answer>>,
    /// Begins its shutdown.
    pub(crate) draining: Draining,
}

impl TestDoor {
    /// A door with the given settings, at which nobody has to prove who they are.
    pub(crate) async fn new(settings: &DoorSettings) -> Self {
        Self::before(settings, |door| door).await
    }

    /// A door with default settings, changed.
    pub(crate) async fn with(change: impl FnOnce(Door) -> Door) -> Self {
        Self::before(&DoorSettings::default(), change).await
    }

    /// A door at which everybody must, to `verifier`.
    pub(crate) async fn guarded(verifier: Verifier) -> Self {
        Self::guarded_with(verifier, |door| door).await
    }

    /// A door at which everybody must, changed.
    pub(crate) async fn guarded_with(verifier: Verifier, change: impl FnOnce(Door) -> Door) -> Self {
        let settings = DoorSettings { require_auth: true, ..DoorSettings::default() };
        Self::before(&settings, |door| change(Door { verifier: Some(verifier), ..door })).await
    }

    /// A door with the given settings, changed.
    pub(crate) async fn before(settings: &DoorSettings, change: impl FnOnce(Door) -> Door) -> Self {
        let registry = Registry::new();
        let door = change(dark(&registry));
        let draining = door.draining.clone();
        let shared = Shared::new(settings, door, &registry).expect("fresh registry");
        let service = Rc::new(init_service(app(&shared)).await);
        let service = move |request: TestRequest| -> LocalBoxFuture<'static, Answer> {
            let service = Rc::clone(&service);
            Box::pin(async move { read(call_service(&*service, request.to_request()).await).await })
        };
        Self { service: Box::new(service), draining }
    }

    /// Sends one request.
    pub(crate) async fn send(&self, request: TestRequest) -> Answer {
        (self.service)(request).await
    }
}

/// Sends one request to a door with default settings.
pub(crate) async fn ask(request: TestRequest) -> Answer {
    TestDoor::new(&DoorSettings::default()).await.send(request).await
}

/// Everything behind a door, without a database.
pub(crate) fn dark(registry: &Registry) -> Door {
    let tree = Tree::new(registry).expect("fresh registry");
    let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
    let nowhere = Connections::nowhere().expect("a constant address");
    let store = Store::new(nowhere, Duration::from_secs(1), Handle::current());
    let model = ModelSettings {
        base_url: "http://127.0.0.1:1/v1".to_owned(),
        model: "none".to_owned(),
        ..ModelSettings::default()
    };
    let dialogue_model = ModelProbe::new(&model).expect("a usable endpoint");
    let ((_journal, journal), (_recall, recall)) = (Probe::new(1), Probe::new(1));
    let ((_sync, write_through), (_service, forget)) = (Probe::new(1), Probe::new(1));
    let extractor = Extractor::new("/nowhere/at/all".into(), ExtractionSettings::default());
    let contents = Contents::new(store.clone(), extractor, || OffsetDateTime::UNIX_EPOCH);
    let deps = Deps {
        store: store.clone(),
        journal,
        recall,
        policy: Policy::from_settings(&PolicySettings::default()).expect("the shipped policy"),
        contents: contents.clone(),
        model: ModelClient::new(model).expect("a usable endpoint"),
        model_name: "none".into(),
        context_budget: 1000,
        sessions: Arc::default(),
        turns: Arc::default(),
        metrics: ConversationMetrics::register(registry).expect("fresh registry"),
        node: "test".into(),
        slots: Arc::new(Semaphore::new(1)),
        space: Arc::new(MemorySpace { universe: None, namespace: "wm".to_owned() }),
        draining: Arc::default(),
        closing: Closing::default(),
        clock: || OffsetDateTime::UNIX_EPOCH,
        tenant_sessions: false,
        planted: None,
    };
    let (conversations, _crashes) = Conversations::new(deps, root);
    let facts = Facts { version: "1.2.3".to_owned(), responder: "offline", ..Facts::default() };
    let memories = Memories::new(
        store.clone(),
        "table",
        MemorySpace { universe: None, namespace: "wm".to_owned() },
        forget,
        Arc::default(),
        || OffsetDateTime::UNIX_EPOCH,
    );
    let counted = ExportJobMetrics::register(registry).expect("fresh registry");
    Door {
        conversations,
        dead_letters: DeadLetters::new(LetterReads::new(store.clone(), vec![]), unanswered()),
        export_jobs: ExportJobs::new(memories.clone(), Arc::default(), counted, Probe::new(1).1),
        memories,
        api_keys: ApiKeys::new(
            store.clone(),
            || OffsetDateTime::UNIX_EPOCH,
            ApiKeyMetrics::register(registry).expect("fresh registry"),
        ),
        attachments: Attachments::new(store.clone()),
        contents,
        trail: Trail::new(store.clone()),
        uploads: uploads(store.clone(), registry, &UploadSettings::default()),
        settings: Settings::new(
            store.clone(),
            || OffsetDateTime::UNIX_EPOCH,
            Operators::Everybody,
            UploadSettings::default().rules(&AntivirusSettings::default()),
            SettingsMetrics::register(registry).expect("fresh registry"),
        ),
        reads: Reads::new(store),
        write_through,
        verifier: None,
        sign_in: None,
        is_seen_by_tls: false,
        scanners: Scanners::none(ScannerMetrics::register(registry).expect("fresh registry")),
        dialogue_model,
        policy: Policy::from_settings(&PolicySettings::default()).expect("the shipped policy"),
        membership: None,
        tree,
        components: components(),
        facts: Arc::new(facts),
        draining: Draining::default(),
    }
}

/// Uploads into `store` that are held to `settings`.
pub(crate) fn uploads(store: Store, registry: &Registry, settings: &UploadSettings) -> Uploads {
    let (_, rules) = watch::channel(Arc::new(settings.rules(&AntivirusSettings::default())));
    let metrics = UploadMetrics::register(registry).expect("fresh registry");
    Uploads::new(store, rules, metrics, || OffsetDateTime::UNIX_EPOCH)
}

/// Ports to nobody.
fn unanswered() -> Ports {
    Ports {
        reprocess: Probe::new(1).1,
        reprocess_all: Probe::new(1).1,
        cancel: Probe::new(1).1,
        discard: Probe::new(1).1,
        purge: Probe::new(1).1,
    }
}

fn components() -> Arc<[Component]> {
    let down = || std::future::ready(Finding::not_ok(Condition::Down, "connection refused"));
    let stuck = || async { std::future::pending().await };
    Arc::new([
        Component::new("postgres", Weight::Vital, Scope::Both, || std::future::ready(Finding::ok())),
        Component::new("somabrain_http", Weight::Helpful, Scope::Healthz, down),
        Component::new("memory_replicator", Weight::Shown, Scope::Health, stuck),
    ])
}
