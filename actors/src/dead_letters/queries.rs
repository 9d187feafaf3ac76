//! Bounded reads of dead letters: they wake no actor. Each sees the letters of one tenant only.

use std::sync::Arc;

use uuid::Uuid;

pub use crate::store::{
    StoreError,
    dead_letters::browse::{Letter, LetterFilter, LetterPage, ListedLetter, TopicSummary},
    dlq_jobs::Job,
};
use crate::{
    domain::ids::Tenant,
    store::{Store, dead_letters::browse, dlq_jobs},
};

/// Reads dead letters.
#[derive(Clone, Debug)]
pub struct LetterReads {
    store: Store,
    shown: Arc<[String]>,
}

impl LetterReads {
    /// Reads from `store`; the topics `shown` are listed also while they are empty.
    #[must_use]
    pub fn new(store: Store, shown: Vec<String>) -> Self {
        Self { store, shown: shown.into() }
    }

    /// The topics, by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn topics(&self, tenant: &Tenant) -> Result<Vec<TopicSummary>, StoreError> {
        let whose = tenant.clone();
        let work = self
            .store
            .read_for(tenant.clone(), move |rows| Box::pin(async move { browse::topics(rows, whose.as_str()).await }));
        let mut topics = work.await?;
        for topic in self.shown.iter() {
            if !topics.iter().any(|found| found.topic == *topic) {
                topics.push(TopicSummary { topic: topic.clone(), depth: 0, oldest: None, newest: None });
            }
        }
        topics.sort_by(|one, other| one.topic.cmp(&other.topic));
        Ok(topics)
    }

    /// Up to `limit` letters of a topic with a number below `before`, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        tenant: &Tenant,
        topic: &str,
        filter: LetterFilter,
        before: Option<i64>,
        limit: i64,
    ) -> Result<LetterPage, StoreError> {
        let (whose, topic) = (tenant.clone(), topic.to_owned());
        self.store
            .read_for(tenant.clone(), move |rows| {
                Box::pin(async move { browse::list(rows, whose.as_str(), &topic, &filter, before, limit).await })
            })
            .await
    }

    /// One letter.
    ///
    /// # Errors
    /// The store's.
    pub async fn letter(&self, tenant: &Tenant, topic: &str, id: i64) -> Result<Option<Letter>, StoreError> {
        let (whose, topic) = (tenant.clone(), topic.to_owned());
        self.store
            .read_for(tenant.clone(), move |rows| {
                Box::pin(async move { browse::get(rows, whose.as_str(), &topic, id).await })
            })
            .await
    }

    /// One order to send many again.
    ///
    /// # Errors
    /// The store's.
    pub async fn job(&self, tenant: &Tenant, topic: &str, id: Uuid) -> Result<Option<Job>, StoreError> {
        let (whose, topic) = (tenant.clone(), topic.to_owned());
        self.store
            .read_for(tenant.clone(), move |rows| {
                Box::pin(async move { dlq_jobs::get(rows, whose.as_str(), &topic, id).await })
            })
            .await
    }
}
