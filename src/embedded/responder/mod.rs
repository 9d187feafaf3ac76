//! The offline responder: what answers when no model is configured.
//!
//! A real HTTP server on a loopback port that speaks the stream of an OpenAI-compatible endpoint, so that the code which
//! calls a model has one path. It holds no state: `answer` composes a text from the messages of the request alone
//! (the recalled memories and the conversation), and this file sends it at the pace of a person who reads along.

mod answer;

use std::io;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use somaagent_actors::domain::context::ChatMessage;
use somaagent_actors::domain::tokens;
use uuid::Uuid;

use super::stand_in::StandIn;

/// Name under which the responder answers; also the value for `model.model` when it is used.
pub const MODEL_NAME: &str = "offline-responder";

/// The section `responder` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ResponderSettings {
    /// Pause before each word of an answer, in milliseconds; 0 sends all at once.
    pub token_delay_ms: u64,
}

impl Default for ResponderSettings {
    fn default() -> Self {
        Self { token_delay_ms: 25 }
    }
}

impl StandIn for ResponderSettings {
    const NAME: &'static str = "offline-responder";

    fn routes(&self, app: &mut ServiceConfig) {
        app.app_data(Data::new(*self))
            .route("/v1/chat/completions", web::post().to(complete))
            .route("/v1/models", web::get().to(models));
    }
}

/// The members of a request that change the answer.
#[derive(Debug, Deserialize)]
struct Ask {
    messages: Vec<ChatMessage>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// One chunk of a stream, and whether it waits its turn.
struct Frame {
    paced: bool,
    data: String,
}

async fn models() -> HttpResponse {
    let model = json!({"id": MODEL_NAME, "object": "model", "owned_by": "somaagent"});
    HttpResponse::Ok().json(json!({"object": "list", "data": [model]}))
}

async fn complete(settings: Data<ResponderSettings>, body: Bytes) -> HttpResponse {
    let ask: Ask = match serde_json::from_slice(&body) {
        Ok(ask) => ask,
        Err(fault) => return refuse(&fault.to_string()),
    };
    let Some(answer) = answer::compose(&ask.messages) else {
        return refuse("the last message must come from the user");
    };
    let id = format!("chatcmpl-{}", Uuid::new_v4().simple());
    let usage = usage(&ask.messages, &answer);
    if !ask.stream {
        let message = json!({"role": "assistant", "content": answer});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        let reply = json!({
            "id": id, "object": "chat.completion", "model": MODEL_NAME, "choices": [choice], "usage": usage,
        });
        return HttpResponse::Ok().json(reply);
    }
    let usage = ask.stream_options.is_some_and(|options| options.include_usage).then_some(usage);
    let pause = Duration::from_millis(settings.token_delay_ms);
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .streaming(paced(frames(&id, &answer, usage.as_ref()), pause))
}

/// The chunks of an answer in the order they are sent.
fn frames(id: &str, answer: &str, usage: Option<&Value>) -> Vec<Frame> {
    let chunk =
        |choices: Value| json!({"id": id, "object": "chat.completion.chunk", "model": MODEL_NAME, "choices": choices});
    let delta = |delta: Value, reason: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "finish_reason": reason}])).to_string()
    };
    let mut frames = vec![Frame { paced: false, data: delta(json!({"role": "assistant", "content": ""}), None) }];
    frames.extend(words(answer).map(|word| Frame { paced: true, data: delta(json!({"content": word}), None) }));
    frames.push(Frame { paced: false, data: delta(json!({}), Some("stop")) });
    if let Some(usage) = usage {
        let mut last = chunk(json!([]));
        last["usage"] = usage.clone();
        frames.push(Frame { paced: false, data: last.to_string() });
    }
    frames.push(Frame { paced: false, data: "[DONE]".to_owned() });
    frames
}

/// The frames as events, each word after its pause.
fn paced(frames: Vec<Frame>, pause: Duration) -> impl Stream<Item = Result<Bytes, io::Error>> {
    stream::iter(frames).then(move |frame| async move {
        if frame.paced && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(Bytes::from(format!("data: {}\n\n", frame.data)))
    })
}

/// A text cut after its blanks, and after a few characters where a script has none.
fn words(text: &str) -> impl Iterator<Item = &str> {
    const LONGEST: usize = 12;
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut blank = false;
        let end = rest.char_indices().enumerate().find(|(count, (_, c))| {
            let starts_next = std::mem::replace(&mut blank, c.is_whitespace()) && !c.is_whitespace();
            starts_next || *count == LONGEST
        });
        let (word, tail) = rest.split_at(end.map_or(rest.len(), |(_, (at, _))| at));
        rest = tail;
        (!word.is_empty()).then_some(word)
    })
}

fn usage(asked: &[ChatMessage], answer: &str) -> Value {
    let input: usize = asked.iter().map(|message| tokens::of_message(&message.content)).sum();
    let output = tokens::of_text(answer);
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn refuse(message: &str) -> HttpResponse {
    let error = json!({"message": message, "type": "invalid_request_error", "code": null});
    HttpResponse::BadRequest().json(json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        reason = "a failed expectation ends the test, the server is a free task, and time against sockets is real"
    )]

    use std::net::{Ipv4Addr, SocketAddr};
    use std::pin::pin;
    use std::time::Instant;

    use actix_web::dev::ServerHandle;
    use somaagent_actors::domain::context::Role;
    use somaagent_actors::llm::{ChatRequest, FinishReason, ModelClient, ModelError, ModelSettings, Piece};

    use super::super::stand_in::start_at;
    use super::*;

    fn question(text: &str) -> ChatRequest {
        ChatRequest::new(vec![ChatMessage::new(Role::User, text)])
    }

    /// Starts a responder that runs until the test's runtime ends.
    fn start(settings: ResponderSettings, address: SocketAddr) -> (SocketAddr, ServerHandle) {
        let (address, server) = start_at(&settings, address).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        (address, handle)
    }

    /// A responder, and the client of the product.
    fn started(token_delay_ms: u64) -> (SocketAddr, ServerHandle, ModelClient) {
        let (address, handle) = start(ResponderSettings { token_delay_ms }, (Ipv4Addr::LOCALHOST, 0).into());
        let base_url = format!("http://{address}");
        let settings = ModelSettings { base_url, model: MODEL_NAME.into(), ..ModelSettings::default() };
        (address, handle, ModelClient::new(settings).unwrap())
    }

    #[actix_web::test]
    async fn the_model_client_gets_a_whole_answer_with_usage() {
        let (_, _, client) = started(0);
        let pieces: Vec<_> = client.stream(question("Hello")).map(Result::unwrap).collect().await;
        let text: String = pieces
            .iter()
            .filter_map(|piece| if let Piece::Text(text) = piece { Some(text.as_str()) } else { None })
            .collect();
        assert!(text.contains("no language model") && text.contains("SA01_LLM_BASE_URL"), "{text}");
        let [.., Piece::Usage(usage), Piece::Finished(FinishReason::Stop)] = pieces.as_slice() else {
            unreachable!("usage and end come last: {pieces:?}")
        };
        assert!(!usage.estimated && usage.output_tokens > 20);
    }

    #[actix_web::test]
    async fn words_come_at_the_stated_pace() {
        let (_, _, client) = started(5);
        let mut pieces = pin!(client.stream(question("Hello")));
        let mut arrivals = Vec::new();
        while let Some(piece) = pieces.next().await {
            if let Piece::Text(_) = piece.unwrap() {
                arrivals.push(Instant::now());
            }
        }
        assert!(arrivals.len() > 20, "{} words", arrivals.len());
        let took = arrivals[arrivals.len() - 1] - arrivals[0];
        let pauses = u32::try_from(arrivals.len()).unwrap() - 1;
        assert!(took >= Duration::from_millis(5) * pauses, "{took:?} for {pauses} pauses");
    }

    #[actix_web::test]
    async fn what_is_no_request_is_refused_in_the_protocols_words() {
        let (_, _, client) = started(0);
        let refused = pin!(client.stream(ChatRequest::default())).next().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), "model-refused");
        assert!(refused.to_string().contains("the last message must come from the user"));
    }

    #[actix_web::test]
    async fn it_stops_and_starts_again_at_the_same_address() {
        let (address, handle, client) = started(0);
        handle.stop(false).await;
        let gone = pin!(client.stream(question("Hello"))).next().await.unwrap();
        assert!(matches!(gone, Err(ModelError::Unreachable { .. })), "{gone:?}");

        start(ResponderSettings::default(), address);
        pin!(client.stream(question("Hello"))).next().await.unwrap().unwrap();
    }

    #[test]
    fn words_put_together_are_the_text() {
        for text in [
            "",
            "a",
            " a  b\n\nc ",
            "grüß dich",
            "日本語の文章はとても長くて空白がない。",
            "https://a.example/very/long",
        ] {
            let cut: Vec<_> = words(text).collect();
            assert_eq!(cut.concat(), text);
            assert!(cut.iter().all(|word| word.chars().count() <= 12 && !word.is_empty()), "{cut:?}");
        }
        assert_eq!(words("one two\n- three").collect::<Vec<_>>(), ["one ", "two\n", "- ", "three"]);
    }
}
