//! What is to be said of an OpenFGA without anybody asking to be let in: for whoever sets it up.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{FgaSettings, MembershipUnknown, RELATION};
use crate::policy::remote::{Remote, RemoteError};

/// The type of object that has members.
const TYPE: &str = "tenant";

/// The store and the model that questions are answered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLook {
    /// What the store is called.
    pub name: String,
    /// The model, by its id; nothing if the store has none.
    pub model: Option<String>,
    /// Whether that model says who is a member of a tenant.
    pub has_members: bool,
}

/// Why there is nothing to be seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// No OpenFGA is configured, or none that could be.
    #[error("no OpenFGA is configured")]
    Absent,
    /// It has no such store.
    #[error("it has no store with this id")]
    NoStore,
    /// The store has no such model.
    #[error("the store has no model with this id")]
    NoModel,
    /// It does not answer, or not as one.
    #[error(transparent)]
    Unknown(#[from] MembershipUnknown),
}

#[derive(Deserialize)]
struct Store {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Models {
    authorization_models: Vec<Model>,
}

#[derive(Deserialize)]
struct OneModel {
    authorization_model: Model,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    type_definitions: Vec<Definition>,
}

#[derive(Deserialize)]
struct Definition {
    #[serde(rename = "type")]
    name: String,
    relations: Option<Map<String, Value>>,
}

/// Looks at the store of the settings and at the model in force there: theirs, else the newest.
///
/// # Errors
/// [`LookError`].
pub async fn look(settings: &FgaSettings) -> Result<StoreLook, LookError> {
    let url = settings.check_url().ok().flatten().ok_or(LookError::Absent)?;
    let store = url.path().trim_end_matches("/check").to_owned();
    let remote = Remote::new("openfga", url, settings.manners()).map_err(|_| LookError::Absent)?;
    let missing = |otherwise: LookError| {
        |error: RemoteError| match error {
            RemoteError::Status(400 | 404) => otherwise,
            error => unknown(error),
        }
    };
    let found = remote.look(&store).await.map_err(missing(LookError::NoStore))?;
    let Store { name } = read(&found)?;
    let models = format!("{store}/authorization-models");
    let model = if let Some(id) = &settings.model_id {
        let found = remote.look(&format!("{models}/{id}")).await.map_err(missing(LookError::NoModel))?;
        Some(read::<OneModel>(&found)?.authorization_model)
    } else {
        let found = remote.look(&models).await.map_err(missing(LookError::NoModel))?;
        // The newest comes first.
        read::<Models>(&found)?.authorization_models.into_iter().next()
    };
    let has_members = model.as_ref().is_some_and(Model::has_members);
    Ok(StoreLook { name, model: model.map(|model| model.id), has_members })
}

impl Model {
    fn has_members(&self) -> bool {
        let related = |definition: &Definition| {
            definition.relations.as_ref().is_some_and(|relations| relations.contains_key(RELATION))
        };
        self.type_definitions.iter().any(|definition| definition.name == TYPE && related(definition))
    }
}

fn read<T: for<'a> Deserialize<'a>>(answer: &[u8]) -> Result<T, LookError> {
    serde_json::from_slice(answer).map_err(|_| unknown(RemoteError::Unreadable))
}

const fn unknown(error: RemoteError) -> LookError {
    LookError::Unknown(MembershipUnknown(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::loopback::{Play, Server};

    const STORE: &str = r#"{"id": "01S", "name": "soma"}"#;

    fn settings(url: &str, model: Option<&str>) -> FgaSettings {
        FgaSettings {
            api_url: Some(format!("{url}/fga")),
            store_id: Some("01S".to_owned()),
            model_id: model.map(str::to_owned),
            ..FgaSettings::default()
        }
    }

    async fn looked(model: Option<&'static str>, answer: &'static str) -> Result<StoreLook, LookError> {
        let server = Server::start(move |request| {
            let path = request.split(' ').nth(1).unwrap_or_default();
            match path {
                "/fga/stores/01S" => Play::json(200, STORE),
                "/fga/stores/01S/authorization-models" | "/fga/stores/01S/authorization-models/01M" => {
                    Play::json(200, answer)
                }
                _ => Play::json(404, "{}"),
            }
        })
        .await;
        look(&settings(&server.url, model)).await
    }

    #[tokio::test]
    async fn the_model_in_force_says_who_is_a_member_or_it_does_not() {
        let newest = r#"{"authorization_models": [
            {"id": "01M", "type_definitions": [{"type": "user"}, {"type": "tenant", "relations": {"member": {}}}]},
            {"id": "01L", "type_definitions": []}]}"#;
        let expected = StoreLook { name: "soma".to_owned(), model: Some("01M".to_owned()), has_members: true };
        assert_eq!(looked(None, newest).await.unwrap(), expected);
        let named = r#"{"authorization_model": {"id": "01M", "type_definitions": [{"type": "tenant", "relations": {"owner": {}}}]}}"#;
        assert!(!looked(Some("01M"), named).await.unwrap().has_members);
        assert_eq!(looked(None, r#"{"authorization_models": []}"#).await.unwrap().model, None);
        assert!(matches!(looked(Some("01X"), "").await, Err(LookError::NoModel)));
        assert!(matches!(looked(None, "<html>").await, Err(LookError::Unknown(_))));
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_told_apart_from_a_server_that_is_away() {
        let server = Server::start(|_| Play::json(404, "{}")).await;
        assert!(matches!(look(&settings(&server.url, None)).await, Err(LookError::NoStore)));
        assert!(matches!(look(&settings("http://127.0.0.1:1", None)).await, Err(LookError::Unknown(_))));
        assert!(matches!(look(&FgaSettings::default()).await, Err(LookError::Absent)));
    }
}
