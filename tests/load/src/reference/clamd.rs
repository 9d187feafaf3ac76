//! A client that only hands bytes to clamd, as `clamdscan --stream` does.

use anyhow::{Result, ensure};
use somaagent_test_services::clamd::Clamd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// Has clamd look through `bytes`, in which it finds nothing.
pub async fn scan(clamd: &Clamd, bytes: &[u8]) -> Result<()> {
    let mut socket = TcpStream::connect(clamd.address()).await?;
    socket.set_nodelay(true)?;
    socket.write_all(b"zINSTREAM\0").await?;
    for piece in bytes.chunks(PIECE) {
        socket.write_all(&u32::try_from(piece.len())?.to_be_bytes()).await?;
        socket.write_all(piece).await?;
    }
    socket.write_all(&[0; 4]).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    ensure!(answer == "stream: OK\0", "clamd answered {answer:?}");
    Ok(())
}
