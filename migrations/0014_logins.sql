-- From where somebody has logged in, so that people know their logins again; and what lists those of a whole tenant.

ALTER TABLE api_keys
    -- Of a login: the address from which it was begun, and what the browser there called itself.
    ADD COLUMN ip         inet,
    ADD COLUMN user_agent text;

CREATE INDEX api_keys_logins_listed ON api_keys (tenant, created_at DESC, key_id DESC) WHERE kind = 'login';
