//! Decides who may do what.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::{
    decision::{Decision, PUBLIC},
    fault::Fault,
    files::PolicyFiles,
    metrics::PolicyMetrics,
    opa::Opa,
    rego::{PolicyError, Rego},
    remote::RemoteError,
    request::{Asker, Context, Input, Subject, Written},
    settings::PolicySettings,
    shadow::{Difference, Made, Shadow},
};
use crate::{breaker::BreakerState, domain::ids::Tenant};

/// A policy that is ready to decide. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Policy {
    judge: Arc<Judge>,
    shadow: Option<Arc<Shadow>>,
    tenant_sessions: bool,
    report: Option<Report>,
}

/// Where it is told what was decided.
#[derive(Debug, Clone)]
struct Report {
    metrics: PolicyMetrics,
    clock: fn() -> OffsetDateTime,
}

/// Who decides.
#[derive(Debug)]
enum Judge {
    /// Rego in this process.
    Inside(Rego),
    /// An OPA on the network; what is everybody's is decided here, by the shipped policy.
    Outside { opa: Box<Opa>, everybodys: Rego },
}

impl Policy {
    /// The policy of these settings: their OPA, else their files, which are read and compiled. It blocks, so it is for the start;
    /// nothing is sent.
    ///
    /// # Errors
    /// [`PolicyError`]: the first of [`Policy::faults`].
    pub fn from_settings(settings: &PolicySettings) -> Result<Self, PolicyError> {
        Self::read(settings).map_err(|mut faults| faults.remove(0))
    }

    /// All that is wrong with the settings and the files that they name, so that it can be told at once. It blocks like
    /// [`Policy::from_settings`].
    #[must_use]
    pub fn faults(settings: &PolicySettings) -> Vec<PolicyError> {
        Self::read(settings).err().unwrap_or_default()
    }

    fn read(settings: &PolicySettings) -> Result<Self, Vec<PolicyError>> {
        let candidate = settings.shadow_dir.as_deref().map(|dir| {
            let candidate = PolicyFiles::read(dir).and_then(|files| Rego::tried(&files, settings.tenant_sessions));
            candidate.map_err(|error| PolicyError::Candidate(Box::new(error)))
        });
        match (Self::deciding(settings), candidate.transpose()) {
            (Ok(policy), Ok(candidate)) => {
                Ok(Self { shadow: candidate.map(|candidate| Arc::new(Shadow::new(candidate))), ..policy })
            }
            (policy, candidate) => Err(policy.err().into_iter().flatten().chain(candidate.err()).collect()),
        }
    }

    fn deciding(settings: &PolicySettings) -> Result<Self, Vec<PolicyError>> {
        let Some(url) = settings.decision_url()? else {
            let policy = settings.files().and_then(|files| Self::load(&files, settings.tenant_sessions));
            return policy.map_err(|error| vec![error]);
        };
        let judge = || {
            let opa = Opa::new(url, settings.manners(), settings.cache_ttl()).map_err(PolicyError::Client)?;
            let everybodys = Rego::new(&PolicyFiles::shipped())?;
            Ok(Judge::Outside { opa: Box::new(opa), everybodys })
        };
        Ok(Self::of(judge().map_err(|error| vec![error])?, settings.tenant_sessions))
    }

    /// Compiles a policy. `tenant_sessions` is told to it: whether everybody of a tenant may touch all of its sessions.
    ///
    /// # Errors
    /// [`PolicyError::Compile`]; [`PolicyError::NoDecision`] if it does not allow a public page, which tells at start
    /// what would close every door later.
    pub fn load(files: &PolicyFiles, tenant_sessions: bool) -> Result<Self, PolicyError> {
        Ok(Self::of(Judge::Inside(Rego::tried(files, tenant_sessions)?), tenant_sessions))
    }

    fn of(judge: Judge, tenant_sessions: bool) -> Self {
        Self { judge: Arc::new(judge), shadow: None, tenant_sessions, report: None }
    }

    /// The same, telling what it decides. A candidate is asked only by such a policy: it would have nobody to tell.
    #[must_use]
    pub fn reporting(self, metrics: PolicyMetrics, clock: fn() -> OffsetDateTime) -> Self {
        Self { report: Some(Report { metrics, clock }), ..self }
    }

    /// Where it is counted what is decided.
    pub(super) fn metrics(&self) -> Option<&PolicyMetrics> {
        self.report.as_ref().map(|report| &report.metrics)
    }

    /// What a candidate would have decided otherwise for a tenant, in this process, the latest first; nothing if there is none.
    #[must_use]
    pub fn differences(&self, tenant: &Tenant) -> Option<Vec<Difference>> {
        self.shadow.as_ref().map(|shadow| shadow.differences(tenant))
    }

    /// How the OPA on the network was when it was last asked; nothing if the policy is inside the process.
    #[must_use]
    pub fn opa_state(&self) -> Option<BreakerState> {
        match &*self.judge {
            Judge::Inside(_) => None,
            Judge::Outside { opa, .. } => Some(opa.state()),
        }
    }

    /// Whether something answered at the address of the OPA when it was last asked there, with a decision or without.
    #[must_use]
    pub fn opa_answers(&self) -> bool {
        matches!(&*self.judge, Judge::Outside { opa, .. } if opa.answers())
    }

    /// How long the OPA on the network is left alone from now on, because it failed: until then nobody need ask again.
    #[must_use]
    pub fn left_alone_for(&self) -> Option<Duration> {
        match &*self.judge {
            Judge::Inside(_) => None,
            Judge::Outside { opa, .. } => opa.left_alone_for(),
        }
    }

    /// Decides whether `subject` may do `action` to `resource`. `action` is one of those that operations declare (`x-action`), or of
    /// those that actors ask for; `resource` is what it is done to, such as `message` or a tool's name.
    ///
    /// Inside the process it takes microseconds, waits for nothing, and no lock is held meanwhile. An OPA is waited for no longer
    /// than the settings say, and is not asked about what is [`PUBLIC`]: whether this process is well must be known without it.
    /// Any fault is a denial with the rule [`POLICY_ERROR`](super::decision::POLICY_ERROR), and is logged.
    pub async fn decide(&self, subject: &Subject<'_>, action: &str, resource: &str, context: &Context<'_>) -> Decision {
        let input = Input::new(subject, action, resource, context, self.tenant_sessions);
        let decision = self.judged(&input, action).await;
        if let (Some(shadow), Some(Report { metrics, clock })) = (&self.shadow, &self.report) {
            let made = Made { tenant: subject.tenant, action, resource, decision: &decision };
            shadow.compare(made, input.value(), metrics, clock());
        }
        decision
    }

    async fn judged(&self, input: &Input, action: &str) -> Decision {
        let Some(written) = input.written() else { return denied(action, String::new(), &Fault::Input) };
        let rego = match &*self.judge {
            // Boxed, because it is large, and a policy inside the process does without.
            Judge::Outside { opa, .. } if action != PUBLIC => return Box::pin(self.hear(opa, action, written)).await,
            Judge::Outside { everybodys: rego, .. } | Judge::Inside(rego) => rego,
        };
        let decided = rego.decide(input.value(), &written.digest);
        decided.unwrap_or_else(|fault| denied(action, written.digest, &fault))
    }

    async fn hear(&self, opa: &Opa, action: &str, written: Written) -> Decision {
        let digest = written.digest.clone();
        let metrics = self.metrics();
        let decided = opa.decide(written, metrics.map(PolicyMetrics::opa_seconds)).await;
        let decision = decided.unwrap_or_else(|fault| denied(action, digest, &fault));
        if let Some(metrics) = metrics {
            metrics.decided_by_opa(&decision);
        }
        decision
    }
}

impl Rego {
    /// A policy that can decide.
    fn tried(files: &PolicyFiles, tenant_sessions: bool) -> Result<Self, PolicyError> {
        let rego = Self::new(files)?;
        rego.try_out(tenant_sessions)?;
        Ok(rego)
    }

    /// Finds out whether it can decide at all.
    fn try_out(&self, tenant_sessions: bool) -> Result<(), PolicyError> {
        let Some(tenant) = Tenant::new("public") else { return Ok(()) };
        let nobody = Asker::Nobody { auth_required: true };
        let subject = Subject { tenant: &tenant, persona_id: None, asker: nobody };
        let input = Input::new(&subject, PUBLIC, "page", &Context::default(), tenant_sessions);
        match self.decide(input.value(), "") {
            Ok(Decision { allow: true, .. }) => Ok(()),
            Ok(_) => {
                let what = "denies what is everybody's, such as whether the process is well";
                Err(PolicyError::NoDecision(what.to_owned()))
            }
            Err(fault) => Err(PolicyError::NoDecision(fault.to_string())),
        }
    }
}

/// The denial for want of a decision. What was left alone was logged when that began.
fn denied(action: &str, input_digest: String, fault: &Fault) -> Decision {
    if matches!(fault, Fault::Unheard(RemoteError::LeftAlone { .. })) {
        tracing::debug!(action, input_digest, "denied, because the policy {fault}");
    } else {
        tracing::error!(action, input_digest, "denied, because the policy {fault}");
    }
    Decision::failed(input_digest)
}
