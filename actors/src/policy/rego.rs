//! Compiles a policy and decides by it.

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

use super::{decision::Decision, fault::Fault, files::PolicyFiles};

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
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder has no policy.
    #[error("{} has no file *.rego that is no test", path.display())]
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
    /// The address of the OPA is unusable.
    #[error("{what}")]
    Address {
        /// The setting, with its section.
        key: &'static str,
        /// What is wrong with it; never its value.
        what: &'static str,
    },
    /// The candidate cannot be used.
    #[error(transparent)]
    Candidate(Box<Self>),
    /// The client of the network cannot be made.
    #[error("the policy's client of the network cannot be made")]
    Client(#[source] reqwest::Error),
}

impl PolicyError {
    /// The setting that is at fault, with its section.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::NoFile { .. } | Self::Compile(_) | Self::NoDecision(_) => "policy.dir",
            Self::Address { key, .. } => key,
            Self::Candidate(_) => "policy.shadow_dir",
            Self::Client(_) => "policy.opa_url",
        }
    }
}

/// A compiled policy, and machines to run it. A machine decides one thing at a time; it is taken out for that, so nothing
/// is locked meanwhile.
#[derive(Debug)]
pub(super) struct Rego {
    program: Arc<Program>,
    idle: Mutex<Vec<RegoVM>>,
}

impl Rego {
    /// Compiles a policy.
    ///
    /// # Errors
    /// [`PolicyError::Compile`].
    pub(super) fn new(files: &PolicyFiles) -> Result<Self, PolicyError> {
        let program = compile(files).map_err(PolicyError::Compile)?;
        Ok(Self { program, idle: Mutex::default() })
    }

    /// Decides about an input, which has this digest.
    pub(super) fn decide(&self, input: Value, input_digest: &str) -> Result<Decision, Fault> {
        let idle = self.idle.lock().pop();
        let mut machine = idle.map_or_else(|| self.machine(), Ok)?;
        machine.set_input(input);
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
