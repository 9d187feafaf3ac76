//! Questions about personas and the constitution.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    consulting::{Plea, Question, Said, escaped},
    endpoint::Endpoint,
    messages::{Asker, BrainError},
};

/// Puts a persona in its place. Sent once when it depends on a version: after a lost answer, the same again would be
/// refused because of itself. A refusal with status 412 says that the version is another one by now.
#[derive(Debug, Clone)]
pub struct PutPersona {
    /// Its id; anything but an empty text, `.` and `..`.
    pub id: String,
    /// Its name for people.
    pub display_name: String,
    /// What it is like.
    pub properties: Map<String, Value>,
    /// The `ETag` of the version that is replaced; without one, whatever is there.
    pub if_match: Option<String>,
}

/// Asks for a persona. Safe to repeat.
#[derive(Debug, Clone)]
pub struct GetPersona {
    /// Its id.
    pub id: String,
}

/// Asks to delete a persona. Safe to repeat.
#[derive(Debug, Clone)]
pub struct DeletePersona {
    /// Its id.
    pub id: String,
}

/// A persona as the server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Persona {
    /// The document.
    pub persona: Value,
    /// Its version, for [`PutPersona::if_match`].
    pub etag: Option<String>,
    /// Members of the answer that have no field here, unchanged.
    pub rest: Map<String, Value>,
}

impl Persona {
    fn read(said: Said) -> Result<Self, String> {
        let Value::Object(mut rest) = said.body else { return Err("the answer is no JSON object".into()) };
        let persona = rest.remove("persona").filter(Value::is_object).ok_or("`persona` is no object")?;
        Ok(Self { persona, etag: said.etag, rest })
    }
}

/// The path of a persona. A URL cannot name `.` and `..`: they would lead elsewhere.
fn target(endpoint: Endpoint, id: &str) -> Result<Option<String>, BrainError> {
    if matches!(id, "" | "." | "..") {
        let detail = "no persona can have this id".into();
        return Err(BrainError::Refused { endpoint, status: 422, detail });
    }
    Ok(Some(format!("/persona/{}", escaped(id))))
}

impl Question for PutPersona {
    type Answer = Persona;
    const ENDPOINT: Endpoint = Endpoint::PutPersona;

    fn plea(&self, _: &Asker) -> Result<Plea, BrainError> {
        let Self { id, display_name, properties, if_match } = self;
        let body = json!({"id": id, "display_name": display_name, "properties": properties, "fact": "persona"});
        let (target, if_match) = (target(Self::ENDPOINT, id)?, if_match.clone());
        Ok(Plea { target, once: if_match.is_some(), if_match, body: Some(body) })
    }

    fn read(said: Said) -> Result<Persona, String> {
        Persona::read(said)
    }
}

impl Question for GetPersona {
    type Answer = Option<Persona>;
    const ENDPOINT: Endpoint = Endpoint::GetPersona;
    const ACCEPTS: &'static [u16] = &[404];

    fn plea(&self, _: &Asker) -> Result<Plea, BrainError> {
        Ok(Plea { target: target(Self::ENDPOINT, &self.id)?, ..Plea::default() })
    }

    fn read(said: Said) -> Result<Option<Persona>, String> {
        if said.status == 404 { Ok(None) } else { Persona::read(said).map(Some) }
    }
}

impl Question for DeletePersona {
    /// Whether there was one.
    type Answer = bool;
    const ENDPOINT: Endpoint = Endpoint::DeletePersona;
    const ACCEPTS: &'static [u16] = &[404];

    fn plea(&self, _: &Asker) -> Result<Plea, BrainError> {
        Ok(Plea { target: target(Self::ENDPOINT, &self.id)?, ..Plea::default() })
    }

    fn read(said: Said) -> Result<bool, String> {
        Ok(said.status != 404)
    }
}

/// Asks which constitution holds. Safe to repeat.
#[derive(Debug, Clone, Copy)]
pub struct ConstitutionVersion;

/// Which constitution holds.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Constitution {
    /// Its checksum, if there is one.
    #[serde(rename = "constitution_version")]
    pub version: Option<String>,
    /// Its state in the server's words.
    #[serde(rename = "constitution_status")]
    pub status: Option<String>,
    /// Who has signed it, as the server says it.
    #[serde(rename = "constitution_signatures")]
    pub signatures: Value,
    /// Members of the answer that have no field here, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Question for ConstitutionVersion {
    type Answer = Constitution;
    const ENDPOINT: Endpoint = Endpoint::ConstitutionVersion;

    fn plea(&self, _: &Asker) -> Result<Plea, BrainError> {
        Ok(Plea::default())
    }

    fn read(said: Said) -> Result<Constitution, String> {
        said.parse()
    }
}

/// Asks whether something keeps to the constitution. Safe to repeat.
#[derive(Debug, Clone)]
pub struct ValidateConstitution {
    /// What is judged.
    pub input: Value,
}

impl Question for ValidateConstitution {
    /// The judgement, whose form the server's rules decide.
    type Answer = Map<String, Value>;
    const ENDPOINT: Endpoint = Endpoint::ValidateConstitution;

    fn plea(&self, _: &Asker) -> Result<Plea, BrainError> {
        Ok(Plea { body: Some(json!({"input": self.input})), ..Plea::default() })
    }

    fn read(said: Said) -> Result<Map<String, Value>, String> {
        said.parse()
    }
}

/// Puts a constitution in force. Safe to repeat.
#[derive(Debug, Clone)]
pub struct LoadConstitution {
    /// The whole document, a JSON object.
    pub constitution: Value,
}

/// A constitution is in force.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ConstitutionLoaded {
    /// `saved`, as a rule.
    pub status: Option<String>,
    /// Its checksum, which is its version from now on.
    pub checksum: Option<String>,
    /// Members of the answer that have no field here, unchanged.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Question for LoadConstitution {
    type Answer = ConstitutionLoaded;
    const ENDPOINT: Endpoint = Endpoint::LoadConstitution;

    fn plea(&self, _: &Asker) -> Result<Plea, BrainError> {
        Ok(Plea { body: Some(self.constitution.clone()), ..Plea::default() })
    }

    fn read(said: Said) -> Result<ConstitutionLoaded, String> {
        said.parse()
    }
}
