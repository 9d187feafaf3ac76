-- How far the sealing is, is told by numbers of transactions, which every server counts for itself. The server that counted
-- them: a trail that was brought to another one is taken over there once, which the chains tell. NULL until a sealer has looked.
ALTER TABLE audit_sealer ADD COLUMN server text;

-- The rows in which chains tell of that: few, and whoever verifies begins with them.
CREATE INDEX audit_event_takeover ON audit_event (tenant, id) WHERE action = 'audit.takeover';

-- The end of a chain that claims to have been told further than it goes is told too.
DROP INDEX audit_chain_untold;
CREATE INDEX audit_chain_untold ON audit_chain (tenant) WHERE checkpointed <> number;
