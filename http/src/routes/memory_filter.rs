//! Which memories a request is about: the same names in the queries of lists and exports.

use somaagent_actors::memory::queries::{LogPlace, Reached, ReplicaFilter};
use utoipa::IntoParams;

use crate::{
    door::Door,
    extract::{Query, bad},
    problem::{Code, Problem},
};

/// What lists and exports may be asked for beside the tenant.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `filter` and `caught_up` read")]
pub(crate) struct MemoryParameters {
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
    after: Option<i64>,
    /// `<partition>:<offset>`: waits until the replica has applied that record
    min_offset: Option<String>,
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

/// Waits for the replica if the query asks for that: a writer reads its own writes.
pub(super) async fn caught_up(door: &Door, query: &Query) -> Result<(), Problem> {
    let Some(place) = query.parsed::<LogPlace>("min_offset", "<partition>:<offset>")? else { return Ok(()) };
    match door.memories.reached(place).await? {
        Reached::Yes => Ok(()),
        Reached::Behind(next) => Err(Problem::new(Code::ReplicaBehind).with("next_offset", next)),
    }
}
