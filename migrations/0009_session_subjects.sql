-- Whoever sees only their own sessions lists them by this. Sessions begun without authentication are nobody's own.

CREATE INDEX session_envelopes_subject ON session_envelopes (tenant, subject, updated_at DESC, session_id DESC)
    WHERE deleted_at IS NULL AND subject IS NOT NULL;
