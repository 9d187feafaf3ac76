WITH step AS (
    SELECT s.*
    FROM unnest(
        $1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::timestamptz[], $8::text[],
        $9::timestamptz[], $10::text[], $11::boolean[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
        $17::boolean[], $45::text[]
    ) WITH ORDINALITY AS s(
        tenant, session_id, epoch, head, new_head, fresh, at, owner, lease_until, title, keep_title, persona_id, subject,
        scope, metadata, analysis, paused, title_folded, step
    )
),
created AS (
    INSERT INTO session_envelopes (
        tenant, session_id, title, title_folded, persona_id, subject, scope, metadata, analysis, paused, owner, epoch,
        lease_until, last_seq, created_at, updated_at
    )
    SELECT
        tenant, session_id, title, title_folded, persona_id, subject, scope, COALESCE(metadata, '{}')::jsonb,
        COALESCE(analysis, '{}')::jsonb, COALESCE(paused, false), owner, epoch, lease_until, new_head, at, at
    FROM step
    WHERE fresh
    ON CONFLICT DO NOTHING
    RETURNING tenant, session_id
),
advanced AS (
    UPDATE session_envelopes AS e
    SET last_seq = s.new_head,
        updated_at = s.at,
        owner = COALESCE(s.owner, e.owner),
        lease_until = COALESCE(s.lease_until, e.lease_until),
        title = CASE WHEN s.keep_title THEN COALESCE(e.title, s.title) ELSE COALESCE(s.title, e.title) END,
        title_folded = CASE
            WHEN s.keep_title THEN COALESCE(e.title_folded, s.title_folded)
            ELSE COALESCE(s.title_folded, e.title_folded)
        END,
        persona_id = COALESCE(s.persona_id, e.persona_id),
        -- Whoever began a session has it for ever.
        subject = COALESCE(e.subject, s.subject),
        scope = COALESCE(e.scope, s.scope),
        metadata = CASE WHEN s.metadata IS NULL THEN e.metadata ELSE e.metadata || s.metadata::jsonb END,
        analysis = COALESCE(s.analysis::jsonb, e.analysis),
        paused = COALESCE(s.paused, e.paused)
    FROM step AS s
    WHERE NOT s.fresh
      AND e.tenant = s.tenant
      AND e.session_id = s.session_id
      AND e.epoch = s.epoch
      AND e.last_seq = s.head
      AND e.deleted_at IS NULL
    RETURNING e.tenant, e.session_id
),
passed AS (
    SELECT s.step, s.tenant, s.session_id, s.head, s.at, s.persona_id
    FROM step AS s
    JOIN (SELECT tenant, session_id FROM created UNION ALL SELECT tenant, session_id FROM advanced) AS held
      ON held.tenant = s.tenant AND held.session_id = s.session_id
),
event AS (
    SELECT p.tenant, p.session_id, p.head + e.place AS seq, p.at, p.persona_id, e.event_id, e.turn_seq, e.type, e.terminal,
           e.key, e.hash, e.payload::jsonb AS payload, e.topic, e.memory::jsonb AS memory, e.memory_key
    FROM unnest(
        $18::bigint[], $19::bigint[], $20::uuid[], $21::bigint[], $22::text[], $23::boolean[], $24::text[], $25::bytea[],
        $26::text[], $27::text[], $28::text[], $29::text[]
    ) AS e(step, place, event_id, turn_seq, type, terminal, key, hash, payload, topic, memory, memory_key)
    JOIN passed AS p ON p.step = e.step
),
history AS (
    INSERT INTO session_events (
        tenant, session_id, seq, event_id, turn_seq, type, terminal, idempotency_key, body_hash, occurred_at, payload
    )
    SELECT tenant, session_id, seq, event_id, turn_seq, type, terminal, key, hash, at, payload
    FROM event
),
published AS (
    INSERT INTO message_outbox (
        tenant, session_id, seq, topic, partition_key, payload, dedupe_key, next_attempt_at, created_at, updated_at
    )
    SELECT tenant, session_id, seq, topic, session_id::text, payload, event_id::text, at, at, at
    FROM event
    ORDER BY event.session_id, event.seq
),
remembered AS (
    INSERT INTO memory_write_outbox (
        tenant, session_id, seq, persona_id, payload, idempotency_key, dedupe_key, next_attempt_at, created_at, updated_at
    )
    SELECT tenant, session_id, seq, persona_id, memory, memory_key, event_id::text, at, at, at
    FROM event
    WHERE memory IS NOT NULL
    ORDER BY event.session_id, event.seq
),
turn AS (
    INSERT INTO turns (
        tenant, session_id, turn_seq, event_id, attempt, state, usage, error_code, started_at, updated_at
    )
    SELECT p.tenant, p.session_id, t.turn_seq, t.event_id, t.attempt, t.state, t.usage::jsonb, t.error_code, p.at, p.at
    FROM unnest($30::bigint[], $31::bigint[], $32::uuid[], $33::integer[], $34::text[], $35::text[], $36::text[])
        AS t(step, turn_seq, event_id, attempt, state, usage, error_code)
    JOIN passed AS p ON p.step = t.step
    ON CONFLICT (tenant, session_id, turn_seq) DO UPDATE
    SET attempt = excluded.attempt,
        state = excluded.state,
        usage = excluded.usage,
        error_code = excluded.error_code,
        -- A turn that only waited begins with its first attempt.
        started_at = CASE WHEN turns.attempt = 0 AND excluded.attempt > 0 THEN excluded.started_at ELSE turns.started_at END,
        updated_at = excluded.updated_at
),
audited AS (
    INSERT INTO audit_event (
        ts, tenant, session_id, request_id, trace_id, workflow_id, subject, issuer, action, resource, target_id, decision,
        details, diff, ip, user_agent
    )
    SELECT p.at, p.tenant, p.session_id, a.request_id, a.trace_id, a.workflow_id, a.subject, a.issuer, a.action,
           a.resource, a.target_id, a.decision, a.details::jsonb, a.diff::jsonb, a.ip::inet, a.user_agent
    FROM unnest(
        $37::bigint[], $38::text[], $39::text[], $40::text[], $41::text[], $42::text[], $43::text[], $44::text[],
        $46::text[], $47::text[], $48::text[], $49::text[], $50::text[], $51::text[]
    ) AS a(
        step, request_id, subject, action, resource, target_id, details, ip, trace_id, workflow_id, issuer, decision,
        diff, user_agent
    )
    JOIN passed AS p ON p.step = a.step
)
SELECT step FROM passed
