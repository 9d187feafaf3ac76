//! Deletions, which only the oldest servers have.

use serde_json::{Map, Value, json};

use super::{
    consulting::{Plea, Question, Said},
    endpoint::Endpoint,
    messages::{Asker, BrainError},
};

/// Asks to delete the memory with a key or id. Safe to repeat.
#[derive(Debug, Clone)]
pub struct DeleteByKey {
    /// The key or id.
    pub id: String,
}

/// Asks to delete what is at a place. Safe to repeat.
#[derive(Debug, Clone)]
pub struct DeleteAt {
    /// The coordinate, as a write was answered with it.
    pub coordinate: Vec<f64>,
}

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq)]
pub enum Deletion {
    /// The server did it; it may have found nothing to delete.
    Done {
        /// How many memories it deleted, if it says so.
        deleted: Option<u64>,
        /// Members of the answer that have no field here, unchanged.
        rest: Map<String, Value>,
    },
    /// The server has no deletion (404 or 405): what it remembers stays.
    Unsupported,
}

impl Deletion {
    fn read(said: Said) -> Result<Self, String> {
        if matches!(said.status, 404 | 405) {
            return Ok(Self::Unsupported);
        }
        let Value::Object(mut rest) = said.body else { return Err("the answer is no JSON object".into()) };
        if rest.get("ok") == Some(&Value::Bool(false)) {
            return Err("the server does not say that it is deleted".into());
        }
        Ok(Self::Done { deleted: rest.remove("deleted").as_ref().and_then(Value::as_u64), rest })
    }
}

impl Question for DeleteByKey {
    type Answer = Deletion;
    const ENDPOINT: Endpoint = Endpoint::DeleteByKey;
    const ACCEPTS: &'static [u16] = &[404, 405];

    fn plea(&self, _: &Asker) -> Result<Plea, BrainError> {
        Ok(Plea { body: Some(json!({"id": self.id})), ..Plea::default() })
    }

    fn read(said: Said) -> Result<Deletion, String> {
        Deletion::read(said)
    }
}

impl Question for DeleteAt {
    type Answer = Deletion;
    const ENDPOINT: Endpoint = Endpoint::DeleteAt;
    const ACCEPTS: &'static [u16] = &[404, 405];

    fn plea(&self, _: &Asker) -> Result<Plea, BrainError> {
        Ok(Plea { body: Some(json!({"coordinate": self.coordinate})), ..Plea::default() })
    }

    fn read(said: Said) -> Result<Deletion, String> {
        Deletion::read(said)
    }
}
