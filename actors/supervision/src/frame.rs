//! What the current thread is doing for which actor, and the containment of panics.
//!
//! The frame lets the panic hook name the actor and the message, and lets a dropped message know
//! whether its actor handled it or was torn down around it.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Once},
};

struct Frame {
    actor: Cell<Option<&'static str>>,
    message: Cell<Option<&'static str>>,
    tearing_down: Cell<bool>,
    opened: Cell<u32>,
}

thread_local! {
    static FRAME: Frame = const {
        Frame {
            actor: Cell::new(None),
            message: Cell::new(None),
            tearing_down: Cell::new(false),
            opened: Cell::new(0),
        }
    };
}

/// Puts the outer frame back, also when the work unwinds.
struct Entered {
    actor: Option<&'static str>,
    message: Option<&'static str>,
    tearing_down: bool,
    opened: u32,
}

impl Entered {
    fn new(actor: &'static str, tearing_down: bool) -> Self {
        FRAME.with(|frame| Self {
            actor: frame.actor.replace(Some(actor)),
            message: frame.message.take(),
            tearing_down: frame.tearing_down.replace(tearing_down),
            opened: frame.opened.take(),
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        FRAME.with(|frame| {
            frame.actor.set(self.actor);
            frame.message.set(self.message);
            frame.tearing_down.set(self.tearing_down);
            frame.opened.set(self.opened);
        });
    }
}

/// Runs work of `actor`; a panic in it comes back as its text.
pub(crate) fn contain<T>(actor: &'static str, work: impl FnOnce() -> T) -> Result<T, Arc<str>> {
    let _entered = Entered::new(actor, false);
    catch_unwind(AssertUnwindSafe(work)).map_err(text_of)
}

/// As [`contain`], for work that drops the actor or what it has in hand.
pub(crate) fn contain_teardown<T>(actor: &'static str, work: impl FnOnce() -> T) -> Result<T, Arc<str>> {
    let _entered = Entered::new(actor, true);
    catch_unwind(AssertUnwindSafe(work)).map_err(text_of)
}

/// The panic's text. The payload is dropped here, contained: its `Drop` may panic too, and the
/// payload of that second panic is leaked rather than dropped in turn.
fn text_of(payload: Box<dyn Any + Send>) -> Arc<str> {
    let text: Arc<str> = match payload.downcast_ref::<&'static str>() {
        Some(text) => (*text).into(),
        None => match payload.downcast_ref::<String>() {
            Some(text) => text.as_str().into(),
            None => "a value that is no text".into(),
        },
    };
    if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(second);
    }
    text
}

/// Notes that the current actor took `message` in hand; how many it opened in this poll. 0 where no
/// actor is polled: a message may be opened elsewhere.
pub(crate) fn open(message: &'static str) -> u32 {
    FRAME.with(|frame| {
        if frame.actor.get().is_none() {
            return 0;
        }
        frame.message.set(Some(message));
        let opened = frame.opened.get().saturating_add(1);
        frame.opened.set(opened);
        opened
    })
}

/// Notes that the message last opened is done with.
pub(crate) fn close(message: &'static str) {
    FRAME.with(|frame| {
        if frame.message.get() == Some(message) {
            frame.message.set(None);
        }
    });
}

/// Whether something dropped now is lost rather than done: its actor is unwinding or torn down.
pub(crate) fn losing() -> bool {
    std::thread::panicking() || FRAME.with(|frame| frame.tearing_down.get())
}

/// Installs, once per process, a panic hook that logs the panic of a supervised actor with the
/// actor's name and the type of the message in hand, and leaves other panics to the hook before it.
///
/// The message is the one most recently opened in the same poll and still in hand; for a future
/// that panics later it is absent.
pub(crate) fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let (actor, message) = FRAME.with(|frame| (frame.actor.get(), frame.message.get()));
            // Without a subscriber the line would be lost, so the usual hook prints it.
            if let Some(actor) = actor
                && tracing::dispatcher::has_been_set()
            {
                let payload = info.payload_as_str().unwrap_or("a value that is no text");
                let location = info.location().map(ToString::to_string);
                tracing::error!(
                    actor,
                    in_hand = message.unwrap_or("none"),
                    location = location.as_deref().unwrap_or("unknown"),
                    "actor panicked: {payload}"
                );
            } else {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "panics are what is tested")]

    use super::*;

    #[test]
    fn a_contained_panic_gives_its_text() {
        assert_eq!(contain("a", || 3), Ok(3));
        assert_eq!(contain("a", || panic!("plain")), Err::<(), _>("plain".into()));
        assert_eq!(contain("a", || panic!("with {}", 1)), Err::<(), _>("with 1".into()));
    }

    #[test]
    fn a_payload_whose_drop_panics_is_contained() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("second");
            }
        }
        assert_eq!(contain("a", || std::panic::panic_any(Bomb)), Err::<(), _>("a value that is no text".into()));
    }

    #[test]
    fn the_outer_frame_comes_back() {
        let outcome = contain("outer", || {
            open("First");
            assert!(contain("inner", || panic!("x")).is_err());
            FRAME.with(|frame| (frame.actor.get(), frame.message.get()))
        });
        assert_eq!(outcome, Ok((Some("outer"), Some("First"))));
    }
}
