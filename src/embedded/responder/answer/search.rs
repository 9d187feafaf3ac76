//! What can be quoted, and how related it is to a message: by the words they share, rare ones first.

use std::collections::{HashMap, HashSet};

use somaagent_actors::domain::{
    attached,
    context::{self, ChatMessage, Role},
};

use super::OWN;

/// How many sentences an answer quotes.
const MAX_QUOTES: usize = 3;

/// A sentence is quoted beside the best one if it has at least this part of its score.
const NEAR_BEST: f64 = 0.5;

/// English words that say nothing about a topic.
const STOP_WORDS: &str = "a about am an and any are as at be been but by can could did do does for from had has have he her \
his how i if in into is it its just know me my no not of on or our please remember said say she should so some tell that \
the their them then there they this to told us was we were what when where which who whose why will with would you your";

/// A sentence that can be quoted.
#[derive(Debug)]
pub(super) struct Sentence<'a> {
    pub text: &'a str,
    pub from_memory: bool,
    words: HashSet<String>,
}

/// The sentences of the person and of the memories, the oldest first, each once and without the message itself.
pub(super) fn quotable<'a>(before: &'a [ChatMessage], message: &str) -> Vec<Sentence<'a>> {
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
        add(attached::said(&earlier.content), false);
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
pub(super) fn related<'s, 'a>(sentences: &'s [Sentence<'a>], text: &str) -> Vec<&'s Sentence<'a>> {
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

/// The words of a text in lower case.
pub(super) fn spoken(lower: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
    lower.split(move |c| !is_part(c)).map(|word| word.trim_matches(['\'', '’'])).filter(|word| !word.is_empty())
}

/// Thai, Lao, Khmer, Burmese, and the scripts of Chinese and Japanese.
const fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{20000}'..='\u{3FFFF}')
}
