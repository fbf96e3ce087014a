-- The tables. @schema@ is the quoted name of the schema.
--
-- An instance has a number besides its id: rows of instances that run at the same time then lie side by side, so that a
-- batch changes few pages, and keys are short. Numbers are never used twice.
--
-- A plain step changes no column that an index or its condition names, so that its updates stay within the page (HOT);
-- the fill factors leave room for that.

CREATE SEQUENCE @schema@.instance_number;
CREATE SEQUENCE @schema@.inbox_number;
CREATE SEQUENCE @schema@.event_number;

-- Which structure of a definition: instances name it by a number.
CREATE TABLE @schema@.plan (
    n integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    hash text COLLATE "C" NOT NULL,
    UNIQUE (id, version, hash)
);

CREATE TABLE @schema@.definition (
    plan integer PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    body text NOT NULL,
    source text NOT NULL,
    UNIQUE (id, version)
);

CREATE TABLE @schema@.session (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    began_at bigint NOT NULL,
    expires_at bigint NOT NULL
) WITH (fillfactor = 50);

-- `born_after` is the number of the newest event when the instance was started: what its waits match by default has a
-- higher one. (Not a matter of time: a clock that is set back would hide events from it.)
-- `owner` is empty when nobody holds the instance: an equality that the index can seek, as IS NULL cannot for an order.
CREATE TABLE @schema@.instance (
    n bigint PRIMARY KEY,
    created_at bigint NOT NULL,
    born_after bigint NOT NULL,
    plan integer NOT NULL,
    run integer NOT NULL,
    revision bigint NOT NULL,
    fence bigint NOT NULL,
    activations integer NOT NULL,
    id text COLLATE "C" NOT NULL UNIQUE,
    digest bytea NOT NULL,
    owner text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    head bytea NOT NULL,
    wake_at bigint,
    ended_at bigint,
    blocked_reason text,
    name text COLLATE "C",
    reference text COLLATE "C",
    parent_id text COLLATE "C",
    parent_pointer bigint,
    on_parent_end text COLLATE "C"
) WITH (fillfactor = 50);

CREATE INDEX instance_due ON @schema@.instance (owner, plan, wake_at)
    WHERE wake_at IS NOT NULL AND status <> 'suspended';
-- Lists alone use these two. Their conditions stand in no statement of the functions: before a table has statistics, the
-- planner believes that a partial index holds few rows, and would walk the whole of it to look up one.
CREATE INDEX instance_live ON @schema@.instance (n) WHERE status IN ('runnable', 'suspended');
CREATE INDEX instance_unusual ON @schema@.instance (status, n) WHERE status NOT IN ('runnable', 'complete');
CREATE INDEX instance_ended ON @schema@.instance (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX instance_name ON @schema@.instance (name, n) WHERE name IS NOT NULL;
CREATE INDEX instance_reference ON @schema@.instance (reference, n) WHERE reference IS NOT NULL;
CREATE INDEX instance_parent ON @schema@.instance (parent_id, n) WHERE parent_id IS NOT NULL;

CREATE TABLE @schema@.document (
    n bigint PRIMARY KEY,
    data bytea NOT NULL,
    vals bytea NOT NULL
) WITH (fillfactor = 60);

CREATE TABLE @schema@.pointer (
    n bigint NOT NULL,
    slot bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (n, slot)
) WITH (fillfactor = 60);

CREATE TABLE @schema@.item (
    n bigint NOT NULL,
    pointer bigint NOT NULL,
    items bytea NOT NULL,
    PRIMARY KEY (n, pointer)
);

CREATE TABLE @schema@.error (
    n bigint NOT NULL,
    number bigint NOT NULL,
    error bytea NOT NULL,
    PRIMARY KEY (n, number)
);

-- `xid` is the transaction: readers of everything go up to the oldest one that still runs. `batch` resolves an unknown
-- outcome.
CREATE TABLE @schema@.log (
    n bigint NOT NULL,
    revision bigint NOT NULL,
    xid bigint NOT NULL,
    time bigint NOT NULL,
    first_sequence bigint NOT NULL,
    count integer NOT NULL,
    run integer NOT NULL,
    batch bytea NOT NULL,
    records bytea NOT NULL,
    PRIMARY KEY (n, revision)
);

CREATE INDEX log_feed ON @schema@.log (xid, n, revision);

-- For what would happen twice if a batch or a claim were sent twice, and has no row of its own that would tell.
CREATE TABLE @schema@.marker (
    batch bytea PRIMARY KEY,
    created_at bigint NOT NULL,
    reached bigint[],
    taken bigint[],
    fences bigint[]
);

CREATE INDEX marker_age ON @schema@.marker (created_at);

-- `topic` is a digest of name and key: short, of one length, and its first byte chooses the stripe.
CREATE TABLE @schema@.position (
    n bigint NOT NULL,
    topic bytea NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (n, topic)
) WITH (fillfactor = 80);

CREATE TABLE @schema@.subscription (
    n bigint NOT NULL,
    pointer bigint NOT NULL,
    wait bigint NOT NULL,
    after_sequence bigint NOT NULL,
    from_time bigint NOT NULL,
    topic bytea NOT NULL,
    PRIMARY KEY (n, pointer, wait)
);

CREATE INDEX subscription_topic ON @schema@.subscription (topic);

-- An event without a sequence number is kept aside until `effective_at`. `time` never goes back within a topic, so that
-- the events of a topic have the same order by time and by sequence number.
CREATE TABLE @schema@.event (
    id text COLLATE "C" PRIMARY KEY,
    sequence bigint,
    time bigint,
    effective_at bigint,
    topic bytea NOT NULL,
    batch bytea NOT NULL,
    name text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    payload bytea NOT NULL
);

CREATE INDEX event_sequence ON @schema@.event (topic, sequence) WHERE sequence IS NOT NULL;
-- Without the sequence number: a search by number would take this index for the other one, and walk the whole topic.
CREATE INDEX event_time ON @schema@.event (topic, time) WHERE sequence IS NOT NULL;
CREATE INDEX event_age ON @schema@.event (time) WHERE sequence IS NOT NULL;
CREATE INDEX event_future ON @schema@.event (effective_at) WHERE sequence IS NULL;

-- A message, or a matched event: then `message` is null.
CREATE TABLE @schema@.inbox (
    n bigint NOT NULL,
    id bigint NOT NULL,
    pointer bigint NOT NULL,
    wait bigint NOT NULL,
    sequence bigint NOT NULL,
    request text COLLATE "C" NOT NULL,
    name text NOT NULL,
    key text NOT NULL,
    message bytea,
    payload bytea NOT NULL,
    PRIMARY KEY (n, id)
);

CREATE INDEX inbox_request ON @schema@.inbox (request) WHERE request <> '';

-- Rows of these come and go: what is left of them is cleared away early.
ALTER TABLE @schema@.inbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE @schema@.subscription SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE @schema@.item SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE @schema@.pointer SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

-- What functions answer: rows of several kinds, in plain arrays that every client can read without asking for types.
CREATE TYPE @schema@.answer AS (kind integer, i bigint[], s text[], b bytea[]);

CREATE FUNCTION @schema@.store_time() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
