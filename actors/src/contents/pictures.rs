//! Pictures of images.

use uuid::Uuid;

use super::{ContentError, Contents, bytes, making::Wanted};
use crate::{
    domain::ids::Tenant,
    extraction::{ExtractError, Picture, Purpose},
    store::{
        StoreError,
        attachment_pictures::{self, Key, Row},
        attachments::Attachment,
    },
};

/// Types of files of which there are pictures.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Whether there may be pictures of a file of this type.
#[must_use]
pub fn is_image(mime: &str) -> bool {
    IMAGES.contains(&mime)
}

/// A picture of which bytes, and what for.
#[derive(Clone, Debug)]
struct Source {
    tenant: Tenant,
    blob: Uuid,
    size: u64,
    purpose: Purpose,
}

impl Source {
    fn key(&self) -> Key<'_> {
        Key { tenant: self.tenant.as_str(), blob_id: self.blob, purpose: self.purpose.name() }
    }
}

impl Contents {
    /// A picture of a file. It is made when it is first asked for, which takes as long as the
    /// [`Extractor`](crate::extraction::Extractor) may. Whoever drops the future ends that.
    ///
    /// # Errors
    /// Every [`ContentError`].
    pub async fn picture(&self, file: &Attachment, purpose: Purpose) -> Result<Picture, ContentError> {
        if !is_image(&file.mime) {
            return Err(ContentError::Unreadable("there are pictures of PNG, JPEG, GIF and WebP only".to_owned()));
        }
        let blob = file.blob_id.ok_or(ContentError::Gone)?;
        let tenant = Tenant::new(&file.tenant).ok_or(ContentError::Gone)?;
        let source = Source { tenant, blob, size: u64::try_from(file.size).unwrap_or_default(), purpose };
        if let Some(kept) = self.kept_picture(&source).await? {
            return shown(kept);
        }
        let _alone = self.making.alone(blob, Wanted::Picture(purpose)).await;
        // Somebody may have made it while this one waited.
        if let Some(kept) = self.kept_picture(&source).await? {
            return shown(kept);
        }
        let made = match self.make(&source).await {
            Ok(Picture { bytes, width, height }) => {
                Row::Picture { bytes: bytes.into(), width: width.into(), height: height.into() }
            }
            Err(error) if error.may_pass() => return Err(ContentError::NotNow(error)),
            Err(error) => Row::None(error.to_string()),
        };
        self.keep_picture(&source, made.clone()).await?;
        shown(made)
    }

    async fn make(&self, source: &Source) -> Result<Picture, ExtractError> {
        let content = bytes::whole(&self.store, &source.tenant, source.blob, source.size);
        Box::pin(self.extractor.serving(source.tenant.as_str()).picture(source.purpose, content)).await
    }

    async fn kept_picture(&self, source: &Source) -> Result<Option<Row>, StoreError> {
        let (source, believed) = (source.clone(), self.believed());
        let work = self.store.read_for(source.tenant.clone(), move |rows| {
            Box::pin(async move { attachment_pictures::get(rows, source.key(), believed).await })
        });
        work.await
    }

    async fn keep_picture(&self, source: &Source, made: Row) -> Result<(), StoreError> {
        let (source, at) = (source.clone(), (self.clock)());
        let work = self.store.change_for(source.tenant.clone(), move |rows| {
            Box::pin(async move { attachment_pictures::put(rows, source.key(), &made, at).await })
        });
        work.await
    }
}

fn shown(row: Row) -> Result<Picture, ContentError> {
    let edge = |pixels: i64| u32::try_from(pixels).unwrap_or_default();
    match row {
        Row::Picture { bytes, width, height } => {
            Ok(Picture { bytes: bytes.into(), width: edge(width), height: edge(height) })
        }
        Row::None(why) => Err(ContentError::Unreadable(why)),
    }
}
