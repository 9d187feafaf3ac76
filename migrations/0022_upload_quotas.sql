-- How much room is left for files: the sums of what a tenant has, and a session of it, come out of indexes alone.
CREATE INDEX attachments_used ON attachments (tenant, session_id) INCLUDE (size) WHERE blob_id IS NOT NULL;
CREATE INDEX tus_uploads_used ON tus_uploads (tenant, session_id) INCLUDE (length) WHERE blob_id IS NOT NULL;

-- What was said of parts when an upload began, word for word; null if nothing was, or before this was kept.
ALTER TABLE tus_uploads ADD COLUMN concat text;
