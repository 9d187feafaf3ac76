//! Composes the offline responder's answers: lookup and quotation, no understanding. No I/O.
//!
//! What can be quoted are the sentences the person said in this conversation and the recalled memories; they are ranked by
//! the words they share with the message, rare words first. A handful of English phrases gets an answer of its own
//! (greetings, "what did I say about …", "list what I told you"); in any other language the most related
//! sentences are quoted. Its own earlier answers are never quoted: they consist of quotations.

mod intent;
mod search;

use somaagent_actors::domain::{
    attached,
    context::{ChatMessage, Role},
};

use intent::{Intent, intent};
use search::{Sentence, quotable, related};

/// How many sentences a list shows.
const MAX_LISTED: usize = 12;

/// Longest quotation, in characters.
const MAX_QUOTE_CHARS: usize = 240;

const GREETING: &str = "Hello! Tell me things, and ask me about them later.";
const WELCOME: &str = "You are welcome.";
const NOTED: &str = "Noted. Ask me about it later and I will look it up.";
const RELATED: &str = "It goes with something you told me before:";
const TOLD: &str = "You told me:";
const REMEMBERED: &str = "I have this in memory:";
const FOUND: &str = "This is what I have on that:";
const NOTHING_FOUND: &str =
    "I found nothing about that in this conversation or in memory. Tell me, and I can repeat it later.";
const LISTED: &str = "This is what you told me so far:";
const NOTHING_TOLD: &str = "You have not told me anything yet.";
const UNREAD: &str = "I do not look into files: a model does.";
const ABILITIES: &str = "I look up what you told me, in this conversation and in memory, and quote it. Try:";

/// Sentences that only the responder says. A memory that holds one is an earlier answer of its own.
const OWN: [&str; 12] = [
    GREETING,
    WELCOME,
    NOTED,
    RELATED,
    TOLD,
    REMEMBERED,
    FOUND,
    NOTHING_FOUND,
    LISTED,
    NOTHING_TOLD,
    UNREAD,
    ABILITIES,
];

const INTRODUCTION: &str =
    "I am the **offline responder**: no language model, only a small program that looks up what you \
told me. To talk to a model, set these variables for any OpenAI-compatible service and start again:

```sh
export SA01_LLM_BASE_URL=https://api.example.com/v1
export SA01_LLM_API_KEY=your-key
export SA01_LLM_MODEL=name-of-the-model
```";

const EXAMPLES: &str =
    "\n\n- *My sister's name is Ada.*\n- *What did I say about my sister?*\n- *List what I told you.*";

/// The answer to the last message, in Markdown; `None` if that message is not the user's.
pub(super) fn compose(messages: &[ChatMessage]) -> Option<String> {
    let (last, before) = messages.split_last()?;
    if last.role != Role::User {
        return None;
    }
    let message = attached::said(&last.content).trim();
    let sentences = quotable(before, message);
    let is_first = !before.iter().any(|earlier| earlier.role == Role::Assistant);
    let mut answer = match intent(message) {
        _ if message.is_empty() && brings_files(last) => String::new(),
        Intent::Greeting => GREETING.to_owned(),
        Intent::Thanks => WELCOME.to_owned(),
        Intent::Help if is_first => format!("{ABILITIES}{EXAMPLES}"),
        Intent::Help => format!("{INTRODUCTION}\n\n{ABILITIES}{EXAMPLES}"),
        Intent::List => list(&sentences),
        Intent::Question { topic } => match related(&sentences, topic).as_slice() {
            [] => NOTHING_FOUND.to_owned(),
            found => quote(found),
        },
        Intent::Statement => match related(&sentences, message).first() {
            Some(best) => format!("{NOTED} {RELATED}\n\n> {}", shorten(best.text)),
            None => NOTED.to_owned(),
        },
    };
    if brings_files(last) || answer == NOTHING_FOUND && before.iter().any(brings_files) {
        add(&mut answer, UNREAD);
    }
    if is_first {
        add(&mut answer, INTRODUCTION);
    }
    Some(answer)
}

fn add(answer: &mut String, paragraph: &str) {
    if !answer.is_empty() {
        answer.push_str("\n\n");
    }
    answer.push_str(paragraph);
}

fn brings_files(message: &ChatMessage) -> bool {
    attached::said(&message.content).len() < message.content.len()
}

fn quote(found: &[&Sentence<'_>]) -> String {
    if let [only] = found {
        let lead = if only.from_memory { REMEMBERED } else { TOLD };
        return format!("{lead}\n\n> {}", shorten(only.text));
    }
    let lines = found.iter().map(|sentence| {
        let origin = if sentence.from_memory { " *(from memory)*" } else { "" };
        format!("- {}{origin}", shorten(sentence.text))
    });
    format!("{FOUND}\n\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// Everything the person stated, in order; questions and pleasantries are left out.
fn list(sentences: &[Sentence<'_>]) -> String {
    let stated: Vec<_> = sentences.iter().filter(|s| intent(s.text) == Intent::Statement).collect();
    if stated.is_empty() {
        return NOTHING_TOLD.to_owned();
    }
    let mut lines: Vec<String> =
        stated.iter().take(MAX_LISTED).map(|sentence| format!("- {}", shorten(sentence.text))).collect();
    if stated.len() > MAX_LISTED {
        lines.push(format!("- … and {} more.", stated.len() - MAX_LISTED));
    }
    format!("{LISTED}\n\n{}", lines.join("\n"))
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_QUOTE_CHARS {
        return text.to_owned();
    }
    let cut: String = text.chars().take(MAX_QUOTE_CHARS).collect();
    format!("{}…", cut.trim_end())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use somaagent_actors::domain::{
        attached::{Attached, Content},
        context::{self, Said},
    };
    use uuid::Uuid;

    use super::*;

    /// A conversation of which the first answer was given.
    fn told(memories: &[&str], said: &[&str], message: &str) -> Vec<ChatMessage> {
        told_with(memories, said, &Said::new(Role::User, message))
    }

    fn told_with(memories: &[&str], said: &[&str], message: &Said) -> Vec<ChatMessage> {
        let memories: Vec<String> = memories.iter().map(|memory| (*memory).to_owned()).collect();
        let mut history = vec![];
        for text in said {
            history.push(Said::new(Role::User, *text));
            history.push(Said::new(Role::Assistant, NOTED));
        }
        let material = context::Material { system_prompt: "Be kind.", memories: &memories, history: &history, message };
        context::build(material, 100_000).unwrap().messages
    }

    fn answer(memories: &[&str], said: &[&str], message: &str) -> String {
        compose(&told(memories, said, message)).unwrap()
    }

    const SAID: [&str; 4] = [
        "My dog is called Rex. He is four.",
        "The launch is on Friday at 10:30.",
        "What is the weather like?",
        "I prefer tea to coffee.",
    ];

    #[test]
    fn the_first_answer_says_what_it_is_and_how_to_connect_a_model() {
        let first = answer(&[], &[], "My dog is called Rex.");
        assert!(first.starts_with(NOTED));
        for part in ["no language model", "SA01_LLM_BASE_URL", "SA01_LLM_API_KEY", "SA01_LLM_MODEL"] {
            assert!(first.contains(part), "{part} in {first}");
        }
        assert!(!answer(&[], &SAID, "I like rain.").contains("no language model"));
    }

    #[test]
    fn questions_are_answered_by_the_sentence_that_shares_most_words() {
        let cases = [
            ("What is my dog's name?", "> My dog is called Rex."),
            ("what did I say about the launch", "> The launch is on Friday at 10:30."),
            ("Do you remember about dogs?", "> My dog is called Rex."),
            ("When do we launch?", "> The launch is on Friday at 10:30."),
            ("Which do I prefer, tea?", "> I prefer tea to coffee."),
        ];
        for (question, quoted) in cases {
            let got = answer(&[], &SAID, question);
            assert_eq!(got, format!("{TOLD}\n\n{quoted}"), "{question}");
        }
    }

    #[test]
    fn memories_are_quoted_as_such() {
        let got = answer(&["The cellar key hangs behind the clock."], &SAID, "Where is the cellar key?");
        assert_eq!(got, format!("{REMEMBERED}\n\n> The cellar key hangs behind the clock."));
        let both = answer(&["Rex the dog loves snow."], &SAID, "What about my dog Rex?");
        assert!(both.contains("\n- My dog is called Rex.") && both.contains("snow. *(from memory)*"), "{both}");
    }

    #[test]
    fn nothing_is_made_up() {
        assert_eq!(answer(&[], &SAID, "Who won the cup?"), NOTHING_FOUND);
        assert_eq!(answer(&[], &["Hello"], "List what I told you."), NOTHING_TOLD);
    }

    #[test]
    fn of_files_it_says_that_it_does_not_look_into_them() {
        let file = Attached {
            id: Uuid::nil(),
            name: "dog.txt".to_owned(),
            mime: "text/plain".to_owned(),
            content: Content::Text { text: "My cat is called Tom.".to_owned(), missing_chars: 0, note: None },
        };
        let asked = |message: &str| {
            let message = Said { files: vec![file.clone()], ..Said::new(Role::User, message) };
            compose(&told_with(&[], &SAID, &message)).unwrap()
        };
        assert_eq!(asked(""), UNREAD);
        assert_eq!(asked("Snow fell."), format!("{NOTED}\n\n{UNREAD}"));
        assert_eq!(asked("Who is Tom?"), format!("{NOTHING_FOUND}\n\n{UNREAD}"));
        assert_eq!(asked("What is my dog's name?"), format!("{TOLD}\n\n> My dog is called Rex.\n\n{UNREAD}"));
        let brought = Said { files: vec![file.clone()], ..Said::new(Role::User, "Look.") };
        let mut later = told_with(&[], &[], &brought);
        later.push(ChatMessage::new(Role::Assistant, NOTED));
        later.push(ChatMessage::new(Role::User, "Who is Tom?"));
        assert_eq!(compose(&later).unwrap(), format!("{NOTHING_FOUND}\n\n{UNREAD}"));
    }

    #[test]
    fn a_list_has_the_statements_and_not_the_questions() {
        let got = answer(&["Ada is my sister."], &SAID, "Please list what I told you");
        let lines: Vec<_> = got.lines().filter_map(|line| line.strip_prefix("- ")).collect();
        let expected = [
            "My dog is called Rex.",
            "He is four.",
            "The launch is on Friday at 10:30.",
            "I prefer tea to coffee.",
            "Ada is my sister.",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_long_list_says_how_much_more_there_is() {
        let said: Vec<String> = (0..20).map(|i| format!("Fact number {i}.")).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        assert!(answer(&[], &said, "What do you know about me?").ends_with("- … and 8 more."));
    }

    #[test]
    fn other_languages_are_quoted() {
        let said = ["Meine Schwester heißt Ada.", "我的狗叫小白。它四岁。", "Мой поезд уходит в девять."];
        for (question, quoted) in [
            ("Wie heißt meine Schwester?", "> Meine Schwester heißt Ada."),
            ("我的狗叫什么？", "> 我的狗叫小白。"),
            ("Когда уходит поезд?", "> Мой поезд уходит в девять."),
        ] {
            assert_eq!(answer(&[], &said, question), format!("{TOLD}\n\n{quoted}"));
        }
    }

    #[test]
    fn related_statements_are_pointed_out() {
        let got = answer(&[], &SAID, "Rex the dog is ill.");
        assert_eq!(got, format!("{NOTED} {RELATED}\n\n> My dog is called Rex."));
    }

    #[test]
    fn its_own_answers_and_the_message_itself_are_never_quoted() {
        let own = answer(&[], &SAID, "What is my dog's name?");
        let got = answer(&[&own, "Where is my dog?"], &[], "Where is my dog?");
        assert!(got.starts_with(NOTHING_FOUND), "{got}");
    }

    #[test]
    fn every_answer_is_recognised_as_its_own() {
        for message in ["Hi", "Thanks", "help", "list what I told you", "Is Rex a dog?", "Why?", "I like rain.", ""] {
            let got = answer(&["Rex is a dog.", "Rex is a black dog."], &[], message);
            assert!(OWN.iter().any(|own| got.contains(own)), "{got}");
        }
    }

    #[test]
    fn long_quotations_are_cut() {
        let long = format!("The speech goes {}.", "on and on ".repeat(200));
        let got = answer(&[], &[&long], "How does the speech go?");
        assert!(got.chars().count() < MAX_QUOTE_CHARS + 40 && got.ends_with('…'), "{got}");
    }

    #[test]
    fn only_a_users_message_is_answered() {
        assert_eq!(compose(&[]), None);
        assert_eq!(compose(&[ChatMessage::new(Role::Assistant, "hm")]), None);
    }
}
