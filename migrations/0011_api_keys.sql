-- Keys with which programs say who they are. Of a secret only a hash is kept: it is shown to whoever makes the key, once.

CREATE TABLE api_keys (
    key_id       uuid        PRIMARY KEY,
    tenant       text        NOT NULL,
    label        text        NOT NULL,
    -- How the secret begins, so that people can tell keys apart.
    prefix       text        NOT NULL,
    -- PBKDF2 with HMAC-SHA256 of the whole secret.
    hash         bytea       NOT NULL CHECK (octet_length(hash) = 32),
    salt         bytea       NOT NULL CHECK (octet_length(salt) = 16),
    rounds       integer     NOT NULL CHECK (rounds BETWEEN 390000 AND 10000000),
    -- For whom the key speaks: who made it, who vouched for them, and which of their scopes it has.
    created_by   text        NOT NULL,
    issuer       text,
    scopes       text[]      NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);

CREATE INDEX api_keys_tenant ON api_keys (tenant, created_at DESC, key_id DESC);
