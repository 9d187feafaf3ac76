-- What was made of files. It is made once and kept, for that is costly, and goes with the bytes it was made of.

-- Their texts.
CREATE TABLE attachment_texts (
    blob_id       uuid        NOT NULL,
    -- How the bytes were read: of the same bytes several attachments may be, and one may call them a page, the other a text.
    kind          text        NOT NULL CHECK (kind IN ('plain', 'xml', 'html', 'pdf', 'docx')),
    tenant        text        NOT NULL,
    -- Null: there is none, and why.
    text          text,
    failure       text,
    -- How many characters there are beyond these.
    missing_chars bigint      NOT NULL CHECK (missing_chars >= 0),
    -- Of a document that has pages.
    pages_read    bigint,
    pages_total   bigint,
    made_at       timestamptz NOT NULL,
    PRIMARY KEY (blob_id, kind),
    FOREIGN KEY (tenant, blob_id) REFERENCES attachment_blobs (tenant, id) ON DELETE CASCADE,
    CHECK ((text IS NULL) = (failure IS NOT NULL)),
    CHECK ((pages_read IS NULL) = (pages_total IS NULL))
);

-- Their pictures, smaller than they are.
CREATE TABLE attachment_pictures (
    blob_id uuid        NOT NULL,
    -- What for: `thumbnail` for people, `model` for the model.
    purpose text        NOT NULL CHECK (purpose IN ('thumbnail', 'model')),
    tenant  text        NOT NULL,
    -- Null: there is none, and why.
    bytes   bytea,
    failure text,
    -- In pixels; null without a picture.
    width   bigint,
    height  bigint,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (blob_id, purpose),
    FOREIGN KEY (tenant, blob_id) REFERENCES attachment_blobs (tenant, id) ON DELETE CASCADE,
    CHECK ((bytes IS NULL) = (failure IS NOT NULL)),
    CHECK ((bytes IS NULL) = (width IS NULL) AND (bytes IS NULL) = (height IS NULL))
);

-- They are compressed already.
ALTER TABLE attachment_pictures ALTER COLUMN bytes SET STORAGE EXTERNAL;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['attachment_texts', 'attachment_pictures'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY one_tenant ON %I USING (tenant = NULLIF(current_setting(''soma.tenant'', true), ''''))', name
        );
    END LOOP;
END $$;

-- What raised the wall so far makes the role and gives it its rights in the tables that were there.
ALTER FUNCTION raise_tenant_wall() RENAME TO raise_tenant_wall_before_contents;

-- As before, for these tables too. Safe to repeat.
CREATE FUNCTION raise_tenant_wall() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ours  CONSTANT text := tenant_role();
    given text;
BEGIN
    PERFORM raise_tenant_wall_before_contents();
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ours) THEN
        RETURN;
    END IF;
    FOREACH given IN ARRAY ARRAY[
        'SELECT, INSERT, UPDATE ON attachment_texts',
        'SELECT, INSERT, UPDATE ON attachment_pictures'
    ] LOOP
        BEGIN
            EXECUTE format('GRANT %s TO %I', given, ours);
        EXCEPTION
            WHEN insufficient_privilege THEN NULL;
        END;
    END LOOP;
END $$;

SELECT raise_tenant_wall();
