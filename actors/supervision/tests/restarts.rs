//! What a restart keeps and what it loses.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use somaagent_supervision::{AskError, Restart, Strategy};
use support::{Do, SECOND, Stage, stage};

#[test]
fn the_queue_survives_a_restart_in_order_and_the_state_does_not() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(2));
        stage.log.take();

        let (lost, one, two, count) = tokio::join!(
            port.ask(Do::Panic, SECOND),
            port.ask(Do::Note(1), SECOND),
            port.ask(Do::Note(2), SECOND),
            port.ask(Do::Count, SECOND),
        );
        assert_eq!(lost, Err(AskError::Down), "the message in hand is gone");
        assert_eq!((one, two), (Ok(0), Ok(0)));
        assert_eq!(count, Ok(1), "the count began anew");
        assert_eq!(stage.log.take(), ["a started", "a notes 1", "a notes 2"]);
        assert_eq!(port.depth(), 0);
    });
}
