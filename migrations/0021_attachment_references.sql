-- Files that are too large to be kept and are somewhere else: they were looked through to their end, and this is where they were found.
ALTER TABLE attachments ADD COLUMN external_url text;
ALTER TABLE attachments ADD CONSTRAINT attachments_external_check CHECK (external_url IS NULL OR blob_id IS NULL AND status = 'clean');
