//! What a message wants, by a few phrases and its form.

use super::search::spoken;

const GREETINGS: [&str; 20] = [
    "hello",
    "hi",
    "hey",
    "hallo",
    "hola",
    "bonjour",
    "salut",
    "ciao",
    "moin",
    "servus",
    "olá",
    "ola",
    "hej",
    "ahoj",
    "namaste",
    "привет",
    "你好",
    "こんにちは",
    "안녕하세요",
    "مرحبا",
];
const GREETING_COMPANIONS: [&str; 9] =
    ["there", "again", "you", "good", "morning", "afternoon", "evening", "day", "everyone"];
const THANKS: [&str; 8] = ["thanks", "thank", "thx", "danke", "merci", "gracias", "grazie", "obrigado"];

/// What comes before a topic, each with its blank.
const ABOUT: [&str; 9] = [
    "did i say about ",
    "did i tell you about ",
    "have i said about ",
    "have i told you about ",
    "do you remember about ",
    "do you remember of ",
    "do you know about ",
    "do you have on ",
    "i told you about ",
];
const LIST: [&str; 9] = [
    "what i told you",
    "what i have told you",
    "what i said",
    "what have i told you",
    "what did i tell you",
    "what did i say",
    "what do you remember",
    "what do you know about me",
    "everything i said",
];
const HELP: [&str; 7] = [
    "who are you",
    "what are you",
    "what can you do",
    "how do you work",
    "connect a model",
    "connect a language model",
    "are you a language model",
];

/// What the message is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Intent<'a> {
    Greeting,
    Thanks,
    Help,
    List,
    Question { topic: &'a str },
    Statement,
}

/// What the message wants, by a few phrases; anything unknown is a question or a statement by its form.
pub(super) fn intent(message: &str) -> Intent<'_> {
    let lower = message.to_lowercase();
    let words: Vec<&str> = spoken(&lower).collect();
    let all_in = |known: &[&[&str]]| words.iter().all(|word| known.iter().any(|list| list.contains(word)));
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    let greets = words.iter().any(|word| GREETINGS.contains(word)) || words.first() == Some(&"good");
    if !words.is_empty() && greets && all_in(&[&GREETINGS, &GREETING_COMPANIONS]) {
        Intent::Greeting
    } else if words.len() <= 5 && words.iter().any(|word| THANKS.contains(word)) {
        Intent::Thanks
    } else if words == ["help"] || says(&HELP) {
        Intent::Help
    } else if let Some(topic) = topic(message, &lower) {
        Intent::Question { topic }
    } else if says(&LIST) {
        Intent::List
    } else if is_question(message, &words) {
        Intent::Question { topic: message }
    } else {
        Intent::Statement
    }
}

/// What follows "what did I say about …". A topic of "me" is everything, which is a list.
fn topic<'a>(message: &'a str, lower: &str) -> Option<&'a str> {
    // Lower case can change a text's length; then the positions differ and the whole message serves.
    let end = ABOUT.iter().find_map(|phrase| lower.find(phrase).map(|at| at + phrase.len()))?;
    let same = lower.len() == message.len();
    let topic = if same { message.get(end..).unwrap_or(message) } else { message };
    (topic.trim_end_matches(['?', '.', '!', ' ']) != "me").then_some(topic)
}

fn is_question(message: &str, words: &[&str]) -> bool {
    const STARTS: [&str; 14] =
        ["what", "who", "whose", "when", "where", "why", "which", "how", "do", "does", "did", "is", "are", "can"];
    message.ends_with(['?', '？', '؟']) || words.first().is_some_and(|word| STARTS.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_have_their_intent() {
        let cases = [
            ("Hi there!", Intent::Greeting),
            ("Good morning", Intent::Greeting),
            ("你好", Intent::Greeting),
            ("thanks a lot", Intent::Thanks),
            ("Help", Intent::Help),
            ("What can you do?", Intent::Help),
            ("what do you know about me?", Intent::List),
            ("Hi, my name is Ada", Intent::Statement),
            ("Good ideas need time", Intent::Statement),
            ("what have I told you about Ada", Intent::Question { topic: "Ada" }),
            ("¿Dónde vive Ana?", Intent::Question { topic: "¿Dónde vive Ana?" }),
            ("", Intent::Statement),
        ];
        for (message, expected) in cases {
            assert_eq!(intent(message), expected, "{message:?}");
        }
    }
}
