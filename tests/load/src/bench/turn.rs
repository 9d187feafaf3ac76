//! What the server adds to a model that answers at once, beside a client that asks the same model directly.

use std::time::Duration;

use anyhow::{Result, ensure};
use uuid::Uuid;

use crate::binary::Subject;
use crate::clock::{self, Nanos};
use crate::ground;
use crate::measure::Samples;
use crate::model::{Model, Plan};
use crate::process::Shares;
use crate::report::{Budget, Figure, Report};
use crate::sse::{Stream, Writer};
use crate::wire::Wire;

/// Turns asked before anything is measured.
const WARM_UP: usize = 10;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Turns, half of them asked of the server and half of the model directly
    #[arg(long, default_value_t = Self::FULL.turns)]
    turns: usize,
    /// Pieces of an answer
    #[arg(long, default_value_t = Self::FULL.pieces)]
    pieces: u32,
    /// Milliseconds between two pieces
    #[arg(long, default_value_t = Self::FULL.apart_ms)]
    apart_ms: u64,
    /// Turns of one session, before the next one begins
    #[arg(long, default_value_t = Self::FULL.turns_a_session)]
    turns_a_session: usize,
}

impl Options {
    /// What is measured by default.
    pub const FULL: Self = Self { turns: 1000, pieces: 20, apart_ms: 3, turns_a_session: 10 };
    /// Enough to see that the bench works.
    pub const QUICK: Self = Self { turns: 80, ..Self::FULL };
}

/// Both sides' measurements.
#[derive(Default)]
struct Found {
    /// From sending the request to the first piece.
    direct_first: Samples,
    direct_delta: Samples,
    /// From sending the message to its 200, which is when it is durable.
    accepted: Samples,
    /// From the 200 to the model having the request. Below zero where the request was faster than the reply.
    provider: Samples,
    first_from_accept: Samples,
    first_from_post: Samples,
    delta: Samples,
}

/// Measures.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let apart = Duration::from_millis(options.apart_ms);
    let mut model = Model::start(Plan::Pieces(options.pieces, apart))?;
    let (mut server, _database) = ground::on_new_database(&subject.with(&model)?).await?;
    let mut found = Found::default();
    alternate(&mut found, &mut model, server.port(), WARM_UP, options).await?;
    found = Found::default();
    let shares = Shares::begin(server.id())?;
    alternate(&mut found, &mut model, server.port(), options.turns / 2, options).await?;
    let shares = shares.end()?;
    server.terminate().await?;
    let mut report = report(&found, options);
    report.note(shares);
    Ok(report)
}

/// One turn of ours, one direct call, and so on.
async fn alternate(found: &mut Found, model: &mut Model, port: u16, turns: usize, options: &Options) -> Result<()> {
    let mut wire = Wire::connect(port).await?;
    let mut direct = Stream::connect(model.port(), Writer::Model).await?;
    let mut stream = None;
    for turn in 0..turns {
        if turn % options.turns_a_session == 0 {
            stream = None;
        }
        let (session, stream) = match &mut stream {
            Some(open) => open,
            none => {
                let session = Uuid::new_v4();
                none.insert((session, Stream::of_session(port, session).await?))
            }
        };
        ask_server(found, model, &mut wire, stream, &ground::message(port, *session)).await?;
        ask_model(found, model, &mut direct).await?;
    }
    Ok(())
}

async fn ask_model(found: &mut Found, model: &Model, direct: &mut Stream) -> Result<()> {
    let request = model.request();
    let began = clock::now();
    direct.ask(&request).await?;
    let pieces = direct.answer().await?;
    take(&pieces, &mut found.direct_delta)?;
    found.direct_first.between(began, pieces[0].1);
    Ok(())
}

async fn ask_server(
    found: &mut Found,
    model: &mut Model,
    wire: &mut Wire,
    stream: &mut Stream,
    message: &[u8],
) -> Result<()> {
    model.forget();
    let began = clock::now();
    let posted = async {
        wire.expect_ok(message).await?;
        Ok(clock::now())
    };
    let (accepted, pieces) = tokio::try_join!(posted, stream.answer())?;
    take(&pieces, &mut found.delta)?;
    found.accepted.between(began, accepted);
    found.provider.between(accepted, model.asked().await?);
    found.first_from_accept.between(accepted, pieces[0].1);
    found.first_from_post.between(began, pieces[0].1);
    Ok(())
}

/// Delays of all pieces but the first, which has figures of its own.
fn take(pieces: &[(Nanos, Nanos)], delays: &mut Samples) -> Result<()> {
    ensure!(!pieces.is_empty(), "an answer came without a piece");
    pieces.iter().skip(1).for_each(|(sent, read)| delays.between(*sent, *read));
    Ok(())
}

fn report(found: &Found, options: &Options) -> Report {
    let mut report = Report::new("turn");
    let budgets = [
        (50, Budget::AtMost(1.0), Budget::AddsAtMost(1.0), Budget::AddsAtMost(0.3)),
        (99, Budget::AtMost(5.0), Budget::AddsAtMost(5.0), Budget::AddsAtMost(2.0)),
    ];
    for (percent, provider, first, delta) in budgets {
        let figure =
            |name: &str, ours: &Samples| Figure::new(format!("{name} p{percent}"), ours.percentile(percent), "ms");
        let direct_first = found.direct_first.percentile(percent);
        report.add(figure("message to 200", &found.accepted));
        report.add(figure("200 to provider request", &found.provider).within(provider));
        report.add(figure("200 to first delta", &found.first_from_accept).against(direct_first).within(first));
        report.add(figure("message to first delta", &found.first_from_post).against(direct_first));
        report.add(figure("delta", &found.delta).against(found.direct_delta.percentile(percent)).within(delta));
    }
    report.note(format!(
        "{} turns of ours and {} direct calls in turn; {} pieces an answer, {} ms apart; {} deltas of ours",
        found.accepted.len(),
        found.direct_first.len(),
        options.pieces,
        options.apart_ms,
        found.delta.len()
    ));
    report.note("reference: a client on an open connection straight to the same model, from sending its request to the first piece");
    report.note("delta: from the instant the model writes a piece to the instant the client has read it (all but the first piece)");
    report.note("200: the message is durable (outside PostgreSQL, fsync on); the stream (mode=delta) was open before; recall off");
    report
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_first_piece_is_not_counted_among_the_deltas() {
        let mut delays = Samples::default();
        take(&[(0, 9_000_000), (1_000_000, 2_000_000), (3_000_000, 6_000_000)], &mut delays).unwrap();
        assert_eq!(delays.len(), 2);
        assert!((delays.max() - 3.0).abs() < 1e-9);
        assert!(take(&[], &mut delays).is_err());
    }

    #[test]
    fn every_figure_with_a_budget_has_what_the_budget_needs() {
        let mut found = Found::default();
        for samples in [&mut found.direct_first, &mut found.direct_delta, &mut found.provider, &mut found.delta] {
            samples.push(0.1);
        }
        found.first_from_accept.push(0.9);
        assert_eq!(report(&found, &Options::FULL).verdict(), (6, vec![]));
    }
}
