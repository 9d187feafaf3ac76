-- Memories of the embedded SomaBrain stand-in. A deployment with a SomaBrain of its own leaves this table empty.

CREATE TABLE brain_memories (
    tenant      text               NOT NULL,
    namespace   text               NOT NULL,
    key         text               NOT NULL,
    universe    text               NOT NULL,
    value       jsonb              NOT NULL,
    text        text               NOT NULL,
    -- The `simple` configuration is the only one the embedded database has. The length is bounded because a tsvector
    -- may not exceed 1 MiB.
    words       tsvector           NOT NULL GENERATED ALWAYS AS (to_tsvector('simple', left(text, 100000))) STORED,
    coordinate  double precision[] NOT NULL CHECK (cardinality(coordinate) = 3),
    created_at  timestamptz        NOT NULL,
    updated_at  timestamptz        NOT NULL,
    PRIMARY KEY (tenant, namespace, key)
);

CREATE INDEX brain_memories_words ON brain_memories USING gin (words);
