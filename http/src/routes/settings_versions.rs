//! What operators have saved before: listed, compared, restored.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use serde::Serialize;
use serde_json::Value;
use somaagent_actors::{
    domain::{caller::Caller, settings::Difference},
    settings::{Settings, SettingsVersion},
};
use utoipa::ToSchema;

use super::settings::{SettingsReply, shown};
use crate::{
    door::Door,
    extract::{By, IfMatch, Query, SettingsVersionNumber, bad},
    problem::Problem,
    wire::timestamp,
};

const MAX_LIMIT: i64 = 200;
const DEFAULT_LIMIT: i64 = 50;

/// A page of versions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsVersionsReply {
    /// The versions, descending by `number`.
    items: Vec<SettingsVersionReply>,
    /// The `after` of the next page; null at the end.
    next_cursor: Option<i64>,
}

/// A change of the settings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsVersionReply {
    /// Its number.
    number: i64,
    /// Names of the fields that were changed, as `section.field`.
    changed: Vec<String>,
    /// The version that was restored, if one was.
    restored: Option<i64>,
    /// When, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// Whose admin changed them; null if they are another tenant's and the reader is no operator, as are the next two.
    tenant: Option<String>,
    /// Who that was.
    subject: Option<String>,
    /// In which request.
    request_id: Option<String>,
}

impl SettingsVersionReply {
    fn new(version: SettingsVersion, settings: &Settings, reader: &Caller) -> Self {
        let tells = settings.tells_who(reader, &version);
        Self {
            number: version.number,
            changed: version.changed,
            restored: version.restored,
            created_at: timestamp(version.created_at),
            tenant: Some(version.tenant).filter(|_| tells),
            subject: version.subject.filter(|_| tells),
            request_id: version.request_id.filter(|_| tells),
        }
    }
}

/// Lists the changes of the settings, the newest first. The last 1000 are kept.
#[utoipa::path(
    get,
    path = "/v1/ui/settings/versions",
    tag = "configuration",
    params(
        ("after" = Option<i64>, Query, minimum = 0, description = "Only versions with a lower number: the `next_cursor` of a page"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Page size (50)"),
    ),
    responses((status = 200, description = "A page of versions", body = SettingsVersionsReply)),
    extensions(
        ("x-action" = json!("settings.read")),
        ("x-problems" = json!(["unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_versions(
    door: Data<Door>,
    by: By,
    query: Query,
) -> Result<Json<SettingsVersionsReply>, Problem> {
    let (after, limit) = (query.after()?, query.limit(MAX_LIMIT, DEFAULT_LIMIT)?);
    let page = door.settings.versions(after, limit).await?;
    let reader = by.caller();
    let items = page.items.into_iter().map(|version| SettingsVersionReply::new(version, &door.settings, &reader));
    Ok(Json(SettingsVersionsReply { items: items.collect(), next_cursor: page.next }))
}

/// What differs between two versions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsDiffReply {
    /// The one version.
    from: i64,
    /// The other.
    to: i64,
    /// What differs, by section and field.
    changes: Vec<SettingsChangeReply>,
}

/// Something that differs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsChangeReply {
    /// The section.
    section: String,
    /// The field; null: a whole section that has none.
    field: Option<String>,
    /// What it is in the one version; null: as configured. What this version of the program does not know is `************`.
    before: Option<Value>,
    /// What it is in the other.
    after: Option<Value>,
}

impl From<Difference> for SettingsChangeReply {
    fn from(found: Difference) -> Self {
        let Difference { section, field, before, after } = found;
        Self { section, field, before, after }
    }
}

/// Compares two versions of the settings.
#[utoipa::path(
    get,
    path = "/v1/ui/settings/diff",
    tag = "configuration",
    params(
        ("from" = i64, Query, minimum = 0, description = "A version; 0: before anything was saved"),
        ("to" = i64, Query, minimum = 0, description = "Another"),
    ),
    responses((status = 200, description = "What differs", body = SettingsDiffReply)),
    extensions(
        ("x-action" = json!("settings.read")),
        ("x-problems" = json!(["settings-version-not-found", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_diff(door: Data<Door>, _by: By, query: Query) -> Result<Json<SettingsDiffReply>, Problem> {
    let number = |name| query.number(name, 0..=i64::MAX)?.ok_or_else(|| bad(name, "must be given"));
    let (from, to) = (number("from")?, number("to")?);
    let changes = door.settings.compare(from, to).await?.into_iter().map(SettingsChangeReply::from).collect();
    Ok(Json(SettingsDiffReply { from, to, changes }))
}

/// Saves a former version of the settings once more, as a new version; 0 is that before anything was saved. This also mends
/// settings that cannot be read.
#[utoipa::path(
    post,
    path = "/v1/ui/settings/versions/{number}/restore",
    tag = "configuration",
    params(
        ("number" = i64, Path, minimum = 0, description = "The version"),
        ("If-Match" = Option<String>, Header, pattern = r#"^(\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*)$"#, description = "Saves only over the version with this `ETag`"),
    ),
    responses((
        status = 200,
        description = "The settings since then",
        body = SettingsReply,
        headers(("ETag" = String, description = "The version that is saved")),
    )),
    extensions(
        ("x-action" = json!("settings.update")),
        ("x-problems" = json!([
            "operator-required", "settings-moved", "settings-unreadable", "unavailable", "timeout", "draining", "outcome-unknown",
        ])),
    ),
)]
pub(crate) async fn post_restore(
    door: Data<Door>,
    by: By,
    expected: IfMatch,
    number: SettingsVersionNumber,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    Ok(shown(door.settings.restore(&by.caller(), expected.0, number.0).await?))
}
