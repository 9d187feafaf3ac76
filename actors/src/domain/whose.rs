//! Whose a session is.

use super::caller::Caller;

/// Whose a session is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// Nobody's: it has had no message yet. Whoever sends the first one has it.
    #[default]
    Nobodys,
    /// That of the subject who sent its first message, for ever; `None` when nobody was authenticated then.
    Begun(Option<String>),
}

impl Whose {
    /// Whose the session is of which `last_seq` is the last event and `subject` what its envelope says.
    #[must_use]
    pub fn stored(last_seq: i64, subject: Option<String>) -> Self {
        if last_seq == 0 && subject.is_none() { Self::Nobodys } else { Self::Begun(subject) }
    }

    /// Whether the session is somebody's.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        matches!(self, Self::Begun(_))
    }

    /// Who began the session.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        if let Self::Begun(subject) = self { subject.as_deref() } else { None }
    }

    /// Whether there is such a session for `caller`, as a query decides it too.
    #[must_use]
    pub fn exists_for(&self, caller: &Caller) -> bool {
        caller.may_touch(self.subject())
    }

    /// Whether the session is somebody's and does not exist for `caller`. One that is nobody's is kept from nobody.
    #[must_use]
    pub fn is_hidden_from(&self, caller: &Caller) -> bool {
        self.is_begun() && !self.exists_for(caller)
    }

    /// Whether `caller` may send a message: to a session that exists for it, or to one that would once it was begun.
    #[must_use]
    pub fn takes_from(&self, caller: &Caller) -> bool {
        if self.is_begun() { self.exists_for(caller) } else { caller.may_touch(caller.subject.as_deref()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::caller::{Reach, tests::caller};

    #[test]
    fn a_session_is_somebodys_from_its_first_message_on() {
        let ann = || Some("ann".to_owned());
        for (last_seq, subject, expected) in [
            (0, None, Whose::Nobodys),
            (1, None, Whose::Begun(None)),
            (1, ann(), Whose::Begun(ann())),
            (0, ann(), Whose::Begun(ann())),
        ] {
            assert_eq!(Whose::stored(last_seq, subject), expected, "{last_seq}");
        }
    }

    #[test]
    fn it_is_hidden_from_strangers_and_takes_nothing_from_them() {
        let begun = |subject: Option<&str>| Whose::Begun(subject.map(str::to_owned));
        let (ann, bob) = (caller(Reach::Own, Some("ann")), caller(Reach::Own, Some("bob")));
        let (unknown, head) = (caller(Reach::Own, None), caller(Reach::Tenant, Some("head")));
        for (whose, who, exists, hidden, takes) in [
            (Whose::Nobodys, &ann, false, false, true),
            (Whose::Nobodys, &head, true, false, true),
            // What it began would be in nobody's reach.
            (Whose::Nobodys, &unknown, false, false, false),
            (begun(Some("ann")), &ann, true, false, true),
            (begun(Some("ann")), &bob, false, true, false),
            (begun(Some("ann")), &unknown, false, true, false),
            (begun(Some("ann")), &head, true, false, true),
            (begun(None), &ann, false, true, false),
            (begun(None), &unknown, false, true, false),
            (begun(None), &head, true, false, true),
        ] {
            let found = (whose.exists_for(who), whose.is_hidden_from(who), whose.takes_from(who));
            assert_eq!(found, (exists, hidden, takes), "{whose:?} {who:?}");
        }
    }
}
