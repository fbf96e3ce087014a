-- The batches that a caller who does one thing at a time waits for: one plain transition, one plain start, one event. What
-- they write is what `commit_v1` writes for them, without the arrays that a batch of many needs: less than half its cost.
--
-- "Plain" is what concerns one instance alone: no wait, message or child. Only what succeeds is decided here. Where
-- a guard refuses, or the id is known, nothing was written and there is no answer: `commit_v1` is asked, which knows what
-- that means (an old revision, another holder, or this very batch, whose first answer was lost).
--
-- t_keep, s_keep: 1 the session holds the instance, 0 it is given back, 2 it has ended.
-- Answers: the time of the store, then 1 if the inbox of the instance holds rows, else 0.
CREATE FUNCTION @schema@.transition_v1(
    p_batch bytea, p_durable boolean,
    t_id text, t_revision bigint, t_fence bigint, t_status text, t_run integer, t_head bytea, t_wake bigint,
    t_keep integer, t_first bigint, t_count integer, t_records bytea,
    w_slot bigint[], w_state bytea[], g_slot bigint[], d_data bytea, d_vals bytea, k_id bigint[],
    o_topic bytea[], o_sequence bigint[]
) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_n bigint;
BEGIN
    IF NOT p_durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    v_now := @schema@.store_time();
    UPDATE @schema@.instance i
        SET revision = i.revision + 1, activations = 0, status = t_status, run = t_run, head = t_head,
            wake_at = CASE WHEN t_keep < 2 THEN t_wake END,
            owner = CASE WHEN t_keep = 1 THEN i.owner ELSE '' END,
            ended_at = CASE WHEN t_keep = 2 THEN v_now END
        WHERE i.id = t_id AND i.revision = t_revision AND i.fence = t_fence
        RETURNING i.n INTO v_n;
    IF v_n IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO @schema@.log (n, revision, xid, time, first_sequence, count, run, batch, records)
        VALUES (v_n, t_revision + 1, pg_current_xact_id()::text::bigint, v_now, t_first, t_count, t_run, p_batch, t_records);
    IF g_slot IS NOT NULL THEN
        DELETE FROM @schema@.pointer r WHERE r.n = v_n AND r.slot = ANY (g_slot);
    END IF;
    IF cardinality(w_slot) = 1 THEN
        INSERT INTO @schema@.pointer AS r (n, slot, state) VALUES (v_n, w_slot[1], w_state[1])
            ON CONFLICT (n, slot) DO UPDATE SET state = excluded.state;
    ELSIF w_slot IS NOT NULL THEN
        INSERT INTO @schema@.pointer AS r (n, slot, state)
            SELECT v_n, w.slot, w.state FROM unnest(w_slot, w_state) AS w(slot, state)
            ON CONFLICT (n, slot) DO UPDATE SET state = excluded.state;
    END IF;
    IF d_data IS NOT NULL OR d_vals IS NOT NULL THEN
        UPDATE @schema@.document r SET data = coalesce(d_data, r.data), vals = coalesce(d_vals, r.vals)
            WHERE r.n = v_n;
    END IF;
    IF t_keep = 2 THEN
        -- Most have none of these: one look is cheaper than four deletions.
        IF EXISTS (SELECT 1 FROM @schema@.subscription r WHERE r.n = v_n)
                OR EXISTS (SELECT 1 FROM @schema@.inbox r WHERE r.n = v_n)
                OR EXISTS (SELECT 1 FROM @schema@.item r WHERE r.n = v_n)
                OR EXISTS (SELECT 1 FROM @schema@.position r WHERE r.n = v_n) THEN
            WITH waits AS (DELETE FROM @schema@.subscription r WHERE r.n = v_n),
                messages AS (DELETE FROM @schema@.inbox r WHERE r.n = v_n),
                items AS (DELETE FROM @schema@.item r WHERE r.n = v_n)
            DELETE FROM @schema@.position r WHERE r.n = v_n;
        END IF;
        RETURN ARRAY[v_now, 0];
    END IF;
    IF k_id IS NOT NULL THEN
        DELETE FROM @schema@.inbox r WHERE r.n = v_n AND r.id = ANY (k_id);
    END IF;
    IF o_topic IS NOT NULL THEN
        INSERT INTO @schema@.position AS r (n, topic, sequence)
            SELECT v_n, o.topic, o.sequence FROM unnest(o_topic, o_sequence) AS o(topic, sequence)
            ON CONFLICT (n, topic) DO UPDATE SET sequence = greatest(r.sequence, excluded.sequence);
    END IF;
    -- A statement of its own: it sees the rows that came in while the guard waited for its lock.
    RETURN ARRAY[v_now, CASE WHEN EXISTS (SELECT 1 FROM @schema@.inbox b WHERE b.n = v_n) THEN 1 ELSE 0 END];
END
$function$;

CREATE FUNCTION @schema@.start_v1(
    p_batch bytea, p_durable boolean, p_session text,
    s_id text, s_plan integer, s_digest bytea, s_name text, s_reference text,
    s_status text, s_run integer, s_head bytea, s_wake bigint, s_keep integer, s_first bigint, s_count integer,
    s_records bytea, s_data bytea, s_vals bytea, w_slot bigint[], w_state bytea[]
) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_newest bigint;
    v_n bigint;
BEGIN
    IF NOT p_durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    -- Before anything that is waited for, as in `commit_v1`.
    SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO v_newest FROM @schema@.event_number s;
    v_now := @schema@.store_time();
    INSERT INTO @schema@.instance (n, created_at, born_after, plan, run, revision, fence, activations, id, digest, owner,
            status, head, wake_at, ended_at, name, reference)
        VALUES (nextval('@schema@.instance_number'), v_now, v_newest, s_plan, s_run, 1, CASE WHEN s_keep = 1 THEN 1 ELSE 0 END, 0,
            s_id, s_digest, CASE WHEN s_keep = 1 THEN p_session ELSE '' END, s_status, s_head,
            CASE WHEN s_keep < 2 THEN s_wake END, CASE WHEN s_keep = 2 THEN v_now END, s_name, s_reference)
        ON CONFLICT (id) DO NOTHING
        RETURNING n INTO v_n;
    IF v_n IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO @schema@.document (n, data, vals) VALUES (v_n, s_data, s_vals);
    INSERT INTO @schema@.log (n, revision, xid, time, first_sequence, count, run, batch, records)
        VALUES (v_n, 1, pg_current_xact_id()::text::bigint, v_now, s_first, s_count, s_run, p_batch, s_records);
    IF cardinality(w_slot) = 1 THEN
        INSERT INTO @schema@.pointer (n, slot, state) VALUES (v_n, w_slot[1], w_state[1]);
    ELSIF w_slot IS NOT NULL THEN
        INSERT INTO @schema@.pointer (n, slot, state)
            SELECT v_n, w.slot, w.state FROM unnest(w_slot, w_state) AS w(slot, state);
    END IF;
    RETURN ARRAY[v_now, 0];
END
$function$;

-- One event that is effective now. Kinds of answers: 0 (now, how many waits it reached), 9 (one delivery), 10 and 13 (what
-- was taken). Locks in the order of `commit_v1`: stripe, event, subscriptions by key, instances that are free.
CREATE FUNCTION @schema@.publish_v1(
    p_batch bytea, p_durable boolean, p_session text, p_room integer, p_plans integer[],
    b_id text, b_name text, b_key text, b_topic bytea, b_payload bytea
) RETURNS SETOF @schema@.answer
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_new bigint;
    v_ns bigint[];
    v_ids bigint[];
    v_pointers bigint[];
    v_waits bigint[];
    v_names text[];
    v_owners text[];
    v_taken bigint[];
BEGIN
    IF NOT p_durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    PERFORM pg_advisory_xact_lock(@lock@, get_byte(b_topic, 0));
    v_now := @schema@.store_time();
    WITH new AS (
        INSERT INTO @schema@.event (id, sequence, time, topic, batch, name, key, payload)
        SELECT b_id, nextval('@schema@.event_number'), greatest(v_now, (
                SELECT e.time FROM @schema@.event e WHERE e.topic = b_topic AND e.sequence IS NOT NULL
                ORDER BY e.topic DESC, e.time DESC LIMIT 1)),
            b_topic, p_batch, b_name, b_key, b_payload
        ON CONFLICT (id) DO NOTHING
        RETURNING sequence, time
    ), hit AS MATERIALIZED (
        SELECT s.n, s.pointer, s.wait, w.sequence
        FROM new w JOIN @schema@.subscription s ON s.topic = b_topic
        WHERE s.after_sequence < w.sequence AND s.from_time <= w.time
        ORDER BY s.n, s.pointer, s.wait
    ), matched AS (
        DELETE FROM @schema@.subscription s USING hit h
        WHERE s.n = h.n AND s.pointer = h.pointer AND s.wait = h.wait
        RETURNING h.*
    ), delivered AS (
        INSERT INTO @schema@.inbox (n, id, pointer, wait, sequence, request, name, key, payload)
        SELECT m.n, nextval('@schema@.inbox_number'), m.pointer, m.wait, m.sequence, '', b_name, b_key, b_payload
        FROM (SELECT * FROM matched ORDER BY n, pointer, wait) m
        RETURNING n, id, pointer, wait)
    SELECT (SELECT w.sequence FROM new w), d.ns, d.ids, d.pointers, d.waits, d.names, d.owners
        INTO v_new, v_ns, v_ids, v_pointers, v_waits, v_names, v_owners
    FROM (SELECT array_agg(d.n) AS ns, array_agg(d.id) AS ids, array_agg(d.pointer) AS pointers,
            array_agg(d.wait) AS waits, array_agg(d.name) AS names, array_agg(d.owner) AS owners
        FROM (SELECT d.*, i.id AS name, s.id AS owner
            FROM delivered d
            JOIN @schema@.instance i ON i.n = d.n
            LEFT JOIN @schema@.session s ON s.id = i.owner AND s.expires_at > v_now
            ORDER BY d.id) d) d;
    IF v_new IS NULL THEN
        RETURN;
    END IF;
    IF p_room > 0 AND array_position(v_owners, NULL) IS NOT NULL THEN
        SELECT array_agg(l.n) INTO v_taken FROM (
            SELECT i.n FROM @schema@.instance i
            WHERE i.n = ANY (v_ns) AND i.ended_at IS NULL AND i.plan = ANY (p_plans)
                AND EXISTS (SELECT 1 FROM @schema@.session s WHERE s.id = p_session AND s.expires_at > v_now)
                AND (i.owner = ''
                    OR NOT EXISTS (SELECT 1 FROM @schema@.session s WHERE s.id = i.owner AND s.expires_at > v_now))
            LIMIT p_room
            FOR NO KEY UPDATE OF i SKIP LOCKED) l;
        IF v_taken IS NOT NULL THEN
            RETURN QUERY SELECT * FROM @schema@.take_v1(p_batch, p_session, v_taken, v_now);
        END IF;
    END IF;
    FOR v_i IN 1 .. coalesce(cardinality(v_ns), 0) LOOP
        IF v_taken IS NULL OR v_ns[v_i] <> ALL (v_taken) THEN
            RETURN NEXT ROW(9, ARRAY[v_ns[v_i], v_ids[v_i], v_pointers[v_i], v_waits[v_i], v_new],
                ARRAY[v_names[v_i], v_owners[v_i], b_name, b_key], ARRAY[NULL, b_payload])::@schema@.answer;
        END IF;
    END LOOP;
    RETURN NEXT ROW(0, ARRAY[v_now, coalesce(cardinality(v_ns), 0)], NULL, NULL)::@schema@.answer;
END
$function$;
