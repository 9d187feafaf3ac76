//! Compiles the policy and decides by it.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use regorus::{
    Engine, Value,
    languages::rego::compiler::Compiler,
    rvm::{
        Program,
        vm::{RegoVM, VmError},
    },
};

use super::{
    decision::Decision,
    files::PolicyFiles,
    request::{Asker, Context, Input, Subject},
    settings::PolicySettings,
};
use crate::domain::ids::Tenant;

/// The rule that is asked.
const ENTRY: &str = "data.soma.policy.decision";
/// Steps that one decision may take; the shipped policy takes a few hundred at most.
const STEPS_MAX: usize = 25_000;
/// Idle machines that are kept; as many decisions may be made at once without making a new one.
const IDLE_MAX: usize = 64;

/// The policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The folder or a file in it cannot be read.
    #[error("policy.dir: {} cannot be read", path.display())]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder has no policy.
    #[error("policy.dir: {} has no file *.rego that is no test", path.display())]
    NoFile {
        /// The folder.
        path: PathBuf,
    },
    /// The text is no policy, or has no rule `data.soma.policy.decision`.
    #[error("the policy cannot be compiled")]
    Compile(#[source] Box<dyn Error + Send + Sync>),
    /// The rule does not answer with a decision; the words say what it does instead.
    #[error("the policy's rule {ENTRY} {0}")]
    NoDecision(String),
}

/// A policy that is ready to decide. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Policy {
    compiled: Arc<Compiled>,
    tenant_sessions: bool,
}

/// The compiled policy, and machines to run it. A machine decides one thing at a time; it is taken out for that, so nothing
/// is locked meanwhile.
#[derive(Debug)]
struct Compiled {
    program: Arc<Program>,
    idle: Mutex<Vec<RegoVM>>,
}

/// Why there is no decision. Its words hold nothing of the input.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("was asked something that cannot be written")]
    Input,
    #[error("fails: {0}")]
    Failed(String),
    #[error("does not answer with a decision")]
    Odd,
}

impl Policy {
    /// Reads and compiles the policy of these settings. It blocks, so it is for the start.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_settings(settings: &PolicySettings) -> Result<Self, PolicyError> {
        Self::load(&settings.files()?, settings.tenant_sessions)
    }

    /// Compiles a policy. `tenant_sessions` is told to it: whether everybody of a tenant may touch all of its sessions.
    ///
    /// # Errors
    /// [`PolicyError::Compile`]; [`PolicyError::NoDecision`] if it does not allow a public page, which tells at start
    /// what would close every door later.
    pub fn load(files: &PolicyFiles, tenant_sessions: bool) -> Result<Self, PolicyError> {
        let policy = Self { compiled: Arc::new(Compiled::new(files)?), tenant_sessions };
        let nobody = Asker::Nobody { auth_required: true };
        if let Some(tenant) = Tenant::new("public") {
            let subject = Subject { tenant: &tenant, persona_id: None, asker: nobody };
            let input = Input::new(&subject, "public", "page", &Context::default(), tenant_sessions);
            let decided =
                policy.compiled.decide(input, "").map_err(|fault| PolicyError::NoDecision(fault.to_string()))?;
            if !decided.allow {
                let what = "denies what is everybody's, such as whether the process is well";
                return Err(PolicyError::NoDecision(what.to_owned()));
            }
        }
        Ok(policy)
    }

    /// Decides whether `subject` may do `action` to `resource`. `action` is one of those that operations declare (`x-action`), or of
    /// those that actors ask for; `resource` is what it is done to, such as `message` or a tool's name. Takes microseconds, and
    /// no lock is held meanwhile. Any fault is a denial with the rule `policy-error`, and is logged.
    #[must_use]
    pub fn decide(&self, subject: &Subject<'_>, action: &str, resource: &str, context: &Context<'_>) -> Decision {
        let input = Input::new(subject, action, resource, context, self.tenant_sessions);
        let digest = input.digest();
        let decided = match &digest {
            Some(digest) => self.compiled.decide(input, digest),
            None => Err(Fault::Input),
        };
        decided.unwrap_or_else(|fault| {
            let input_digest = digest.unwrap_or_default();
            tracing::error!(action, input_digest, "denied, because the policy {fault}");
            Decision::failed(input_digest)
        })
    }
}

impl Compiled {
    fn new(files: &PolicyFiles) -> Result<Self, PolicyError> {
        let program = compile(files).map_err(PolicyError::Compile)?;
        Ok(Self { program, idle: Mutex::default() })
    }

    fn decide(&self, input: Input, input_digest: &str) -> Result<Decision, Fault> {
        let idle = self.idle.lock().pop();
        let mut machine = idle.map_or_else(|| self.machine(), Ok)?;
        machine.set_input(input.value());
        // A machine that failed is dropped: nobody knows in what state it is.
        let answer = machine.execute().map_err(|error| Fault::failed(&error))?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(machine);
        }
        drop(idle);
        Decision::read(&answer, input_digest).ok_or(Fault::Odd)
    }

    fn machine(&self) -> Result<RegoVM, Fault> {
        let mut machine = RegoVM::new();
        machine.set_max_instructions(STEPS_MAX);
        machine.load_program(Arc::clone(&self.program));
        machine.set_data(Value::new_object()).map_err(|error| Fault::failed(&error))?;
        Ok(machine)
    }
}

impl Fault {
    /// The kind of an error, without what it says: that may repeat values of the input.
    fn failed(error: &VmError) -> Self {
        Self::Failed(format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect())
    }
}

fn compile(files: &PolicyFiles) -> Result<Arc<Program>, Box<dyn Error + Send + Sync>> {
    let mut engine = Engine::new();
    for (name, text) in files.iter() {
        engine.add_policy(name.clone(), text.clone())?;
    }
    let policy = engine.compile_with_entrypoint(&ENTRY.into())?;
    Ok(Compiler::compile_from_policy(&policy, &[ENTRY])?)
}

#[cfg(test)]
mod tests;
