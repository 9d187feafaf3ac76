//! One answer as it grows: decides what each event of a stream means. No I/O.
//!
//! An answer has one round; a second one follows if the model asks for a tool, of which there are none: it is told so
//! once, and what it says then continues the same answer. If it asks again, a plain sentence takes the place of the
//! text it does not write. Models that were offered no tool rarely ask, but some do, and a person wants an answer then,
//! not a dead end.

use std::collections::{BTreeMap, VecDeque};

use super::chunk::{Chunk, Said};
use super::error::{self, ModelError};
use super::{FinishReason, Piece, Usage};
use crate::domain::context::{ChatMessage, Role};
use crate::domain::tokens;

/// What a piece of a call of a tool counts, besides its bytes, in what an answer may have.
const TOOL_CALL_BYTES: usize = 64;

/// What to do after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Read on.
    More,
    /// The endpoint said that nothing follows.
    Over,
}

/// What a finished round asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: the answer is whole and its last pieces are in the queue.
    Done,
    /// Another request with these messages added.
    Ask(Vec<ChatMessage>),
}

/// The growing answer.
#[derive(Debug)]
pub(super) struct Answer {
    pieces: VecDeque<Piece>,
    /// Bytes that may still come, over all rounds.
    room: usize,
    limit: usize,
    /// A text or a thought was queued: from here on nothing may be asked again from the start.
    produced: bool,
    /// Tokens of finished rounds.
    spent: Usage,
    /// Counts that were handed out last.
    told: Option<Usage>,
    rounds: u32,
    round: Round,
}

/// What belongs to one request.
#[derive(Debug, Default)]
struct Round {
    text: String,
    thinking_chars: usize,
    finish: Option<String>,
    over: bool,
    tools: BTreeMap<u32, String>,
    usage: Option<Usage>,
}

impl Answer {
    pub(super) fn new(max_answer_bytes: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            room: max_answer_bytes,
            limit: max_answer_bytes,
            produced: false,
            spent: Usage::default(),
            told: None,
            rounds: 0,
            round: Round::default(),
        }
    }

    /// The next piece to hand out.
    pub(super) fn pop(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }

    /// Whether anything was said that a person may have seen.
    pub(super) const fn produced(&self) -> bool {
        self.produced
    }

    /// Whether the endpoint said how the round ended, so that a missing `[DONE]` costs nothing.
    pub(super) const fn finish_seen(&self) -> bool {
        self.round.finish.is_some() || self.round.over
    }

    /// Forgets an unsuccessful request of which nothing was yielded.
    pub(super) fn start_over(&mut self) {
        self.round = Round::default();
    }

    /// Takes the data of one event.
    ///
    /// # Errors
    /// Not JSON, an error the endpoint reports, or an answer over its limit. Pieces queued before stay valid.
    pub(super) fn take(&mut self, data: &str) -> Result<Step, ModelError> {
        let data = data.trim();
        if data == "[DONE]" {
            self.round.over = true;
            return Ok(Step::Over);
        }
        if data.is_empty() {
            return Ok(Step::More);
        }
        let mut chunk: Chunk = serde_json::from_str(data)
            .map_err(|fault| ModelError::BrokenStream(format!("a chunk is not readable: {fault}")))?;
        if let Some(fault) = chunk.error.take().filter(|fault| !fault.is_null()) {
            return Err(error::of_stream(&fault));
        }
        if let Some(usage) = chunk.usage.take() {
            let count = |tokens: Option<u64>| tokens.unwrap_or_default();
            let (input, output) = (count(usage.prompt_tokens), count(usage.completion_tokens));
            self.round.usage = Some(Usage { input_tokens: input, output_tokens: output, estimated: false });
        }
        self.say(chunk.said())?;
        if self.produced {
            self.tell_usage();
        }
        Ok(Step::More)
    }

    /// Ends the round. `asked` are the messages of its request.
    ///
    /// # Errors
    /// The stream ended before the answer did, or there is no answer in it.
    pub(super) fn end_round(&mut self, asked: &[ChatMessage]) -> Result<Next, ModelError> {
        if !self.finish_seen() {
            return Err(ModelError::BrokenStream("it ended without a finish reason".into()));
        }
        let round = std::mem::take(&mut self.round);
        let finish = match round.finish.as_deref() {
            Some("length" | "max_tokens") => FinishReason::Length,
            Some("content_filter") => FinishReason::ContentFilter,
            Some(reason @ ("error" | "insufficient_system_resource")) => {
                return Err(ModelError::BrokenStream(format!("finish reason {reason}")));
            }
            _ => FinishReason::Stop,
        };
        self.spent = self.spent.plus(round.usage.unwrap_or_else(|| round.estimate(asked)));
        self.rounds += 1;
        if !round.tools.is_empty() {
            let names: Vec<&str> = round.tools.values().map(String::as_str).collect();
            if self.rounds == 1 {
                if !round.text.is_empty() {
                    self.push_text("\n\n")?;
                }
                return Ok(Next::Ask(without_tools(&names, &round.text)));
            }
            if round.text.is_empty() {
                self.push_text(&not_available(&names))?;
            }
        } else if round.text.is_empty() {
            return Err(no_text(finish));
        }
        self.tell_usage();
        self.pieces.push_back(Piece::Finished(finish));
        Ok(Next::Done)
    }

    fn say(&mut self, said: Said) -> Result<(), ModelError> {
        for call in said.tool_calls {
            let name = call.function.name.unwrap_or_default();
            let arguments = call
                .function
                .arguments
                .map_or(0, |given| given.as_str().map_or_else(|| given.to_string().len(), str::len));
            let cost = TOOL_CALL_BYTES + name.len() + arguments;
            self.room = self.room.checked_sub(cost).ok_or_else(|| too_long(self.limit))?;
            self.round.tools.entry(call.index).or_default().push_str(&name);
        }
        self.round.finish = said.finish_reason.or(self.round.finish.take());
        if !said.thinking.is_empty() {
            let (thinking, whole) = self.admit(said.thinking);
            self.round.thinking_chars += thinking.chars().count();
            self.queue(Piece::Thinking(thinking), whole)?;
        }
        if !said.text.is_empty() {
            let (text, whole) = self.admit(said.text);
            self.round.text.push_str(&text);
            self.queue(Piece::Text(text), whole)?;
        }
        Ok(())
    }

    /// The part of a text there is room for, without U+0000 (the database stores no such character, and what is stored
    /// must equal what was streamed), and whether that is all of it.
    fn admit(&mut self, text: String) -> (String, bool) {
        let mut text = if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text };
        let whole = text.len() <= self.room;
        if !whole {
            let mut end = self.room;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        self.room = if whole { self.room - text.len() } else { 0 };
        (text, whole)
    }

    fn queue(&mut self, piece: Piece, whole: bool) -> Result<(), ModelError> {
        self.produced = true;
        self.pieces.push_back(piece);
        if whole { Ok(()) } else { Err(too_long(self.limit)) }
    }

    fn push_text(&mut self, text: &str) -> Result<(), ModelError> {
        let (text, whole) = self.admit(text.to_owned());
        self.queue(Piece::Text(text), whole)
    }

    /// Queues the counts if they changed.
    fn tell_usage(&mut self) {
        let now = self.spent.plus(self.round.usage.unwrap_or_default());
        if now != Usage::default() && self.told.replace(now) != Some(now) {
            self.pieces.push_back(Piece::Usage(now));
        }
    }
}

impl Round {
    fn estimate(&self, asked: &[ChatMessage]) -> Usage {
        let thinking = if self.thinking_chars == 0 { 0 } else { tokens::of_chars(self.thinking_chars) as u64 };
        let usage = Usage::estimate(asked, &self.text);
        Usage { output_tokens: usage.output_tokens + thinking, ..usage }
    }
}

/// What is added to the conversation after a model asked for tools. Plain roles only: an endpoint that was offered no
/// tools refuses the role `tool`, and many chat templates refuse a system message that is not the first.
fn without_tools(names: &[&str], said: &str) -> Vec<ChatMessage> {
    let said = if said.is_empty() { format!("I would like to use {}.", list(names)) } else { said.to_owned() };
    let answer = format!("{} Answer without tools, from what you know.", not_available(names));
    vec![ChatMessage::new(Role::Assistant, said), ChatMessage::new(Role::User, answer)]
}

fn not_available(names: &[&str]) -> String {
    match names {
        [_, _, ..] => format!("The tools {} are not available.", list(names)),
        _ => format!("The tool {} is not available.", list(names)),
    }
}

/// Names as Markdown code; they come from a model, so they are cut and stripped of what would break out of it.
fn list(names: &[&str]) -> String {
    let quoted = names.iter().take(5).map(|name| {
        let name: String = name.chars().filter(|c| !c.is_control() && *c != '`').take(64).collect();
        format!("`{name}`")
    });
    quoted.collect::<Vec<_>>().join(", ")
}

fn too_long(limit: usize) -> ModelError {
    ModelError::AnswerTooLong(format!("more than {limit} bytes"))
}

/// Why a complete stream without any text is no answer.
fn no_text(finish: FinishReason) -> ModelError {
    match finish {
        FinishReason::Stop => ModelError::BrokenStream("it has no text".into()),
        FinishReason::Length => {
            ModelError::AnswerTooLong("the model spent its allowance before it wrote any text".into())
        }
        FinishReason::ContentFilter => ModelError::Refused("its content filter removed the whole answer".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::{Value, json};

    use super::*;

    fn text(content: &str) -> Value {
        json!({"choices": [{"delta": {"content": content}}]})
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"delta": {}, "finish_reason": reason}]})
    }

    fn tool(name: &str) -> Value {
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": name, "arguments": "{}"}}]}}]})
    }

    fn usage(input: u64, output: u64) -> Value {
        json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}})
    }

    fn counted(input_tokens: u64, output_tokens: u64) -> Piece {
        Piece::Usage(Usage { input_tokens, output_tokens, estimated: false })
    }

    fn asked() -> Vec<ChatMessage> {
        vec![ChatMessage::new(Role::User, "hello")]
    }

    fn take_all(answer: &mut Answer, chunks: &[Value]) -> Result<(), ModelError> {
        chunks.iter().try_for_each(|chunk| answer.take(&chunk.to_string()).map(drop))
    }

    fn pieces(answer: &mut Answer) -> Vec<Piece> {
        std::iter::from_fn(|| answer.pop()).collect()
    }

    /// The pieces of a one-round answer.
    fn whole(chunks: &[Value]) -> Result<Vec<Piece>, ModelError> {
        let mut answer = Answer::new(1_000);
        take_all(&mut answer, chunks)?;
        answer.end_round(&asked())?;
        Ok(pieces(&mut answer))
    }

    #[test]
    fn whatever_a_call_of_a_tool_is_made_of_counts_in_the_answers_length() {
        let call = |index: u32, name: &str, arguments: Value| json!({"choices": [{"delta": {"tool_calls": [{"index": index, "function": {"name": name, "arguments": arguments}}]}}]});
        let long = "x".repeat(600);
        for calls in [
            [call(0, &long, json!("")), call(0, &long, json!(""))].to_vec(),
            [call(0, "f", json!(long)), call(0, "", json!(long))].to_vec(),
            [call(0, "f", json!({"a": long})), call(0, "", json!({"b": long}))].to_vec(),
            (0..20).map(|index| call(index, "", json!(""))).collect(),
        ] {
            let taken = take_all(&mut Answer::new(1_000), &calls);
            assert!(matches!(taken, Err(ModelError::AnswerTooLong(_))), "{taken:?}");
        }
    }

    #[test]
    fn text_thinking_usage_and_the_end_become_pieces() {
        let think = json!({"choices": [{"delta": {"reasoning_content": "hm"}}]});
        let got = whole(&[think, text("a"), text("b"), finish("stop"), usage(7, 2)]).unwrap();
        let (a, b) = (Piece::Text("a".into()), Piece::Text("b".into()));
        let expected = [Piece::Thinking("hm".into()), a, b, counted(7, 2), Piece::Finished(FinishReason::Stop)];
        assert_eq!(got, expected);
    }

    #[test]
    fn usage_is_told_once_per_change_and_never_before_the_text() {
        let got = whole(&[usage(7, 0), text("a"), usage(7, 1), usage(7, 1), finish("stop")]).unwrap();
        let told: Vec<_> = got.into_iter().filter(|piece| matches!(piece, Piece::Usage(_))).collect();
        assert_eq!(told, [counted(7, 0), counted(7, 1)]);
    }

    #[test]
    fn usage_is_estimated_where_the_endpoint_does_not_count() {
        let got = whole(&[text("12345678"), finish("stop")]).unwrap();
        assert_eq!(got[1], Piece::Usage(Usage { input_tokens: 5, output_tokens: 2, estimated: true }));
    }

    #[test]
    fn an_answer_stands_when_the_counts_that_come_with_it_make_no_sense() {
        let nonsense = json!({"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 2}});
        let got = whole(&[text("12345678"), finish("stop"), nonsense]).unwrap();
        let estimate = Piece::Usage(Usage { input_tokens: 5, output_tokens: 2, estimated: true });
        assert_eq!(got, [Piece::Text("12345678".into()), estimate, Piece::Finished(FinishReason::Stop)]);
    }

    #[test]
    fn nul_becomes_the_replacement_character() {
        let got = whole(&[text("a\0b"), finish("stop")]).unwrap();
        assert_eq!(got[0], Piece::Text("a\u{FFFD}b".into()));
    }

    #[test]
    fn an_answer_ends_at_its_limit_on_a_character() {
        let mut answer = Answer::new(5);
        let ended = take_all(&mut answer, &[text("abc"), text("dä")]).unwrap_err();
        assert_eq!(ended.code(), "model-answer-too-long");
        assert_eq!(pieces(&mut answer), [Piece::Text("abc".into()), Piece::Text("d".into())]);
    }

    #[test]
    fn endless_tool_arguments_end_at_the_limit_too() {
        let call = json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "xxx"}}]}}]});
        let ended = take_all(&mut Answer::new(5), &[call.clone(), call]).unwrap_err();
        assert_eq!(ended.code(), "model-answer-too-long");
    }

    #[test]
    fn the_end_is_told_by_a_finish_reason_or_done_and_by_nothing_else() {
        assert_eq!(whole(&[text("a")]).unwrap_err().code(), "model-broken-stream");
        let mut answer = Answer::new(10);
        take_all(&mut answer, &[text("a")]).unwrap();
        assert_eq!(answer.take(" [DONE] ").unwrap(), Step::Over);
        assert_eq!(answer.end_round(&asked()).unwrap(), Next::Done);
    }

    #[test]
    fn finish_reasons_are_kept_or_become_errors() {
        let ended = |reason: &str| whole(&[text("a"), finish(reason)]).map(|pieces| pieces.last().cloned());
        assert_eq!(ended("length"), Ok(Some(Piece::Finished(FinishReason::Length))));
        assert_eq!(ended("content_filter"), Ok(Some(Piece::Finished(FinishReason::ContentFilter))));
        assert_eq!(ended("eos"), Ok(Some(Piece::Finished(FinishReason::Stop))));
        assert_eq!(ended("error").unwrap_err().code(), "model-broken-stream");
    }

    #[test]
    fn a_stream_without_text_is_no_answer() {
        let code = |reason: &str| whole(&[finish(reason)]).unwrap_err().code();
        assert_eq!(code("stop"), "model-broken-stream");
        assert_eq!(code("length"), "model-answer-too-long");
        assert_eq!(code("content_filter"), "model-refused");
    }

    #[test]
    fn what_is_not_a_chunk_breaks_the_stream() {
        for data in ["{", "nonsense", "[1]", r#"{"choices":"x"}"#] {
            assert_eq!(Answer::new(9).take(data).unwrap_err().code(), "model-broken-stream", "{data}");
        }
        assert_eq!(Answer::new(9).take(""), Ok(Step::More));
    }

    #[test]
    fn an_asked_tool_is_refused_once_and_the_answer_goes_on() {
        let mut answer = Answer::new(1_000);
        take_all(&mut answer, &[text("Let me see."), tool("web`search"), finish("tool_calls"), usage(5, 1)]).unwrap();
        let Next::Ask(added) = answer.end_round(&asked()).unwrap() else { unreachable!("a second round is due") };
        assert_eq!(added[0], ChatMessage::new(Role::Assistant, "Let me see."));
        assert_eq!(added[1].role, Role::User);
        assert!(added[1].content.starts_with("The tool `websearch` is not available."));

        take_all(&mut answer, &[text("It is 4."), finish("stop"), usage(9, 3)]).unwrap();
        assert_eq!(answer.end_round(&asked()).unwrap(), Next::Done);
        let got = pieces(&mut answer);
        let said: String =
            got.iter().filter_map(|p| if let Piece::Text(t) = p { Some(t.as_str()) } else { None }).collect();
        assert_eq!(said, "Let me see.\n\nIt is 4.");
        assert_eq!(got[got.len() - 2..], [counted(14, 4), Piece::Finished(FinishReason::Stop)]);
    }

    #[test]
    fn a_model_that_insists_on_a_tool_ends_in_a_plain_sentence() {
        let mut answer = Answer::new(1_000);
        for _ in 0..2 {
            take_all(&mut answer, &[tool("search"), finish("tool_calls")]).unwrap();
            if answer.end_round(&asked()).unwrap() == Next::Done {
                break;
            }
        }
        assert_eq!(answer.pop(), Some(Piece::Text("The tool `search` is not available.".into())));
    }
}
