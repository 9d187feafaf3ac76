-- What operators save while the program runs, over what it was configured with: one document for the whole installation.
CREATE TABLE ui_settings (
    -- There is one row, `global`.
    key     text   PRIMARY KEY,
    -- By section and field; what is not in it is as configured.
    value   jsonb  NOT NULL DEFAULT '{}',
    -- Grows by one with each change; 0 before the first.
    version bigint NOT NULL DEFAULT 0 CHECK (version >= 0)
);

-- The document as each change left it, and who made the change.
CREATE TABLE ui_settings_versions (
    number     bigint      PRIMARY KEY CHECK (number > 0),
    document   jsonb       NOT NULL,
    -- Names of the fields that were changed, as `section.field`.
    changed    text[]      NOT NULL,
    -- The version that was restored, if it was.
    restored   bigint,
    created_at timestamptz NOT NULL,
    -- Who changed it, and in which request. The settings are everybody's; this is whose admin it was.
    tenant     text        NOT NULL,
    subject    text,
    request_id text
);
