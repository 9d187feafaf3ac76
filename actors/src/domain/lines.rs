//! Lines of JSON as they are exported, a piece at a time, and the last line by which a reader knows that it has all of them.

use serde::Serialize;
use sha2::{
    Digest, Sha256,
    digest::common::hazmat::{SerializableState, SerializedState},
};

use super::hex::hex;

/// How far an export is: how many lines there were, and their checksum.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    rows: u64,
    hash: Sha256,
}

/// The last line.
#[derive(Serialize)]
struct Trailer {
    r#type: &'static str,
    /// Lines before this one.
    rows: u64,
    /// SHA-256 of their bytes, line ends included.
    sha256: String,
    /// Where the next export goes on, if there may be more.
    cursor: Option<i64>,
}

impl Lines {
    /// After `rows` lines whose checksum [`digest`](Self::digest) gave. `None` if these bytes are no checksum.
    #[must_use]
    pub fn after(rows: u64, digest: &[u8]) -> Option<Self> {
        let state = SerializedState::<Sha256>::try_from(digest).ok()?;
        Some(Self { rows, hash: Sha256::deserialize(&state).ok()? })
    }

    /// Lines so far, the last one not counted.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The checksum of the lines so far, as it stands between two of them.
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        self.hash.serialize().to_vec()
    }

    /// SHA-256 of the lines so far and `last` behind them.
    #[must_use]
    pub fn sha256(&self, last: &[u8]) -> Vec<u8> {
        self.hash.clone().chain_update(last).finalize().to_vec()
    }

    /// The next lines, one for each of `items`.
    pub fn pack<T: Serialize>(&mut self, items: impl IntoIterator<Item = T>) -> Vec<u8> {
        let mut lines = Vec::new();
        for item in items {
            self.rows += 1;
            put(&mut lines, &item);
        }
        self.hash.update(&lines);
        lines
    }

    /// The last line. `cursor` is where the next export goes on, if there may be more.
    #[must_use]
    pub fn trailer(&self, cursor: Option<i64>) -> Vec<u8> {
        let trailer = Trailer { r#type: "trailer", rows: self.rows, sha256: hex(&self.sha256(b"")), cursor };
        let mut line = Vec::new();
        put(&mut line, &trailer);
        line
    }
}

fn put(lines: &mut Vec<u8>, item: &impl Serialize) {
    // Nothing of an item can fail to be written.
    serde_json::to_writer(&mut *lines, item).unwrap_or_default();
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_tells_how_many_there_were_and_their_sum() {
        let mut lines = Lines::default();
        let mut text = lines.pack([1, 2]);
        let mut lines = Lines::after(lines.rows(), &lines.digest()).unwrap_or_default();
        text.extend(lines.pack(["tea"]));
        assert_eq!(text, b"1\n2\n\"tea\"\n");
        let sum = hex(&Sha256::digest(&text));
        let last = format!("{{\"type\":\"trailer\",\"rows\":3,\"sha256\":\"{sum}\",\"cursor\":7}}\n");
        assert_eq!(String::from_utf8(lines.trailer(Some(7))), Ok(last));
        assert!(Lines::after(1, b"no checksum").is_none());
    }
}
