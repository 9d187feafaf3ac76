-- Files that people send. Their bytes are here and nowhere else: nothing of them is on a disk of the machine that takes them.

-- Bytes, of which several attachments of a tenant may be. While they arrive nothing refers to them, and a blob becomes whole in the
-- transaction that writes its first attachment: of what was cut off nobody sees anything.
CREATE TABLE attachment_blobs (
    id         uuid        PRIMARY KEY,
    tenant     text        NOT NULL,
    -- `going`: what is left of bytes that nobody may refer to any more.
    state      text        NOT NULL CHECK (state IN ('arriving', 'whole', 'going')),
    -- In hexadecimal digits, as clients see it.
    sha256     text,
    size       bigint      CHECK (size >= 0),
    created_at timestamptz NOT NULL,
    -- When the last of them came.
    touched_at timestamptz NOT NULL,
    UNIQUE (tenant, id),
    CHECK (state <> 'whole' OR sha256 IS NOT NULL AND size IS NOT NULL)
);

-- Whether a tenant has bytes already.
CREATE INDEX attachment_blobs_same ON attachment_blobs (tenant, sha256) WHERE state = 'whole';
-- What is to be swept.
CREATE INDEX attachment_blobs_going ON attachment_blobs (id) WHERE state = 'going';
CREATE INDEX attachment_blobs_arriving ON attachment_blobs (touched_at) WHERE state = 'arriving';

-- Pieces of them, of any lengths. What a range begins in is found by its place.
CREATE TABLE attachment_chunks (
    blob_id uuid   NOT NULL,
    -- Where its first byte is, counted from 0.
    at      bigint NOT NULL CHECK (at >= 0),
    tenant  text   NOT NULL,
    bytes   bytea  NOT NULL,
    PRIMARY KEY (blob_id, at),
    FOREIGN KEY (tenant, blob_id) REFERENCES attachment_blobs (tenant, id) ON DELETE CASCADE
);

-- Most files are compressed already, and a part of a piece can only be read alone if it is not.
ALTER TABLE attachment_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE attachments (
    id                uuid        PRIMARY KEY,
    tenant            text        NOT NULL,
    -- The session that it was sent to, if any.
    session_id        uuid,
    persona_id        text,
    -- Who sent it, if that was known, and who vouches for them. An attachment of no session is theirs alone.
    subject           text,
    issuer            text,
    filename          text        NOT NULL,
    -- What the bytes are, and what the sender calls them.
    mime              text        NOT NULL,
    declared_mime     text,
    size              bigint      NOT NULL CHECK (size >= 0),
    sha256            text        NOT NULL,
    status            text        NOT NULL CHECK (status IN ('clean', 'quarantined')),
    quarantine_reason text        CHECK (quarantine_reason IN ('infected', 'av_error', 'limits_exceeded')),
    -- What was found in it.
    threat            text,
    -- When it was looked through, and with which version of the signatures; null if it was not.
    scanned_at        timestamptz,
    signatures        text,
    -- Its bytes; null if they were dropped or are gone.
    blob_id           uuid,
    created_at        timestamptz NOT NULL,
    -- When it was deleted; what is left then is a tombstone, so that conversations can say what it was.
    deleted_at        timestamptz,
    FOREIGN KEY (tenant, blob_id) REFERENCES attachment_blobs (tenant, id),
    CHECK ((status = 'quarantined') = (quarantine_reason IS NOT NULL)),
    CHECK (deleted_at IS NULL OR blob_id IS NULL)
);

CREATE INDEX attachments_session ON attachments (tenant, session_id, created_at DESC);
CREATE INDEX attachments_tenant ON attachments (tenant, created_at DESC);
CREATE INDEX attachments_sha256 ON attachments (tenant, sha256);
CREATE INDEX attachments_blob ON attachments (tenant, blob_id) WHERE blob_id IS NOT NULL;
-- What grows too old.
CREATE INDEX attachments_kept ON attachments (created_at) WHERE deleted_at IS NULL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['attachment_blobs', 'attachment_chunks', 'attachments'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY one_tenant ON %I USING (tenant = NULLIF(current_setting(''soma.tenant'', true), ''''))', name
        );
    END LOOP;
END $$;

-- What raised the wall so far makes the role and gives it its rights in the tables that were there.
ALTER FUNCTION raise_tenant_wall() RENAME TO raise_tenant_wall_of_sessions;

-- As before, for these tables too. Safe to repeat.
CREATE FUNCTION raise_tenant_wall() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ours  CONSTANT text := tenant_role();
    given text;
BEGIN
    PERFORM raise_tenant_wall_of_sessions();
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ours) THEN
        RETURN;
    END IF;
    FOREACH given IN ARRAY ARRAY[
        'SELECT, INSERT, UPDATE, DELETE ON attachment_blobs',
        -- Bytes are never others than those that came.
        'SELECT, INSERT, DELETE ON attachment_chunks',
        -- What is deleted leaves a tombstone.
        'SELECT, INSERT, UPDATE ON attachments'
    ] LOOP
        BEGIN
            EXECUTE format('GRANT %s TO %I', given, ours);
        EXCEPTION
            WHEN insufficient_privilege THEN NULL;
        END;
    END LOOP;
END $$;

SELECT raise_tenant_wall();
