-- Keys with which programs say who they are, and logins of people at their browsers. Of a secret only a hash is kept: it is
-- given to whoever it is for, once.

CREATE TABLE api_keys (
    key_id       uuid        PRIMARY KEY,
    tenant       text        NOT NULL,
    kind         text        NOT NULL DEFAULT 'key' CHECK (kind IN ('key', 'login')),
    -- What people call the key, or who has logged in is called.
    label        text        NOT NULL,
    -- How the secret begins, so that people can tell keys apart.
    prefix       text        NOT NULL,
    -- PBKDF2 with HMAC-SHA256 of the whole secret.
    hash         bytea       NOT NULL CHECK (octet_length(hash) = 32),
    salt         bytea       NOT NULL CHECK (octet_length(salt) = 16),
    -- A login is hashed once: it is all chance, lasts hours, and nobody types it.
    rounds       integer     NOT NULL CHECK (rounds BETWEEN CASE kind WHEN 'login' THEN 1 ELSE 390000 END AND 10000000),
    -- For whom the key speaks: who made it, who vouched for them, and which of their scopes it has.
    created_by   text        NOT NULL,
    issuer       text,
    scopes       text[]      NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);

CREATE INDEX api_keys_tenant ON api_keys (tenant, created_at DESC, key_id DESC) WHERE kind = 'key';
CREATE INDEX api_keys_logins ON api_keys (tenant, created_by) WHERE kind = 'login';
