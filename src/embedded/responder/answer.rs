//! Composes the offline responder's answers: lookup and quotation, no understanding. No I/O.
//!
//! What can be quoted are the sentences the person said in this conversation and the recalled memories; they are ranked by
//! the words they share with the message, rare words first. A handful of English phrases gets an answer of its own
//! (greetings, "what did I say about …", "list what I told you"); in any other language the most related
//! sentences are quoted. Its own earlier answers are never quoted: they consist of quotations.

use std::collections::{HashMap, HashSet};

use somaagent_actors::domain::context::{self, ChatMessage, Role};

/// How many sentences an answer quotes, and how many a list shows.
const MAX_QUOTES: usize = 3;
const MAX_LISTED: usize = 12;

/// Longest quotation, in characters.
const MAX_QUOTE_CHARS: usize = 240;

/// A sentence is quoted beside the best one if it has at least this part of its score.
const NEAR_BEST: f64 = 0.5;

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
const ABILITIES: &str = "I look up what you told me, in this conversation and in memory, and quote it. Try:";

/// Sentences that only the responder says. A memory that holds one is an earlier answer of its own.
const OWN: [&str; 11] =
    [GREETING, WELCOME, NOTED, RELATED, TOLD, REMEMBERED, FOUND, NOTHING_FOUND, LISTED, NOTHING_TOLD, ABILITIES];

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

/// English words that say nothing about a topic.
const STOP_WORDS: &str = "a about am an and any are as at be been but by can could did do does for from had has have he her \
his how i if in into is it its just know me my no not of on or our please remember said say she should so some tell that \
the their them then there they this to told us was we were what when where which who whose why will with would you your";

/// A sentence that can be quoted.
#[derive(Debug)]
struct Sentence<'a> {
    text: &'a str,
    from_memory: bool,
    words: HashSet<String>,
}

/// What the message is about.
#[derive(Debug, PartialEq, Eq)]
enum Intent<'a> {
    Greeting,
    Thanks,
    Help,
    List,
    Question { topic: &'a str },
    Statement,
}

/// The answer to the last message, in Markdown; `None` if that message is not the user's.
pub(super) fn compose(messages: &[ChatMessage]) -> Option<String> {
    let (last, before) = messages.split_last()?;
    if last.role != Role::User {
        return None;
    }
    let message = last.content.trim();
    let sentences = quotable(before, message);
    let is_first = !before.iter().any(|earlier| earlier.role == Role::Assistant);
    let mut answer = match intent(message) {
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
    if is_first {
        answer.push_str("\n\n");
        answer.push_str(INTRODUCTION);
    }
    Some(answer)
}

/// What the message wants, by a few phrases; anything unknown is a question or a statement by its form.
fn intent(message: &str) -> Intent<'_> {
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

/// The sentences of the person and of the memories, the oldest first, each once and without the message itself.
fn quotable<'a>(before: &'a [ChatMessage], message: &str) -> Vec<Sentence<'a>> {
    let mut seen: HashSet<String> = sentences_of(message).map(str::to_lowercase).collect();
    let mut all = Vec::new();
    let mut add = |text: &'a str, from_memory| {
        for sentence in sentences_of(text) {
            if seen.insert(sentence.to_lowercase()) {
                all.push(Sentence { text: sentence, from_memory, words: topic_words(sentence) });
            }
        }
    };
    // What was said here comes first, so that a memory of it is not quoted as well.
    for earlier in before.iter().filter(|earlier| earlier.role == Role::User) {
        add(&earlier.content, false);
    }
    let memories = before.iter().filter_map(|earlier| context::memories_in(&earlier.content)).flatten();
    for memory in memories.filter(|memory| !OWN.iter().any(|own| memory.contains(own))) {
        add(memory, true);
    }
    all
}

/// A text cut at line ends and after the marks that end a sentence.
fn sentences_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| {
            let mut rest = line;
            std::iter::from_fn(move || {
                let (sentence, tail) = rest.split_at(sentence_end(rest));
                rest = tail;
                (!sentence.is_empty()).then_some(sentence)
            })
        })
        .map(str::trim)
        .filter(|sentence| sentence.chars().any(char::is_alphanumeric))
}

/// Where the first sentence ends: after a mark that a blank follows, or after an ideographic one.
fn sentence_end(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let before_blank = chars.peek().is_none_or(|(_, next)| next.is_whitespace());
        if matches!(c, '。' | '！' | '？') || (matches!(c, '.' | '!' | '?' | '…') && before_blank) {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// The sentences that share words with the text, the most related first.
fn related<'s, 'a>(sentences: &'s [Sentence<'a>], text: &str) -> Vec<&'s Sentence<'a>> {
    let wanted = topic_words(text);
    let weights: HashMap<&String, f64> = wanted.iter().map(|word| (word, rarity(word, sentences))).collect();
    let mut scored: Vec<(f64, &Sentence<'a>)> = sentences
        .iter()
        .map(|sentence| (score(sentence, &weights), sentence))
        .filter(|(score, _)| *score > 0.0)
        .collect();
    // Later sentences first among equals: what was said last holds. The sort is stable.
    scored.reverse();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let best = scored.first().map_or(0.0, |(score, _)| *score);
    let near = scored.into_iter().take_while(|(score, _)| *score >= best * NEAR_BEST);
    near.take(MAX_QUOTES).map(|(_, sentence)| sentence).collect()
}

/// How much a shared word says: much if few sentences have it.
fn rarity(word: &str, sentences: &[Sentence<'_>]) -> f64 {
    let having = sentences.iter().filter(|sentence| has(sentence, word)).count();
    let part = f64::from(u32::try_from(having).unwrap_or(u32::MAX))
        / f64::from(u32::try_from(sentences.len().max(1)).unwrap_or(u32::MAX));
    1.5 - part
}

fn score(sentence: &Sentence<'_>, weights: &HashMap<&String, f64>) -> f64 {
    let shared: f64 = weights.iter().filter(|(word, _)| has(sentence, word)).map(|(_, weight)| weight).sum();
    // An earlier question tells less than an earlier statement.
    if sentence.text.ends_with(['?', '？']) { shared * 0.4 } else { shared }
}

fn has(sentence: &Sentence<'_>, word: &str) -> bool {
    sentence.words.contains(word) || sentence.words.iter().any(|other| same_stem(word, other))
}

/// Whether two words differ in their ending only: "dog" and "dogs", "meeting" and "meetings".
fn same_stem(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let ending = long.strip_prefix(short).map_or(usize::MAX, |ending| ending.chars().count());
    short.chars().count() >= 3 && ending <= 2
}

/// The words that say what a text is about: lower case, without stop words; pairs of characters for scripts that write
/// no blanks.
fn topic_words(text: &str) -> HashSet<String> {
    let lower = text.to_lowercase();
    let mut found = HashSet::new();
    for word in spoken(&lower) {
        let word = word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).unwrap_or(word);
        if word.chars().any(is_unspaced) {
            let chars: Vec<char> = word.chars().collect();
            found.extend(chars.windows(2).map(|pair| pair.iter().collect::<String>()));
        } else if !STOP_WORDS.split(' ').any(|stop| stop == word) {
            found.insert(word.to_owned());
        }
    }
    found
}

fn spoken(lower: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
    lower.split(move |c| !is_part(c)).map(|word| word.trim_matches(['\'', '’'])).filter(|word| !word.is_empty())
}

/// Thai, Lao, Khmer, Burmese, and the scripts of Chinese and Japanese.
const fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{20000}'..='\u{3FFFF}')
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

    use super::*;

    /// A conversation of which the first answer was given.
    fn told(memories: &[&str], said: &[&str], message: &str) -> Vec<ChatMessage> {
        let memories: Vec<String> = memories.iter().map(|memory| (*memory).to_owned()).collect();
        let mut history = vec![];
        for text in said {
            history.push(ChatMessage::new(Role::User, *text));
            history.push(ChatMessage::new(Role::Assistant, NOTED));
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
