//! The files of one message, as far as they fit.

use super::{ChatMessage, Content, Cut, Picture, Said, Shown, attached, tokens};

/// A message, and how much of each of its files is shown with it.
pub(super) struct Files<'a> {
    said: &'a Said,
    /// What the text of each file may weigh; files beyond these have no room at all.
    shares: Vec<usize>,
    /// What the files cost in tokens, the frames around them included …
    cost: usize,
    /// … and what the frames cost alone.
    frames: usize,
}

impl<'a> Files<'a> {
    /// A message without any of its files.
    pub(super) const fn of(said: &'a Said) -> Self {
        Self { said, shares: Vec::new(), cost: 0, frames: 0 }
    }

    /// A message with as much of its files as fits into the tokens `left`, from which it is taken.
    pub(super) fn within(said: &'a Said, left: &mut usize) -> Self {
        let mut files = Self::of(said);
        files.take(*left);
        *left -= files.cost;
        files
    }

    /// Chooses anew what of the files is shown, for at most `free` tokens: as many files as have room for their names, in their order,
    /// and of their texts the same of each.
    pub(super) fn take(&mut self, free: usize) {
        let room = free.saturating_mul(tokens::PARTS);
        let (mut frames, mut count) = (attached::heading_weight(), 0);
        for file in &self.said.files {
            let with = frames + file.frame_weight();
            if with > room {
                break;
            }
            (frames, count) = (with, count + 1);
        }
        let files = &self.said.files[..count];
        self.shares = if files.is_empty() { Vec::new() } else { attached::shares(files, room - frames) };
        let texts = self.shares.iter().sum::<usize>();
        let cost = |weight: usize| if files.is_empty() { 0 } else { weight.div_ceil(tokens::PARTS) };
        (self.cost, self.frames) = (cost(frames + texts), cost(frames));
    }

    /// What the files cost at most, in tokens.
    pub(super) const fn cost(&self) -> usize {
        self.cost
    }

    /// What the files cost at least, in tokens.
    pub(super) const fn frames(&self) -> usize {
        self.frames
    }

    /// What the message costs if its files are left out, in tokens.
    pub(super) fn words_alone(&self) -> usize {
        self.said.cost()
    }

    /// What the message costs beside its files, in tokens.
    pub(super) fn words(&self) -> usize {
        if self.shares.is_empty() { self.said.cost() } else { tokens::of_message(&self.said.text) }
    }

    /// The message with its files, and the tokens of those. Adds to `shown` what is shown of them, and to `cut` those that are not.
    pub(super) fn message(self, shown: &mut Vec<Shown>, cut: &mut Cut) -> (ChatMessage, usize) {
        cut.files += self.said.files.len() - self.shares.len();
        if self.shares.is_empty() {
            return (self.said.message(), 0);
        }
        let mut message = ChatMessage::new(self.said.role, self.said.text.as_str());
        let before = message.content.len();
        message.content.push_str("\n\n");
        message.content.push_str(attached::HEADING);
        for (file, most) in self.said.files.iter().zip(self.shares) {
            shown.push(file.show(most, &mut message.content));
            message.pictures.extend(picture(&file.content).cloned());
        }
        let files = tokens::weight(&message.content[before..]).div_ceil(tokens::PARTS);
        let pictures = message.pictures.iter().map(|picture| tokens::of_image(picture.width, picture.height));
        let cost = files + pictures.sum::<usize>();
        (message, cost)
    }
}

const fn picture(content: &Content) -> Option<&Picture> {
    if let Content::Picture(picture) = content { Some(picture) } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        attached::Attached,
        context::{Material, Role, build},
    };

    fn file(name: &str, content: Content) -> Attached {
        Attached { id: Uuid::nil(), name: name.into(), mime: "text/plain".into(), content }
    }

    fn text(name: &str, text: &str) -> Attached {
        file(name, Content::Text { text: text.into(), missing_chars: 0, note: None })
    }

    fn asks(words: &str, files: Vec<Attached>) -> Said {
        Said { files, ..Said::new(Role::User, words) }
    }

    #[test]
    fn the_files_of_a_message_stand_after_its_words() {
        let message = asks("look", vec![text("a.txt", "tea"), file("b.bin", Content::Nothing("no text".into()))]);
        let material = Material { system_prompt: "", memories: &[], history: &[], message: &message };
        let context = build(material, 1_000).unwrap();
        let shown = &context.messages[0].content;
        assert!(shown.starts_with(&format!("look\n\n{}\n<file id=", attached::HEADING)), "{shown}");
        assert!(
            shown.contains("name=\"a.txt\" type=\"text/plain\">\ntea\n</file") && shown.contains("b.bin"),
            "{shown}"
        );
        assert_eq!(attached::said(shown), "look");
        assert_eq!((context.files.len(), context.cut.files), (2, 0));
        assert_eq!(context.files[1].why.as_deref(), Some("no text"));
    }

    #[test]
    fn a_long_file_leaves_room_for_history_and_takes_what_that_leaves() {
        let history = [Said::new(Role::User, "x".repeat(400)), Said::new(Role::Assistant, "y".repeat(400))];
        let message = asks("look", vec![text("a.txt", &"zz zz ".repeat(10_000 / 6 + 1)[..10_000])]);
        let material = Material { system_prompt: "", memories: &[], history: &history, message: &message };
        let context = build(material, 1_000).unwrap();
        assert_eq!(context.cut.history_messages, 0);
        assert!(context.tokens > 900, "{} of 1000 used", context.tokens);
        let shown = &context.files[0];
        assert_eq!(shown.chars + shown.missing_chars, 10_000);
        let note = format!("[{} more characters are left out]", shown.missing_chars);
        assert!(context.messages[2].content.ends_with(&note), "{}", context.messages[2].content);
    }

    #[test]
    fn files_of_earlier_messages_are_shown_again_the_newest_first() {
        let history = [
            asks("old", vec![text("old.txt", &"oo ".repeat(667)[..2_000])]),
            Said::new(Role::Assistant, "yes"),
            asks("new", vec![text("new.txt", &"nn ".repeat(400))]),
            Said::new(Role::Assistant, "yes"),
        ];
        let message = asks("and?", vec![]);
        let material = Material { system_prompt: "", memories: &[], history: &history, message: &message };
        let context = build(material, 700).unwrap();
        let names: Vec<_> = context.files.iter().map(|file| (file.name.as_str(), file.missing_chars > 0)).collect();
        assert_eq!(names, [("new.txt", false), ("old.txt", true)]);
        assert!(context.messages[2].content.contains("new.txt") && context.messages[0].content.contains("old.txt"));
        let context = build(material, 520).unwrap();
        assert_eq!((context.files.len(), context.cut.files), (1, 1), "of the old one not even the name has room");
    }

    #[test]
    fn of_files_alone_that_have_no_room_it_is_said_that_they_are_left_out() {
        let (history, message) = ([asks("", vec![text("old.txt", "tea")])], asks(" ", vec![text("new.txt", "tea")]));
        let material = Material { system_prompt: "", memories: &[], history: &history, message: &message };
        let context = build(material, 60).unwrap();
        let shown: Vec<_> = context.messages.iter().map(|message| message.content.as_str()).collect();
        assert_eq!((shown, context.cut.files), (vec![attached::LEFT_OUT; 2], 2));
        assert!(
            build(material, 1_000)
                .unwrap()
                .messages
                .iter()
                .all(|message| !message.content.contains(attached::LEFT_OUT))
        );
        let mut said = asks("", vec![text("a.txt", "tea")]);
        said.leave_out_files();
        assert_eq!(said, asks(attached::LEFT_OUT, vec![]));
        assert_eq!(attached::said(attached::LEFT_OUT), "");
        let mut said = asks("look", vec![text("a.txt", "tea")]);
        said.leave_out_files();
        assert_eq!(said, asks(&format!("look\n\n{}", attached::LEFT_OUT), vec![]));
    }

    #[test]
    fn a_short_file_stays_in_a_smaller_context_for_as_long_as_others_can_go() {
        let mut history = [asks("old", vec![text("old.txt", "coffee")]), Said::new(Role::Assistant, "yes")];
        let message = asks("and?", vec![text("new.txt", "tea")]);
        let of = |history: &[Said], budget| {
            build(Material { system_prompt: "", memories: &[], history, message: &message }, budget).unwrap()
        };
        let smaller = of(&history, 5_000).smaller.unwrap();
        history[0].leave_out_files();
        let again = of(&history, smaller);
        assert_eq!((again.files.len(), again.files[0].missing_chars, again.cut.history_messages), (1, 0, 0));
        let last = of(&history, again.smaller.unwrap());
        assert_eq!((last.files.len(), last.cut.files, last.cut.history_messages), (0, 1, 0));
        assert_eq!(last.messages[2].content, format!("and?\n\n{}", attached::LEFT_OUT), "it is said");
        assert_eq!(attached::said(&last.messages[2].content), "and?");
    }

    #[test]
    fn a_smaller_context_has_no_earlier_files_and_half_of_the_others() {
        let history = [asks("old", vec![text("old.txt", &"oo ".repeat(400))]), Said::new(Role::Assistant, "yes")];
        let message = asks("and?", vec![text("new.txt", &"nn ".repeat(400))]);
        let material = Material { system_prompt: "", memories: &[], history: &history, message: &message };
        let context = build(material, 5_000).unwrap();
        assert_eq!((context.files[0].chars, context.files[1].chars), (1_200, 1_200));
        let mut words = history.clone();
        words[0].leave_out_files();
        let again = build(Material { history: &words, ..material }, context.smaller.unwrap()).unwrap();
        assert_eq!((again.files.len(), again.cut.history_messages), (1, 0));
        // Of half, some goes to what stands around it.
        assert!((100..600).contains(&again.files[0].chars), "{:?}", again.files);
        assert!(
            build(Material { history: &words, message: &asks("and?", vec![]), ..material }, 5_000)
                .unwrap()
                .smaller
                .is_none()
        );
    }

    #[test]
    fn a_picture_goes_with_its_message_as_a_part_of_it() {
        let url: Arc<str> = "data:image/jpeg;base64,AA==".into();
        let picture = Picture { url, width: 1024, height: 512 };
        let message = asks("look", vec![file("a.png", Content::Picture(picture))]);
        let material = Material { system_prompt: "be kind", memories: &[], history: &[], message: &message };
        let context = build(material, 1_000).unwrap();
        let shown = json!(context.messages);
        assert_eq!(shown[0], json!({"role": "system", "content": "be kind"}));
        assert_eq!(shown[1]["content"][0]["type"], "text");
        assert_eq!(
            shown[1]["content"][1],
            json!({"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AA=="}})
        );
        assert!(context.tokens > 85 + 170 * 2);
        let context = build(material, 300).unwrap();
        assert_eq!((context.messages[1].pictures.len(), context.cut.files), (0, 1), "it has no room");
    }

    fn attached() -> impl Strategy<Value = Attached> {
        let text = (".{0,300}", any::<u64>());
        let content = prop_oneof![
            text.prop_map(|(text, missing_chars)| Content::Text { text, missing_chars, note: None }),
            ".{0,300}".prop_map(Content::Nothing),
            (1_u32..2_000, 1_u32..2_000).prop_map(|(width, height)| Content::Picture(Picture {
                url: "data:".into(),
                width,
                height
            })),
        ];
        (".{0,30}", content).prop_map(|(name, content)| file(&name, content))
    }

    fn said(words: &'static str) -> impl Strategy<Value = Said> {
        let role = prop_oneof![Just(Role::User), Just(Role::Assistant)];
        (role, words, prop::collection::vec(attached(), 0..4)).prop_map(|(role, text, files)| Said {
            role,
            text,
            files,
        })
    }

    proptest! {
        #[test]
        fn whatever_files_come_the_budget_holds_and_each_is_accounted_for(
            memories in prop::collection::vec("[a-z]{1,8}( [a-z.]{1,8}){0,9}", 0..4),
            history in prop::collection::vec(said(".{0,60}"), 0..6),
            message in said(".{0,60}"),
            budget in 0_usize..2_000,
        ) {
            let material = Material { system_prompt: "p", memories: &memories, history: &history, message: &message };
            let Ok(context) = build(material, budget) else { return Ok(()) };
            prop_assert!(context.tokens <= budget, "{} of {budget}", context.tokens);
            let all = history.iter().chain([&message]).map(|said| said.files.len()).sum::<usize>();
            prop_assert_eq!(context.files.len() + context.cut.files, all);
        }
    }
}
