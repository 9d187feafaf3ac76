//! Pages of other sites that the settings name.

use reqwest::Method;
use somaagent_test_services::client::Post;
use somaagent_test_services::tokens::SECRET;

use crate::identity::token;
use crate::stack::{Setup, binary, ended_turns, new_session};

const FRIEND: &str = "https://friend.example";

#[tokio::test]
async fn a_page_of_a_named_site_asks_beforehand_and_reads_a_stream() {
    let stack = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("GATEWAY_CORS_ORIGINS", FRIEND).start().await;
    let ada = stack.client.showing(&token("acme", "ada", "")).unwrap();
    let session = new_session();
    assert_eq!(ada.message(&Post::new("tea").to(&session)).await.unwrap().status, 200);
    ended_turns(&ada, &session, 1).await;
    let path = format!("/v1/session/{session}/events");
    for (origin, asked, allowed) in [(FRIEND, 200, FRIEND), ("https://stranger.example", 403, "")] {
        let preflight = stack.client.request(Method::OPTIONS, &path).header("Origin", origin);
        let preflight = preflight.header("Access-Control-Request-Method", "GET");
        let answer =
            stack.client.send(preflight.header("Access-Control-Request-Headers", "authorization")).await.unwrap();
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (asked, allowed), "{}", answer.text);
        assert_eq!(answer.header("vary").contains("Origin"), asked == 200);
        let mut stream = ada.request(Method::GET, &path).header("Origin", origin).send().await.unwrap();
        let header = |name: &str| stream.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        assert_eq!((stream.status().as_u16(), header("access-control-allow-origin").as_str()), (200, allowed));
        assert_eq!(header("cache-control"), "no-cache");
        assert!(header("vary").contains("Origin"));
        assert!(stream.chunk().await.unwrap().is_some());
    }
}

#[tokio::test]
async fn all_sites_with_a_cookie_or_without_authentication_are_refused_at_the_start() {
    let refused =
        binary().set("GATEWAY_CORS_ORIGINS", "*").set("GATEWAY_CORS_CREDENTIALS", "true").run().await.unwrap();
    assert_eq!(refused.code, Some(78), "{}", refused.output);
    for named in ["cors.origins (GATEWAY_CORS_ORIGINS)", "cors.credentials (GATEWAY_CORS_CREDENTIALS)"] {
        assert!(refused.output.contains(named), "{named} is missing in {}", refused.output);
    }
}
