//! Context for an answer, and feedback on it. The stand-in offers what it finds and learns nothing.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Bytes, Data},
};
use serde_json::{Value, json};

use super::{
    body::{Faults, Fields, Parameters, Trouble, header, tenant},
    memory::{DEFAULT_NAMESPACE, DEFAULT_UNIVERSE, OwnedPlace, search},
    shelf::Shelf,
};

/// `POST /context/evaluate`: what is remembered about a question, also as a text to put before it.
pub(super) async fn evaluate(store: Data<Shelf>, request: HttpRequest, body: Bytes) -> Result<HttpResponse, Trouble> {
    let mut fields = Fields::of_body(&body)?;
    let mut faults = Faults::default();
    let query = fields.required_text("query", &mut faults);
    let top_k = fields.top_k(5, &mut faults);
    let said = fields.name("tenant_id", &mut faults);
    faults.check()?;
    let place = OwnedPlace {
        tenant: tenant(&request, said),
        namespace: header(&request, "X-Namespace").unwrap_or_else(|| DEFAULT_NAMESPACE.into()),
        universe: header(&request, "X-Universe").unwrap_or_else(|| DEFAULT_UNIVERSE.into()),
    };
    let tenant_id = place.tenant.clone();
    let found = search(&store, place, query.clone(), top_k).await?;
    let lines: Vec<_> = found.iter().filter_map(|found| found.value["content"].as_str()).collect();
    let prompt = if lines.is_empty() { query.clone() } else { format!("{}\n\n{query}", lines.join("\n")) };
    Ok(HttpResponse::Ok().json(json!({
        "query": query,
        "prompt": prompt,
        "tenant_id": tenant_id,
        "memories": found.iter().map(|found| found.value.clone()).collect::<Vec<Value>>(),
        "weights": found.iter().map(|found| found.score).collect::<Vec<f64>>(),
        "residual_vector": [],
        "working_memory": [],
        "constitution_checksum": null,
    })))
}

/// `POST /context/feedback`: taken and not acted on.
pub(super) async fn feedback(body: Bytes) -> Result<HttpResponse, Trouble> {
    Fields::of_body(&body)?;
    Ok(HttpResponse::Ok().json(json!({"accepted": true, "adaptation_applied": false, "elapsed_ms": 0})))
}

/// `GET /context/adaptation/state`: the weights of a server that has learnt nothing.
pub(super) async fn adaptation(request: HttpRequest, parameters: Parameters) -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "tenant_id": tenant(&request, parameters.get("tenant_id").cloned()),
        "retrieval": {"alpha": 1.0, "beta": 0.0, "gamma": 0.0, "tau": 1.0},
        "utility": {"lambda_": 0.0, "mu": 0.0, "nu": 0.0},
        "history_len": 0,
        "learning_rate": 0.0,
    }))
}
