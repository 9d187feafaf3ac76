//! How the rooms are built on the base: the stand-ins, the actors, the front door.

use std::net::SocketAddr;

use anyhow::bail;
use sqlx::migrate::Migrator;

use crate::boot::{Base, Rooms};
use crate::shutdown::Shutdown;

/// The rooms of this build.
#[derive(Debug)]
pub struct Built {
    migrator: Migrator,
}

impl Default for Built {
    fn default() -> Self {
        Self { migrator: Migrator::with_migrations(Vec::new()) }
    }
}

impl Rooms for Built {
    fn migrator(&self) -> &Migrator {
        &self.migrator
    }

    async fn stand_ins(&mut self, _: &Base, _: &mut Shutdown) -> anyhow::Result<()> {
        Ok(())
    }

    async fn actors(&mut self, _: &Base, _: &mut Shutdown) -> anyhow::Result<()> {
        Ok(())
    }

    async fn door(&mut self, _: &Base, _: &mut Shutdown) -> anyhow::Result<SocketAddr> {
        bail!("this build has no front door yet")
    }
}
