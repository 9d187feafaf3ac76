//! Which scanners are free.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{ScanError, metrics::ScannerMetrics};

/// The scanners by their numbers, those that are free in the order in which they became it.
pub(super) struct Bench {
    free: Arc<Semaphore>,
    idle: Mutex<VecDeque<usize>>,
    total: u32,
    metrics: ScannerMetrics,
}

impl Bench {
    /// All of them are free.
    pub fn new(total: u32, metrics: ScannerMetrics) -> Arc<Self> {
        let idle = (0..total as usize).collect();
        Arc::new(Self { free: Arc::new(Semaphore::new(total as usize)), idle: Mutex::new(idle), total, metrics })
    }

    /// A free scanner, for whoever waits longest, at most `within`.
    pub async fn place(self: &Arc<Self>, within: Duration) -> Result<Place, ScanError> {
        let waiting = self.metrics.waiting();
        let permit = timeout(within, Arc::clone(&self.free).acquire_owned()).await.map_err(|_| ScanError::Busy)?;
        let permit = permit.map_err(|_| ScanError::Draining)?;
        drop(waiting);
        // There are as many numbers as permits, and a number comes back before its permit.
        let at = self.idle.lock().pop_front().ok_or(ScanError::Busy)?;
        self.metrics.busy(1);
        Ok(Place { bench: Arc::clone(self), at, _permit: permit })
    }

    /// How many there are.
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// How many of them are busy.
    pub fn busy(&self) -> usize {
        (self.total as usize).saturating_sub(self.idle.lock().len())
    }

    /// Gives nobody a place any more, and waits at most `within` until all are free. Says whether they are.
    pub async fn drain(&self, within: Duration) -> bool {
        let all = timeout(within, self.free.acquire_many(self.total)).await;
        self.free.close();
        all.is_ok()
    }
}

/// A scanner that is taken until this is dropped, also by whoever fails.
pub(super) struct Place {
    bench: Arc<Bench>,
    at: usize,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Its number.
    pub const fn at(&self) -> usize {
        self.at
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bench.metrics.busy(-1);
        self.bench.idle.lock().push_back(self.at);
    }
}
