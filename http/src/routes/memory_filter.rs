//! Which memories a request is about: the same names in the queries of lists and exports and in orders of export jobs.

use serde::Deserialize;
use somaagent_actors::{
    domain::ids::Tenant,
    memory::queries::{ExportOf, LogPlace, Reached, ReplicaFilter},
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    door::Door,
    extract::{Query, TENANT_RULE, bad, wrong},
    problem::{Code, Problem},
};

/// Longest text of an order, in bytes. That of a query is bounded by the length of an address.
const MAX_TEXT_BYTES: usize = 4_096;
/// What `min_offset` must look like.
const LOG_PLACE: &str = "<partition>:<offset>";

/// Which memories are asked for. What is absent, or empty, excludes nothing.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub(crate) struct MemorySelection {
    /// The tenant; there is nothing of another one than the caller's
    #[param(ignore)]
    #[schema(max_length = 200, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    tenant: Option<String>,
    /// The persona
    persona_id: Option<String>,
    /// Who said it
    role: Option<String>,
    /// The session it comes from
    session_id: Option<String>,
    /// The memory's `metadata.universe_id`
    universe: Option<String>,
    /// The memory's `namespace`, else its `metadata.namespace`
    namespace: Option<String>,
    /// Text that the memory's JSON contains, in either case
    q: Option<String>,
    /// Told to the log then or later, in seconds since 1970
    min_ts: Option<f64>,
    /// Told to the log then or earlier, in seconds since 1970
    max_ts: Option<f64>,
    /// Only rows with a lower `id`
    #[param(minimum = 0)]
    #[schema(minimum = 0)]
    after: Option<i64>,
    /// `<partition>:<offset>`: waits until the replica has applied that record
    #[param(pattern = "^[0-9]{1,9}:[0-9]{1,18}$")]
    #[schema(pattern = "^([0-9]{1,9}:[0-9]{1,18})?$")]
    min_offset: Option<String>,
    /// Most rows
    #[param(ignore)]
    #[schema(minimum = 1)]
    limit_total: Option<i64>,
}

/// Which memories a query asks for.
pub(super) fn filter(query: &Query) -> Result<ReplicaFilter, Problem> {
    let text = |name| query.text(name).map(|text| text.map(str::to_owned));
    let time = |name| {
        let time = query.parsed::<f64>(name, "a number of seconds since 1970")?;
        if time.is_some_and(|time| !time.is_finite()) {
            return Err(bad(name, "must be a number of seconds since 1970"));
        }
        Ok(time)
    };
    Ok(ReplicaFilter {
        tenant: query.tenant()?.map(|tenant| tenant.to_string()),
        persona_id: text("persona_id")?,
        role: text("role")?,
        session_id: text("session_id")?,
        universe: text("universe")?,
        namespace: text("namespace")?,
        containing: text("q")?,
        min_ts: time("min_ts")?,
        max_ts: time("max_ts")?,
    })
}

/// The part of the log that a query wants to see.
pub(super) fn min_offset(query: &Query) -> Result<Option<LogPlace>, Problem> {
    query.parsed("min_offset", LOG_PLACE)
}

/// What a query wants to export.
pub(super) fn export_of(query: &Query) -> Result<ExportOf, Problem> {
    let limit = query.number("limit_total", 1..=i64::MAX)?.map(i64::unsigned_abs);
    Ok(ExportOf { filter: filter(query)?, after: query.after()?, limit })
}

impl MemorySelection {
    /// The tenant that the body names.
    pub(super) fn tenant(&self) -> Result<Option<Tenant>, Problem> {
        let named = self.tenant.as_deref().map(str::trim).filter(|name| !name.is_empty());
        named.map(|name| Tenant::new(name).ok_or_else(|| wrong(vec!["tenant".into()], TENANT_RULE))).transpose()
    }

    /// What a body wants to export, and which part of the log it wants to see.
    pub(super) fn export_of(self) -> Result<(ExportOf, Option<LogPlace>), Problem> {
        let tenant = self.tenant()?.map(|tenant| tenant.to_string());
        let place = text("min_offset", self.min_offset)?
            .map(|text| text.parse().map_err(|_| wrong(vec!["min_offset".into()], &format!("must be {LOG_PLACE}"))));
        let filter = ReplicaFilter {
            tenant,
            persona_id: text("persona_id", self.persona_id)?,
            role: text("role", self.role)?,
            session_id: text("session_id", self.session_id)?,
            universe: text("universe", self.universe)?,
            namespace: text("namespace", self.namespace)?,
            containing: text("q", self.q)?,
            min_ts: self.min_ts,
            max_ts: self.max_ts,
        };
        let limit = number("limit_total", self.limit_total, 1)?.map(i64::unsigned_abs);
        Ok((ExportOf { filter, after: number("after", self.after, 0)?, limit }, place.transpose()?))
    }
}

fn text(name: &str, value: Option<String>) -> Result<Option<String>, Problem> {
    match value.filter(|text| !text.is_empty()) {
        Some(text) if text.len() > MAX_TEXT_BYTES => {
            Err(wrong(vec![name.into()], &format!("must be at most {MAX_TEXT_BYTES} bytes")))
        }
        text => Ok(text),
    }
}

fn number(name: &str, value: Option<i64>, least: i64) -> Result<Option<i64>, Problem> {
    match value {
        Some(number) if number < least => {
            Err(wrong(vec![name.into()], &format!("must be a whole number, {least} or more")))
        }
        number => Ok(number),
    }
}

/// Refuses an export that does not name its tenant, where that is demanded.
pub(super) fn names_tenant(door: &Door, of: &ExportOf) -> Result<(), Problem> {
    let demanded = door.memories.settings().export_require_tenant;
    if demanded && of.filter.tenant.is_none() { Err(Code::TenantRequired.into()) } else { Ok(()) }
}

/// Waits for the replica if that is asked for: a writer reads its own writes.
pub(super) async fn caught_up(door: &Door, place: Option<LogPlace>) -> Result<(), Problem> {
    let Some(place) = place else { return Ok(()) };
    match door.memories.reached(place).await? {
        Reached::Yes => Ok(()),
        Reached::Behind(next) => Err(Problem::new(Code::ReplicaBehind).with("next_offset", next)),
    }
}
