-- Files that come in pieces, over as many requests as it takes. Their bytes are blobs that arrive; such a blob is given up with its
-- upload, and becomes an attachment's in the transaction that makes that.
CREATE TABLE tus_uploads (
    id              uuid        PRIMARY KEY,
    tenant          text        NOT NULL,
    -- `partial`: a part of others, which no attachment is made of. `final`: made of such parts.
    kind            text        NOT NULL CHECK (kind IN ('whole', 'partial', 'final')),
    -- Where its attachment belongs.
    session_id      uuid,
    persona_id      text,
    -- Who began it, if that was known, and who vouches for them: for others there is no such upload.
    subject         text,
    issuer          text,
    -- What its sender says of it, and all of that as it was written.
    filename        text,
    declared_mime   text,
    metadata        text,
    length          bigint      NOT NULL CHECK (length >= 0),
    -- So many of its first bytes are kept.
    arrived         bigint      NOT NULL CHECK (arrived BETWEEN 0 AND length),
    -- What it was made of.
    parts           uuid[],
    -- The number of the last one who began to write. Whoever has another number writes nothing any more.
    writer          bigint      NOT NULL,
    -- Until then somebody looks through it, and nobody else begins to.
    finishing_until timestamptz,
    blob_id         uuid,
    -- What it has become.
    attachment_id   uuid,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    FOREIGN KEY (tenant, blob_id) REFERENCES attachment_blobs (tenant, id),
    CHECK ((attachment_id IS NULL) = (blob_id IS NOT NULL))
);

-- Whether a blob is still waited for.
CREATE INDEX tus_uploads_blob ON tus_uploads (tenant, blob_id) WHERE blob_id IS NOT NULL;
-- How many of somebody's are open.
CREATE INDEX tus_uploads_open ON tus_uploads (tenant, subject) WHERE blob_id IS NOT NULL;
-- What goes with a session.
CREATE INDEX tus_uploads_session ON tus_uploads (tenant, session_id) WHERE session_id IS NOT NULL;
-- What is over.
CREATE INDEX tus_uploads_expired ON tus_uploads (expires_at);

ALTER TABLE tus_uploads ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON tus_uploads USING (tenant = NULLIF(current_setting('soma.tenant', true), ''));

-- What raised the wall so far.
ALTER FUNCTION raise_tenant_wall() RENAME TO raise_tenant_wall_before_tus_uploads;

-- As before, for this table too. Safe to repeat.
CREATE FUNCTION raise_tenant_wall() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ours CONSTANT text := tenant_role();
BEGIN
    PERFORM raise_tenant_wall_before_tus_uploads();
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ours) THEN
        RETURN;
    END IF;
    BEGIN
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON tus_uploads TO %I', ours);
    EXCEPTION
        WHEN insufficient_privilege THEN NULL;
    END;
END $$;

SELECT raise_tenant_wall();
