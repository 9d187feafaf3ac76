//! What the model server says, step by step.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// A place in a script where the server waits for the test.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A gate that lets nothing pass yet.
    #[must_use]
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets `count` waits pass, those to come included.
    pub fn release(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Lets every wait pass from now on.
    pub fn open(&self) {
        self.0.close();
    }

    /// Waits to be let through.
    pub async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// How an answer begins.
#[derive(Debug, Clone)]
pub(super) enum Opening {
    /// 200 and the stream.
    Stream,
    /// A whole answer in place of a stream.
    Answer { status: u16, headers: Vec<(String, String)>, body: String },
    /// Nothing at all; the connection stays open.
    Silence,
}

/// One step of a streamed answer.
#[derive(Debug, Clone)]
pub enum Step {
    /// A piece of the answer's text.
    Text(String),
    /// A piece of `reasoning_content`.
    Reasoning(String),
    /// A piece of a tool call: its index, the first piece's id and name, and a piece of the arguments.
    ToolCall(u32, Option<(String, String)>, String),
    /// The usage: input and output tokens, in a chunk without choices.
    Usage(u64, u64),
    /// The reason why the answer ends.
    Finish(String),
    /// `data: [DONE]`.
    Done,
    /// These bytes as they are.
    Raw(Vec<u8>),
    /// These bytes in pieces of these lengths, each its own chunk; the rest in a last one.
    Split(Vec<u8>, Vec<usize>),
    /// Waits for the test.
    Wait(Gate),
    /// Waits for a length of time.
    Pause(Duration),
    /// Sends nothing more and keeps the connection.
    Stall,
    /// Repeats a text until the client goes.
    Endless(String),
    /// Closes the connection in the middle of the answer.
    Cut,
    /// Resets the connection in the middle of the answer.
    Reset,
}

impl Step {
    pub(super) fn encode(&self, number: u64) -> Vec<u8> {
        match self {
            Self::Text(text) => delta(number, &json!({"content": text})),
            Self::Reasoning(text) => delta(number, &json!({"reasoning_content": text})),
            Self::ToolCall(index, first, arguments) => {
                let mut call = json!({"index": index, "function": {"arguments": arguments}});
                if let Some((id, name)) = first {
                    call["id"] = json!(id);
                    call["type"] = json!("function");
                    call["function"]["name"] = json!(name);
                }
                delta(number, &json!({"tool_calls": [call]}))
            }
            Self::Usage(input, output) => {
                let usage =
                    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
                chunk(number, &json!([]), &usage)
            }
            Self::Finish(reason) => {
                chunk(number, &json!([{"index": 0, "delta": {}, "finish_reason": reason}]), &Value::Null)
            }
            Self::Done => b"data: [DONE]\n\n".to_vec(),
            Self::Raw(bytes) => bytes.clone(),
            _ => Vec::new(),
        }
    }
}

/// A `data:` block with one delta.
pub(super) fn delta(number: u64, delta: &Value) -> Vec<u8> {
    chunk(number, &json!([{"index": 0, "delta": delta, "finish_reason": null}]), &Value::Null)
}

fn chunk(number: u64, choices: &Value, usage: &Value) -> Vec<u8> {
    let chunk = json!({
        "id": format!("chatcmpl-{number}"), "object": "chat.completion.chunk", "created": 1_767_225_600,
        "model": "scripted", "choices": choices, "usage": usage,
    });
    format!("data: {chunk}\n\n").into_bytes()
}

/// A whole answer of the model server.
#[derive(Debug, Clone)]
pub struct Script {
    pub(super) opening: Opening,
    pub(super) steps: Vec<Step>,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// A stream without any step yet.
    #[must_use]
    pub fn new() -> Self {
        Self { opening: Opening::Stream, steps: Vec::new() }
    }

    /// A complete answer of `text`, a word a chunk, with its usage.
    #[must_use]
    pub fn words(text: &str) -> Self {
        Self::pieces(text.split_inclusive(' ')).done()
    }

    /// The text of an answer in these pieces, without its end.
    #[must_use]
    pub fn pieces<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Self {
        pieces.into_iter().fold(Self::new(), Self::text)
    }

    /// A complete answer in these pieces, each but the first behind `gate`.
    #[must_use]
    pub fn gated<'a>(pieces: impl IntoIterator<Item = &'a str>, gate: &Gate) -> Self {
        let steps = pieces.into_iter().enumerate().fold(Self::new(), |script, (number, piece)| {
            if number == 0 { script.text(piece) } else { script.wait(gate).text(piece) }
        });
        steps.wait(gate).done()
    }

    /// An error in place of a stream, in the shape providers use.
    #[must_use]
    pub fn refuse(status: u16, message: &str) -> Self {
        Self::refuse_as(status, &json!({"error": {"message": message, "type": "scripted", "code": null}}))
    }

    /// This JSON in place of a stream.
    #[must_use]
    pub fn refuse_as(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { opening: Opening::Answer { status, headers, body: body.to_string() }, steps: Vec::new() }
    }

    /// No answer at all, on an open connection.
    #[must_use]
    pub fn silence() -> Self {
        Self { opening: Opening::Silence, steps: Vec::new() }
    }

    /// Adds a header to an answer that is no stream.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Opening::Answer { headers, .. } = &mut self.opening {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Adds any step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds a piece of text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.step(Step::Text(text.to_owned()))
    }

    /// Adds a piece of reasoning.
    #[must_use]
    pub fn reasoning(self, text: &str) -> Self {
        self.step(Step::Reasoning(text.to_owned()))
    }

    /// Adds a tool call, whole.
    #[must_use]
    pub fn tool_call(self, id: &str, name: &str, arguments: &str) -> Self {
        self.step(Step::ToolCall(0, Some((id.to_owned(), name.to_owned())), arguments.to_owned()))
    }

    /// Adds a wait for one release of `gate`.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Adds a wait for a length of time.
    #[must_use]
    pub fn pause(self, length: Duration) -> Self {
        self.step(Step::Pause(length))
    }

    /// Adds the reason of the end.
    #[must_use]
    pub fn finish(self, reason: &str) -> Self {
        self.step(Step::Finish(reason.to_owned()))
    }

    /// Adds the usage.
    #[must_use]
    pub fn usage(self, input: u64, output: u64) -> Self {
        self.step(Step::Usage(input, output))
    }

    /// Ends the answer as a provider does: reason `stop`, usage by the number of pieces, `[DONE]`.
    #[must_use]
    pub fn done(self) -> Self {
        let pieces = self.steps.iter().filter(|step| matches!(step, Step::Text(_))).count() as u64;
        self.finish("stop").usage(11, pieces).step(Step::Done)
    }

    /// Cuts the connection here.
    #[must_use]
    pub fn cut(self) -> Self {
        self.step(Step::Cut)
    }

    /// Resets the connection here.
    #[must_use]
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// Says nothing more from here.
    #[must_use]
    pub fn stall(self) -> Self {
        self.step(Step::Stall)
    }
}
