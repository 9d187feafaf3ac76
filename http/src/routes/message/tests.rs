//! Whom a message goes to and what of it is kept.

use super::*;
use actix_web::{FromRequest as _, HttpMessage as _, test::TestRequest};
use somaagent_actors::domain::caller::Reach;

use crate::middleware::authorise::Authorised;

/// What becomes of a body, sent with these headers.
async fn addressed(headers: &[(&'static str, &'static str)], body: Value) -> Addressed {
    let settings = DoorSettings { default_tenant: "house".to_owned(), ..DoorSettings::default() };
    let request = headers.iter().fold(TestRequest::default(), |request, header| request.insert_header(*header));
    let request = request.app_data(Data::new(settings)).to_http_request();
    request.extensions_mut().insert(Authorised {
        identity: None,
        reach: Reach::Tenant,
        decision: String::new(),
        ends: None,
    });
    let by = By::extract(&request).await.unwrap_or_else(|problem| unreachable!("{problem:?}"));
    let hints = Hints::extract(&request).await.unwrap_or_else(|problem| unreachable!("{problem:?}"));
    let key = IdempotencyKey::extract(&request).await.unwrap_or_else(|problem| unreachable!("{problem:?}"));
    let fields: MessageRequest = serde_json::from_value(body.clone()).unwrap_or_else(|error| unreachable!("{error}"));
    Addressed::new(by, hints, key, fields.session_id, fields.metadata, body)
        .unwrap_or_else(|problem| unreachable!("{problem:?}"))
}

#[actix_web::test]
async fn a_message_without_a_session_begins_one_by_its_key() {
    let body = json!({"message": "hi"});
    let first = addressed(&[("Idempotency-Key", "k")], body.clone()).await;
    assert_eq!(first.session, Addressee::New { key: Some("k".to_owned()) });
    let inside = addressed(&[], json!({"message": "hi", "metadata": {"idempotency_key": "k"}})).await;
    assert_eq!(inside.session, first.session);
    assert_eq!(addressed(&[], body).await.session, Addressee::New { key: None });
    let named = addressed(&[("Idempotency-Key", "k")], json!({"message": "hi", "session_id": Uuid::nil()})).await;
    assert_eq!((named.session, named.idempotency), (Addressee::Named(Uuid::nil()), first.idempotency));
}

#[actix_web::test]
async fn what_the_head_adds_to_a_message_belongs_to_its_fingerprint() {
    let hash = async |headers: &[(&'static str, &'static str)], body: Value| {
        let headers = [&[("Idempotency-Key", "k")], headers].concat();
        addressed(&headers, body).await.idempotency.map(|idempotency| idempotency.body_hash)
    };
    let plain = json!({"message": "hi"});
    let first = hash(&[], plain.clone()).await;
    for name in ["X-Persona-Id", "X-Agent-Profile", "X-Universe-Id"] {
        let given = hash(&[(name, "one")], plain.clone()).await;
        assert_ne!(given, first, "{name}");
        assert_eq!(given, hash(&[(name, "one")], plain.clone()).await, "{name}");
        assert_ne!(given, hash(&[(name, "two")], plain.clone()).await, "{name}");
    }
    let named = json!({"message": "hi", "persona_id": "p", "metadata": {"universe_id": "u"}});
    let unheard = hash(&[("X-Persona-Id", "one"), ("X-Universe-Id", "one")], named.clone()).await;
    assert_eq!(unheard, hash(&[], named).await, "a header that is not heard changes nothing");
}

#[actix_web::test]
async fn names_that_only_the_system_writes_are_dropped() {
    let mut given = json!({"colour": "green", "source": "web"});
    for name in RESERVED {
        given[name] = "forged".into();
    }
    let metadata = addressed(&[], json!({"message": "", "metadata": given})).await.metadata;
    assert_eq!(Value::Object(metadata), json!({"colour": "green", "source": "web", "tenant": "house"}));
}

#[actix_web::test]
async fn a_session_id_that_is_no_uuid_counts_as_none() {
    let given = Uuid::from_u128(5);
    assert_eq!(addressed(&[], json!({"message": "", "session_id": given})).await.session, Addressee::Named(given));
    for odd in [json!("chat-1"), json!(""), Value::Null] {
        let fresh = addressed(&[], json!({"message": "", "session_id": odd})).await;
        assert_eq!(fresh.session.first_id(&fresh.caller).get_version_num(), 4);
    }
}

#[actix_web::test]
async fn the_tenant_is_the_heads_then_the_bodys_then_the_houses() {
    let body = json!({"message": "", "metadata": {"tenant": "body"}});
    for (headers, body, tenant) in [
        (&[("X-Tenant-Id", "head")][..], body.clone(), "head"),
        (&[], body, "body"),
        (&[], json!({"message": ""}), "house"),
    ] {
        let addressed = addressed(headers, body).await;
        assert_eq!((addressed.caller.tenant.as_str(), &addressed.metadata["tenant"]), (tenant, &json!(tenant)));
    }
}

#[actix_web::test]
async fn headers_fill_in_what_the_body_does_not_say() {
    let headers = [("X-Agent-Profile", "head"), ("X-Universe-Id", "head"), ("X-Persona-Id", "p")];
    let body = json!({"message": "", "metadata": {"universe_id": "body", "completed": "true", "turn": "9"}});
    let addressed = addressed(&headers, body).await;
    let expected = json!({"agent_profile_id": "head", "universe_id": "body", "tenant": "house"});
    assert_eq!((Value::Object(addressed.metadata), addressed.persona_id.as_deref()), (expected, Some("p")));
}
