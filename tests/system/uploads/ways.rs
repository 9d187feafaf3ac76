//! Files on their way in over bare connections, which can stop anywhere.

use serde_json::json;
use somaagent_test_services::client::Raw;
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;

use super::{Form, content_type};
use crate::stack::Stack;
use crate::tus;

/// As many bytes are a row in the database.
pub const CHUNK: usize = 256 << 10;

/// How a file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In a form.
    Form,
    /// As tus says, in one piece.
    Tus,
    /// The same as clients of the original do it: they say themselves when it is whole.
    Finalized,
}

/// A file on its way.
pub struct Sending {
    raw: Raw,
    /// What comes behind the file in the body.
    end: Vec<u8>,
    /// Where to say that it is whole.
    finalize: Option<String>,
}

impl Way {
    /// Begins to send a file of so many bytes.
    pub async fn begin(self, stack: &Stack, length: usize) -> Sending {
        let (mut start, mut end, mut finalize) = (Vec::new(), Vec::new(), None);
        let head = match self {
            Self::Form => {
                start = Form::default().file("a.bin", "a/b", &[]).0;
                // The end of the line behind the file.
                end = start.split_off(start.len() - 2);
                end.extend(Form::default().end());
                format!("POST /v1/uploads HTTP/1.1\r\nContent-Type: {}", content_type())
            }
            Self::Tus => patch(&tus::begin(&stack.client, length).await),
            Self::Finalized => {
                let file = json!({"filename": "a.bin", "size": length, "mime_type": "a/b"});
                let begun = stack.client.post("/v1/uploads/tus", &file).await.unwrap();
                let path = begun.text_of("upload_url");
                finalize = Some(format!("{path}/finalize"));
                patch(&path)
            }
        };
        let length = start.len() + length + end.len();
        let head = format!("{head}\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
        raw.send(head.as_bytes()).await.unwrap();
        raw.send(&start).await.unwrap();
        Sending { raw, end, finalize }
    }

    /// Sends a file.
    pub async fn send(self, stack: &Stack, file: &[u8]) {
        let mut sending = self.begin(stack, file.len()).await;
        sending.send(file).await;
        sending.end(stack).await;
    }
}

fn patch(path: &str) -> String {
    format!(
        "PATCH {path} HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream"
    )
}

impl Sending {
    /// Sends bytes of the file.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.raw.send(bytes).await.unwrap();
    }

    /// Waits until the file, all of which was sent, is taken.
    pub async fn end(mut self, stack: &Stack) {
        self.raw.send(&self.end).await.unwrap();
        let answer = String::from_utf8_lossy(&self.raw.read_to_end().await).into_owned();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        if let Some(path) = self.finalize {
            let kept = stack.client.post(&path, &json!(null)).await.unwrap();
            assert_eq!(kept.status, 200, "{}", kept.text);
        }
    }
}

/// Waits until so many bytes of files that are still coming are in the database.
pub async fn arrived(pool: &PgPool, bytes: usize) {
    let sql = "SELECT coalesce(sum(octet_length(c.bytes)), 0)
               FROM attachment_chunks AS c JOIN attachment_blobs AS b ON b.id = c.blob_id WHERE b.state = 'arriving'";
    let bytes = i64::try_from(bytes).unwrap();
    eventually("what was sent is here", async || {
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await.unwrap() >= bytes).then_some(())
    })
    .await;
}
