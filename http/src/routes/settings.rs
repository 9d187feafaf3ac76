//! Settings that operators save while the process runs, by section.

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, ETAG},
    web::Data,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use somaagent_actors::{
    domain::settings::{Field, Given, GivenField, Kind, SECTIONS, Values},
    settings::View,
};
use utoipa::ToSchema;

use crate::{
    door::Door,
    extract::{By, IfMatch, JsonBody, tag_of},
    problem::Problem,
};

/// The settings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsReply {
    /// The sections.
    settings: SectionsReply,
    /// The version that is saved, which is also the `ETag`; 0 before anything was saved.
    #[schema(minimum = 0)]
    version: i64,
    /// By what the process works that answers.
    in_force: InForceReply,
}

/// The sections of the settings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SectionsReply {
    /// Each of them, in the order in which pages show them.
    sections: Vec<SectionReply>,
}

/// By what a process works.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InForceReply {
    /// The version; null: by none that is saved, because none could be read, so no uploads are taken.
    version: Option<i64>,
    /// Why it is not the one that is saved; null if it is.
    fault: Option<String>,
}

/// A section of the settings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SectionReply {
    /// Its name.
    id: &'static str,
    /// Its title for people.
    title: &'static str,
    /// What it is about.
    description: &'static str,
    /// Where pages show it.
    tab: &'static str,
    /// Its fields, in the order in which pages show them.
    fields: Vec<FieldReply>,
}

/// A field of a section.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldReply {
    /// Its name.
    id: &'static str,
    /// Its title for people.
    title: &'static str,
    /// What it does.
    description: &'static str,
    /// `switch`, `number`, `select`, `text`, `textarea` (a list, one entry a line) or `button`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The value that is in force: true or false for a switch, a number, else a text.
    value: Value,
    /// The least number.
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<u64>,
    /// The greatest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
    /// Between numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    /// The texts that may be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<&'static [&'static str]>,
    /// Whether it is only shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    readonly: bool,
}

impl FieldReply {
    fn new(field: &Field, values: &Values) -> Self {
        let Field { id, title, description, kind } = *field;
        let value = values.get(id).cloned().unwrap_or_else(|| "".into());
        let plain = Self {
            id,
            title,
            description,
            kind: "text",
            value,
            min: None,
            max: None,
            step: None,
            options: None,
            readonly: false,
        };
        match kind {
            Kind::Switch => Self { kind: "switch", ..plain },
            Kind::Number { min, max } => {
                Self { kind: "number", min: Some(min), max: Some(max), step: Some(1), ..plain }
            }
            Kind::Select(options) => Self { kind: "select", options: Some(options), ..plain },
            Kind::Text(_) => plain,
            Kind::List(_) => Self { kind: "textarea", ..plain },
            Kind::Shown(text) => Self { value: text.into(), readonly: true, ..plain },
            Kind::Button => Self { kind: "button", ..plain },
        }
    }
}

impl From<View> for SettingsReply {
    fn from(view: View) -> Self {
        let View { version, values, in_force, fault } = view;
        let sections = SECTIONS.iter().map(|section| SectionReply {
            id: section.id,
            title: section.title,
            description: section.description,
            tab: section.tab,
            fields: section.fields.iter().map(|field| FieldReply::new(field, &values)).collect(),
        });
        let settings = SectionsReply { sections: sections.collect() };
        Self { settings, version, in_force: InForceReply { version: in_force, fault } }
    }
}

/// The settings as a reply. They are not to be kept by anybody: what is in force may change at any time.
pub(super) fn shown(view: View) -> HttpResponse {
    let tag = tag_of(view.version).to_string();
    HttpResponse::Ok()
        .insert_header((ETAG, tag))
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(SettingsReply::from(view))
}

/// What is to be saved.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SettingsBody {
    /// Sections, not necessarily all.
    sections: Vec<SectionBody>,
}

/// A section to be saved. Whatever else is in it is ignored, so it can be sent back as it was read.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SectionBody {
    /// Its name.
    id: String,
    /// Fields of it, not necessarily all.
    fields: Vec<FieldBody>,
}

/// A field to be saved. Whatever else is in it is ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct FieldBody {
    /// Its name.
    id: String,
    /// What it is to be; null or an empty text: as the process is configured.
    #[schema(required)]
    value: Value,
}

impl From<SettingsBody> for Vec<Given> {
    fn from(body: SettingsBody) -> Self {
        let field = |field: FieldBody| GivenField { id: field.id, value: field.value };
        let section = |section: SectionBody| Given {
            section: section.id,
            fields: section.fields.into_iter().map(field).collect(),
        };
        body.sections.into_iter().map(section).collect()
    }
}

/// The settings that can be changed while the process runs, with the values that are in force.
#[utoipa::path(
    get,
    path = "/v1/ui/settings/sections",
    tag = "configuration",
    responses((
        status = 200,
        description = "The settings",
        body = SettingsReply,
        headers(("ETag" = String, description = "The version that is saved")),
    )),
    extensions(
        ("x-action" = json!("settings.read")),
        ("x-problems" = json!(["unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_sections(door: Data<Door>, _by: By) -> Result<HttpResponse, Problem> {
    Ok(shown(door.settings.look().await?))
}

/// Saves settings, for the whole installation: what is given counts at once in this process, and within about a second in every
/// other one. What is not given stays; a field that is given as it was read changes nothing. One wrong field, and nothing is
/// saved.
#[utoipa::path(
    post,
    path = "/v1/ui/settings/sections",
    tag = "configuration",
    request_body(content = SettingsBody, content_type = "application/json"),
    params(("If-Match" = Option<String>, Header, pattern = r#"^(\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*)$"#, description = "Saves only over the version with this `ETag`")),
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
pub(crate) async fn post_sections(
    door: Data<Door>,
    by: By,
    expected: IfMatch,
    body: JsonBody<SettingsBody>,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    Ok(shown(door.settings.save(&by.caller(), expected.0, body.fields.into()).await?))
}
