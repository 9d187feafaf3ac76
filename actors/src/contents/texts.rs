//! The texts of files.

use uuid::Uuid;

use super::{ContentError, Contents, bytes, making::Wanted};
use crate::{
    domain::ids::Tenant,
    extraction::{ExtractError, Extracted, Pages, TextKind},
    store::{
        StoreError,
        attachment_texts::{self, Key, Row},
        attachments::Attachment,
    },
};

/// The text of which bytes, and how they are read.
#[derive(Clone, Debug)]
struct Source {
    tenant: Tenant,
    blob: Uuid,
    size: u64,
    kind: TextKind,
}

impl Source {
    fn key(&self) -> Key<'_> {
        Key { tenant: self.tenant.as_str(), blob_id: self.blob, kind: self.kind.name() }
    }
}

impl Contents {
    /// The text of a file, at most `max_chars` of it; what is missing is told with it. It is made when it is first asked for, which
    /// takes as long as the [`Extractor`](crate::extraction::Extractor) may. Whoever drops the future ends that.
    ///
    /// # Errors
    /// Every [`ContentError`].
    pub async fn text(&self, file: &Attachment, max_chars: usize) -> Result<Extracted, ContentError> {
        let kind = TextKind::of_mime(&file.mime)
            .ok_or_else(|| ContentError::Unreadable("no text is read of files of this type".to_owned()))?;
        let blob = file.blob_id.ok_or(ContentError::Gone)?;
        let tenant = Tenant::new(&file.tenant).ok_or(ContentError::Gone)?;
        let source = Source { tenant, blob, size: u64::try_from(file.size).unwrap_or_default(), kind };
        if let Some(kept) = self.kept_text(&source, max_chars).await? {
            return read(kept);
        }
        let _alone = self.making.alone(blob, Wanted::Text(kind)).await;
        // Somebody may have made it while this one waited.
        if let Some(kept) = self.kept_text(&source, max_chars).await? {
            return read(kept);
        }
        let made = match self.extract(&source).await {
            Ok(found) => Row {
                text: Some(found.text),
                failure: None,
                missing_chars: i64::try_from(found.missing_chars).unwrap_or(i64::MAX),
                pages_read: found.pages.map(|pages| pages.read.into()),
                pages_total: found.pages.map(|pages| pages.total.into()),
            },
            Err(error) if error.may_pass() => return Err(ContentError::NotNow(error)),
            Err(error) => Row {
                text: None,
                failure: Some(error.to_string()),
                missing_chars: 0,
                pages_read: None,
                pages_total: None,
            },
        };
        self.keep_text(&source, made.clone()).await?;
        read(cut(made, max_chars))
    }

    async fn extract(&self, source: &Source) -> Result<Extracted, ExtractError> {
        let content = bytes::whole(&self.store, &source.tenant, source.blob, source.size);
        Box::pin(self.extractor.serving(source.tenant.as_str()).text(source.kind, content)).await
    }

    async fn kept_text(&self, source: &Source, max_chars: usize) -> Result<Option<Row>, StoreError> {
        let (source, believed) = (source.clone(), self.believed());
        let max_chars = i32::try_from(max_chars).unwrap_or(i32::MAX);
        let work = self.store.read_for(source.tenant.clone(), move |rows| {
            Box::pin(async move { attachment_texts::get(rows, source.key(), max_chars, believed).await })
        });
        work.await
    }

    async fn keep_text(&self, source: &Source, made: Row) -> Result<(), StoreError> {
        let (source, at) = (source.clone(), (self.clock)());
        let work = self.store.change_for(source.tenant.clone(), move |rows| {
            Box::pin(async move { attachment_texts::put(rows, source.key(), &made, at).await })
        });
        work.await
    }
}

/// The same with at most `max_chars` of the text, as the database would have given it.
fn cut(mut row: Row, max_chars: usize) -> Row {
    if let Some(text) = &mut row.text
        && let Some((end, _)) = text.char_indices().nth(max_chars)
    {
        let missing = i64::try_from(text[end..].chars().count()).unwrap_or(i64::MAX);
        row.missing_chars = row.missing_chars.saturating_add(missing);
        text.truncate(end);
    }
    row
}

fn read(row: Row) -> Result<Extracted, ContentError> {
    let Some(text) = row.text else { return Err(ContentError::Unreadable(row.failure.unwrap_or_default())) };
    let count = |pages: i64| u32::try_from(pages).unwrap_or_default();
    let pages = row.pages_read.zip(row.pages_total);
    let pages = pages.map(|(read, total)| Pages { read: count(read), total: count(total) });
    let missing_chars = u64::try_from(row.missing_chars).unwrap_or_default();
    Ok(Extracted { text, missing_chars, pages, charset: None })
}
