//! One logical call: attempts with waits between them, inside one deadline, watched by the breaker.
//!
//! What an attempt means for the breaker and for the caller is decided by [`judge`], without a clock or a socket;
//! [`exchange`] is the loop around it and takes the attempt as a function.

use std::{cell::RefCell, time::Duration};

use tokio::time::Instant;

use super::{budget::RetryBudget, endpoint::Endpoint, messages::BrainError, wire::detail};
use crate::{
    breaker::{Breaker, Verdict},
    retry::{Retries, RetryPolicy},
};

/// An answer of the server, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// The version of the document that is the answer.
    pub etag: Option<String>,
    pub body: Vec<u8>,
}

/// Why an attempt got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// The connection could not be made, or broke; in words.
    Transport(String),
    /// Neither the attempt's own limit nor the deadline was met.
    TimedOut,
}

/// What was asked, and how an answer to it is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub endpoint: Endpoint,
    /// Statuses above 399 that are an answer, not a refusal.
    pub accepts: &'static [u16],
    pub retry: RetryPolicy,
    pub deadline: Instant,
}

/// The outcome of a call and what its metrics need.
#[derive(Debug)]
pub(super) struct Outcome {
    pub result: Result<Answer, BrainError>,
    /// Status of the last answer; `None` if the last attempt got none.
    pub status: Option<u16>,
    /// Whether anything was sent; a call refused by the breaker is not counted.
    pub sent: bool,
}

/// What follows from an attempt.
#[derive(Debug)]
enum Judgement {
    /// The server did its work.
    Done(Answer),
    /// It would be refused again.
    Final(BrainError),
    /// It may go better another time. `fault` says whether the server, if this was the last attempt, is to blame.
    Again { error: BrainError, asked: Option<Duration>, fault: Fault },
}

/// How a failure that may be retried counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Each time: the server was not reached.
    Always,
    /// Only when it ends the call: the server reported a fault of its own.
    IfLast,
    /// Never: the server is alive and asked for patience.
    Never,
}

fn judge(terms: &Terms, attempt: Result<Answer, Lost>) -> Judgement {
    let endpoint = terms.endpoint;
    let answer = match attempt {
        Ok(answer) => answer,
        Err(Lost::TimedOut) => {
            return Judgement::Again { error: BrainError::TimedOut { endpoint }, asked: None, fault: Fault::Always };
        }
        Err(Lost::Transport(reason)) => {
            let error = BrainError::Unavailable { endpoint, reason, retry_after: None };
            return Judgement::Again { error, asked: None, fault: Fault::Always };
        }
    };
    match answer.status {
        ..400 => Judgement::Done(answer),
        status if terms.accepts.contains(&status) => Judgement::Done(answer),
        status @ (429 | 500..) => {
            let reason = format!("{status} {}", detail(&answer.body));
            let error = BrainError::Unavailable { endpoint, reason, retry_after: answer.retry_after };
            let fault = if status == 429 { Fault::Never } else { Fault::IfLast };
            Judgement::Again { error, asked: answer.retry_after, fault }
        }
        status => Judgement::Final(BrainError::Refused { endpoint, status, detail: detail(&answer.body) }),
    }
}

/// Runs a call to its end. Returns at the deadline at the latest if `attempt` does.
pub(super) async fn exchange(
    terms: Terms,
    breaker: &RefCell<Breaker>,
    budget: &RefCell<RetryBudget>,
    attempt: impl AsyncFn() -> Result<Answer, Lost>,
) -> Outcome {
    budget.borrow_mut().deposit();
    let mut retries = Retries::new(terms.retry);
    let mut status = None;
    let mut failed = None;
    loop {
        // The borrow ends with the statement: it is never held over an await.
        let admitted = breaker.borrow_mut().admit(Instant::now());
        let ticket = match admitted {
            Ok(ticket) => ticket,
            Err(refusal) => {
                let sent = failed.is_some();
                let refused = BrainError::Unavailable {
                    endpoint: terms.endpoint,
                    reason: "not asked, because it failed too often just now".into(),
                    retry_after: Some(refusal.retry_after),
                };
                return Outcome { result: Err(failed.unwrap_or(refused)), status, sent };
            }
        };
        let outcome = attempt().await;
        let now = Instant::now();
        status = outcome.as_ref().ok().map(|answer| answer.status);
        let (verdict, result) = match judge(&terms, outcome) {
            Judgement::Done(answer) => (Verdict::Succeeded, Ok(answer)),
            Judgement::Final(error) => (Verdict::Neutral, Err(error)),
            Judgement::Again { error, asked, fault } => {
                // A failed trial closes the door again at once: no retry could get through it.
                let wait = if ticket.is_trial() { None } else { retries.next_wait(asked) };
                let wait = wait.filter(|wait| *wait < terms.deadline.saturating_duration_since(now));
                let wait = wait.filter(|_| budget.borrow_mut().withdraw(now));
                let verdict = match (fault, wait) {
                    (Fault::Always, _) | (Fault::IfLast, None) => Verdict::Failed,
                    _ => Verdict::Neutral,
                };
                if let Some(wait) = wait {
                    breaker.borrow_mut().settle(ticket, verdict, now);
                    failed = Some(error);
                    tokio::time::sleep(wait).await;
                    continue;
                }
                (verdict, Err(error))
            }
        };
        breaker.borrow_mut().settle(ticket, verdict, now);
        return Outcome { result, status, sent: true };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

    use std::{cell::Cell, collections::VecDeque};

    use super::*;
    use crate::breaker::{BreakerRules, BreakerState};

    #[expect(clippy::unnecessary_wraps, reason = "one of the results in a script")]
    fn answer(status: u16) -> Result<Answer, Lost> {
        Ok(Answer { status, retry_after: None, etag: None, body: br#"{"detail": "said so"}"#.to_vec() })
    }

    fn asks_for_patience(status: u16, seconds: u64) -> Result<Answer, Lost> {
        answer(status).map(|answer| Answer { retry_after: Some(Duration::from_secs(seconds)), ..answer })
    }

    fn lost() -> Result<Answer, Lost> {
        Err(Lost::Transport("connection refused".into()))
    }

    fn breaker() -> RefCell<Breaker> {
        RefCell::new(Breaker::new(BreakerRules { failures: 3, cooldown: Duration::from_secs(15) }))
    }

    fn terms(max_retries: u32, within: Duration) -> Terms {
        let retry = RetryPolicy { max_retries, first_wait_ms: 150, max_wait_ms: 10_000, max_retry_after_ms: 120_000 };
        Terms { endpoint: Endpoint::Recall, accepts: &[404], retry, deadline: Instant::now() + within }
    }

    /// Plays the script with a full budget; returns the outcome and how many attempts were made.
    async fn play(
        terms: Terms,
        breaker: &RefCell<Breaker>,
        script: impl IntoIterator<Item = Result<Answer, Lost>>,
    ) -> (Outcome, u32) {
        play_within(terms, breaker, &RefCell::new(RetryBudget::new(Instant::now())), script).await
    }

    async fn play_within(
        terms: Terms,
        breaker: &RefCell<Breaker>,
        budget: &RefCell<RetryBudget>,
        script: impl IntoIterator<Item = Result<Answer, Lost>>,
    ) -> (Outcome, u32) {
        let script = RefCell::new(script.into_iter().collect::<VecDeque<_>>());
        let attempts = Cell::new(0);
        let outcome = exchange(terms, breaker, budget, async || {
            attempts.set(attempts.get() + 1);
            script.borrow_mut().pop_front().unwrap()
        })
        .await;
        (outcome, attempts.get())
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn faults_that_may_pass_are_tried_again() {
        for fault in [lost(), Err(Lost::TimedOut), answer(500), answer(503), answer(599), answer(429)] {
            let (outcome, attempts) = play(terms(2, MINUTE), &breaker(), [fault.clone(), fault, answer(200)]).await;
            assert_eq!((outcome.result.unwrap().status, attempts), (200, 3));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_refusals_are_final_and_named() {
        for status in [400, 401, 403, 405, 422] {
            let (outcome, attempts) = play(terms(2, MINUTE), &breaker(), [answer(status)]).await;
            assert_eq!((outcome.status, attempts), (Some(status), 1));
            let said = format!("SomaBrain request POST /memory/recall failed: {status} said so");
            assert_eq!(outcome.result.unwrap_err().to_string(), said);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_404_is_an_answer_only_where_it_is_accepted() {
        let (outcome, _) = play(terms(2, MINUTE), &breaker(), [answer(404)]).await;
        assert_eq!(outcome.result.unwrap().status, 404);
        let strict = Terms { accepts: &[], ..terms(2, MINUTE) };
        let (outcome, _) = play(strict, &breaker(), [answer(404)]).await;
        assert!(matches!(outcome.result, Err(BrainError::Refused { status: 404, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_to_a_dead_server_opens_the_breaker() {
        let breaker = breaker();
        let (outcome, attempts) = play(terms(2, MINUTE), &breaker, [lost(), lost(), lost()]).await;
        assert!(matches!(outcome.result, Err(BrainError::Unavailable { .. })) && outcome.status.is_none());
        assert_eq!((attempts, breaker.borrow().state()), (3, BreakerState::Open));

        let (outcome, attempts) = play(terms(2, MINUTE), &breaker, []).await;
        assert_eq!((outcome.sent, attempts), (false, 0));
        let Err(BrainError::Unavailable { retry_after, .. }) = outcome.result else { panic!("not refused") };
        assert_eq!(retry_after, Some(Duration::from_secs(15)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_server_error_counts_once_and_patience_never() {
        let breaker = breaker();
        for calls in 1..=3 {
            let (_, attempts) = play(terms(2, MINUTE), &breaker, [answer(500), answer(502), answer(500)]).await;
            assert_eq!(attempts, 3);
            let expected = if calls < 3 { BreakerState::Closed } else { BreakerState::Open };
            assert_eq!(breaker.borrow().state(), expected, "after {calls} calls");
        }
        let breaker = self::breaker();
        for _ in 0..5 {
            play(terms(2, MINUTE), &breaker, [answer(429), answer(429), answer(429)]).await;
        }
        assert_eq!(breaker.borrow().state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gives_up_when_another_one_opened_the_breaker_meanwhile() {
        let breaker = breaker();
        let (_, attempts) = play(terms(9, MINUTE), &breaker, [lost(), lost(), lost()]).await;
        assert_eq!(attempts, 3, "the fourth attempt was refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_trial_is_not_repeated() {
        let breaker = breaker();
        play(terms(2, MINUTE), &breaker, [lost(), lost(), lost()]).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let (outcome, attempts) = play(terms(2, MINUTE), &breaker, [answer(500)]).await;
        assert_eq!((outcome.sent, attempts, breaker.borrow().state()), (true, 1, BreakerState::Open));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_waited_for_only_inside_the_deadline() {
        let begun = Instant::now();
        let (outcome, _) = play(terms(2, MINUTE), &breaker(), [asks_for_patience(503, 7), answer(200)]).await;
        assert!(outcome.result.is_ok() && begun.elapsed() >= Duration::from_secs(7));

        let begun = Instant::now();
        let (outcome, attempts) = play(terms(2, Duration::from_secs(5)), &breaker(), [asks_for_patience(503, 7)]).await;
        let Err(BrainError::Unavailable { retry_after, .. }) = outcome.result else { panic!("it should have failed") };
        assert_eq!((attempts, retry_after, begun.elapsed()), (1, Some(Duration::from_secs(7)), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_ends_the_retries_of_every_call() {
        let budget = RefCell::new(RetryBudget::new(Instant::now()));
        while budget.borrow_mut().withdraw(Instant::now()) {}
        let (outcome, attempts) = play_within(terms(2, MINUTE), &breaker(), &budget, [answer(429)]).await;
        assert!(matches!(outcome.result, Err(BrainError::Unavailable { .. })));
        assert_eq!(attempts, 1);
    }
}
