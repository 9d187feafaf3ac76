//! Questions about context: evaluate, feedback, adaptation, and how much is remembered.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    consulting::{Plea, Question, Said, escaped},
    endpoint::Endpoint,
    messages::{Asker, BrainError},
};

/// Asks what the server would put before a question. Treat any failure as "no context": some servers refuse the call
/// in every form. Safe to repeat.
#[derive(Debug, Clone)]
pub struct Evaluate {
    /// The session.
    pub session_id: String,
    /// The text.
    pub query: String,
    /// How many memories at most, 1 to 50.
    pub top_k: u32,
}

/// What the server would put before a question.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Evaluated {
    /// The text to put to a model.
    pub prompt: String,
    /// The memories in it, as the server has them.
    pub memories: Vec<Value>,
    /// Their weights, in the same order.
    pub weights: Vec<f64>,
    /// Members of the answer that have no field here, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Question for Evaluate {
    type Answer = Evaluated;
    const ENDPOINT: Endpoint = Endpoint::Evaluate;

    fn plea(&self, asker: &Asker) -> Result<Plea, BrainError> {
        let top_k = self.top_k.clamp(1, 50);
        let body = json!({
            "session_id": self.session_id, "query": self.query, "top_k": top_k, "tenant_id": asker.tenant.as_str(),
        });
        Ok(Plea { body: Some(body), ..Plea::default() })
    }

    fn read(said: Said) -> Result<Evaluated, String> {
        said.parse()
    }
}

/// Tells the server how good an answer was. Sent once: the server learns from each.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// The session.
    pub session_id: String,
    /// What was asked.
    pub query: String,
    /// What was put to the model.
    pub prompt: String,
    /// What the model said.
    pub response_text: String,
    /// How useful it was.
    pub utility: f64,
    /// The reward, if there is one.
    pub reward: Option<f64>,
    /// Whatever else is known.
    pub metadata: Value,
}

/// What the server made of feedback.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct FeedbackTaken {
    /// Whether it was taken.
    pub accepted: bool,
    /// Whether it changed anything.
    pub adaptation_applied: bool,
    /// Members of the answer that have no field here, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Question for Feedback {
    type Answer = FeedbackTaken;
    const ENDPOINT: Endpoint = Endpoint::Feedback;

    fn plea(&self, asker: &Asker) -> Result<Plea, BrainError> {
        let body = json!({
            "session_id": self.session_id, "query": self.query, "prompt": self.prompt,
            "response_text": self.response_text, "utility": self.utility, "reward": self.reward,
            "metadata": self.metadata, "tenant_id": asker.tenant.as_str(),
        });
        Ok(Plea { body: Some(body), once: true, ..Plea::default() })
    }

    fn read(said: Said) -> Result<FeedbackTaken, String> {
        said.parse()
    }
}

/// Asks what the server has learnt from feedback. Safe to repeat.
#[derive(Debug, Clone, Copy)]
pub struct AdaptationState;

/// What the server has learnt from feedback.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Adaptation {
    /// Weights of retrieval by name: `alpha`, `beta`, `gamma`, `tau`.
    pub retrieval: Map<String, Value>,
    /// Weights of utility by name: `lambda_`, `mu`, `nu`.
    pub utility: Map<String, Value>,
    /// How much feedback it has had.
    pub history_len: Option<u64>,
    /// How fast it learns.
    pub learning_rate: Option<f64>,
    /// Members of the answer that have no field here, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Question for AdaptationState {
    type Answer = Adaptation;
    const ENDPOINT: Endpoint = Endpoint::Adaptation;

    fn plea(&self, asker: &Asker) -> Result<Plea, BrainError> {
        let target = format!("{}?tenant_id={}", Self::ENDPOINT.path(), escaped(asker.tenant.as_str()));
        Ok(Plea { target: Some(target), ..Plea::default() })
    }

    fn read(said: Said) -> Result<Adaptation, String> {
        said.parse()
    }
}

/// Asks how much the working memory of a namespace holds. Safe to repeat.
#[derive(Debug, Clone)]
pub struct CountMemories {
    /// The namespace; never the universe.
    pub namespace: String,
}

/// How much a working memory holds.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct MemoryCount {
    /// Items in it.
    pub wm_items: Option<u64>,
    /// Whether the server leaves its own long-term memory alone for a while.
    pub circuit_open: bool,
    /// Members of the answer that have no field here, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Question for CountMemories {
    type Answer = MemoryCount;
    const ENDPOINT: Endpoint = Endpoint::MemoryMetrics;

    fn plea(&self, asker: &Asker) -> Result<Plea, BrainError> {
        let (tenant, namespace) = (escaped(asker.tenant.as_str()), escaped(&self.namespace));
        let target = format!("{}?tenant={tenant}&namespace={namespace}", Self::ENDPOINT.path());
        Ok(Plea { target: Some(target), ..Plea::default() })
    }

    fn read(said: Said) -> Result<MemoryCount, String> {
        said.parse()
    }
}
