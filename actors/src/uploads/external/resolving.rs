//! Names become addresses, once: what is looked at is what is connected to, so a name that means something else a moment later changes
//! nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

use super::addresses::{Networks, Reach};

/// Finds the addresses of a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Not all addresses of a name may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the host has an address that is not asked")]
pub(super) struct Closed;

/// Finds addresses, and hands them on only if all of them may be connected to.
pub(super) struct Resolver {
    pub(super) lookup: Lookup,
    pub(super) networks: Arc<Networks>,
    pub(super) reach: Reach,
}

/// What the system says.
pub(super) fn system() -> Lookup {
    Arc::new(|name| async move { Ok(lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) }.boxed())
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, networks, reach) =
            ((self.lookup)(name.as_str().to_owned()), Arc::clone(&self.networks), self.reach);
        Box::pin(async move {
            let found = found.await?;
            // One that is not allowed says enough of whoever named it: there are names that mean this and that by turns.
            if !found.iter().all(|address| networks.allow(reach, *address)) {
                tracing::warn!(host = name.as_str(), "a host has an address from which no file is fetched");
                return Err(Closed.into());
            }
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
