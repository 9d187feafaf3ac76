-- What becomes of attachments after they were sent: an admin lets one go out all the same, what is remembered of one is taken back
-- with it, and all are looked through again.

-- Who let it go out although something was found in it, and when. What was found stays in the row.
ALTER TABLE attachments ADD COLUMN released_at timestamptz;
ALTER TABLE attachments ADD COLUMN released_by text;
ALTER TABLE attachments DROP CONSTRAINT attachments_check;
ALTER TABLE attachments ADD CONSTRAINT attachments_judged
    CHECK (((status = 'quarantined') OR released_at IS NOT NULL) = (quarantine_reason IS NOT NULL));
ALTER TABLE attachments ADD CONSTRAINT attachments_released CHECK (released_at IS NULL OR status = 'clean');

-- Whether there is a memory of it: `queued` if one was put on its way, `withdrawn` if that was taken back here and the memory
-- service is still to be told. Only what is deleted is withdrawn.
ALTER TABLE attachments ADD COLUMN memory text CHECK (memory IN ('queued', 'withdrawn'));
ALTER TABLE attachments ADD CONSTRAINT attachments_withdrawn CHECK (memory <> 'withdrawn' OR deleted_at IS NOT NULL);
CREATE INDEX attachments_forgotten ON attachments (deleted_at) WHERE memory IS NOT NULL AND deleted_at IS NOT NULL;

-- When somebody last began to look through it again.
ALTER TABLE attachments ADD COLUMN rescan_tried_at timestamptz;
-- By the time they were sent: what is too old for that is not even looked at.
CREATE INDEX attachments_rescan ON attachments (created_at)
    WHERE blob_id IS NOT NULL AND (status = 'clean' OR quarantine_reason = 'av_error');

-- What admins look for.
CREATE INDEX attachments_quarantined ON attachments (tenant, created_at DESC) WHERE status = 'quarantined';
