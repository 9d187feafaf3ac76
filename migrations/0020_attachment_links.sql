-- Links by which anybody who has one fetches an attachment, until it expires or is taken back.

CREATE TABLE attachment_links (
    id            uuid        PRIMARY KEY,
    tenant        text        NOT NULL,
    attachment_id uuid        NOT NULL REFERENCES attachments (id) ON DELETE CASCADE,
    -- SHA-256 of the link's token. The token itself is nowhere.
    token_sha256  bytea       NOT NULL UNIQUE,
    -- Who made it, if that was known, and who vouches for them.
    subject       text,
    issuer        text,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    -- When it was taken back.
    revoked_at    timestamptz
);

CREATE INDEX attachment_links_of ON attachment_links (tenant, attachment_id, created_at DESC);
-- What is to be removed.
CREATE INDEX attachment_links_over ON attachment_links (expires_at);

ALTER TABLE attachment_links ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON attachment_links USING (tenant = NULLIF(current_setting('soma.tenant', true), ''));

ALTER FUNCTION raise_tenant_wall() RENAME TO raise_tenant_wall_without_links;

-- As before, for this table too. Safe to repeat.
CREATE FUNCTION raise_tenant_wall() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ours CONSTANT text := tenant_role();
BEGIN
    PERFORM raise_tenant_wall_without_links();
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ours) THEN
        RETURN;
    END IF;
    BEGIN
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON attachment_links TO %I', ours);
    EXCEPTION
        WHEN insufficient_privilege THEN NULL;
    END;
END $$;

SELECT raise_tenant_wall();
