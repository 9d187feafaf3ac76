-- Who reads the log, how far, and what is made of it.

CREATE TABLE event_log_members (
    group_name  text        NOT NULL,
    topic       text        NOT NULL,
    member      uuid        NOT NULL,
    joined_at   timestamptz NOT NULL,
    -- A member that is silent for longer is taken for dead, and its partitions are free.
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (group_name, topic, member)
);

CREATE TABLE event_log_offsets (
    group_name  text    NOT NULL,
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    -- Everything before it is done.
    next_offset bigint  NOT NULL DEFAULT 0,
    owner       uuid,
    -- Rises with each owner: what a former one wants to write down is refused.
    epoch       bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (group_name, topic, partition)
);
