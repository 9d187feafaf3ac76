//! The body of an answer of an outside service, up to a limit: whatever answers, it does not fill the memory.

use reqwest::Response;

/// Why there is no whole body.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It goes on past the limit, and was not read further.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The connection was lost, or the time was up.
    #[error(transparent)]
    Lost(#[from] reqwest::Error),
}

/// Reads a body of at most `most` bytes to its end.
///
/// # Errors
/// [`Unread`]; the connection is closed then.
pub async fn body(mut reply: Response, most: usize) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(piece) = reply.chunk().await? {
        if body.len() + piece.len() > most {
            return Err(Unread::TooLong(most));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::loopback::{Play, Server};

    const MOST: usize = 1000;

    async fn read(play: impl Fn() -> Play + Send + Sync + 'static) -> Result<usize, Unread> {
        let server = Server::start(move |_| play()).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        body(http.get(&server.url).send().await.unwrap(), MOST).await.map(|body| body.len())
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_and_no_further() {
        assert_eq!(read(|| Play::json(200, &" ".repeat(MOST))).await.unwrap(), MOST);
        let long = read(|| Play::json(200, &" ".repeat(MOST + 1))).await;
        assert!(matches!(long, Err(Unread::TooLong(MOST))), "{long:?}");
        // Nobody says how long it is, and it never ends: that is not waited for.
        let endless = || Play::Stall(format!("HTTP/1.1 200 X\r\n\r\n{}", " ".repeat(MOST + 1)).into_bytes());
        assert!(matches!(read(endless).await, Err(Unread::TooLong(_))));
    }

    #[tokio::test]
    async fn half_a_body_is_none() {
        let half = || Play::Cut(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf".to_vec());
        assert!(matches!(read(half).await, Err(Unread::Lost(_))));
    }
}
