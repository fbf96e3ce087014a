-- What runs in one round trip. A function that has been released is never changed: a later migration adds the next
-- version beside it, so that hosts of two versions can share a database.
--
-- Every statement of a volatile function sees what was committed before that statement (READ COMMITTED). The rendezvous
-- of events and waits rests on it: stripes are locked by a statement of their own, before the one that inserts and matches.
--
-- The settings keep the plans of all sizes of tables: joins walk the given arrays in their order, which is the order of
-- the locks, and look rows up by key.

-- Whole instances: kinds 10 (the instance: eight numbers, how many pointers, the pointers that items belong to; head, data,
-- values, states of the pointers, items) and 13 (one inbox row). What is missing of an instance, which is damage, is null:
-- one that was taken must not be left out, or nobody would know of it. Written so that PostgreSQL puts it into the statement that
-- asks, whose settings count: no function is called.
CREATE FUNCTION @schema@.load_v1(p_ns bigint[]) RETURNS SETOF @schema@.answer
LANGUAGE sql STABLE
AS $function$
    (SELECT 10,
        ARRAY[i.n, i.fence, i.revision, i.run, i.created_at, i.activations, p.version, i.parent_pointer,
            cardinality(r.states)] || q.pointers,
        ARRAY[i.id, p.id, p.hash, i.name, i.reference, i.parent_id, i.on_parent_end]::text[],
        ARRAY[i.head, d.data, d.vals] || r.states || q.items
    FROM unnest(p_ns) WITH ORDINALITY AS t(n, ord)
    JOIN @schema@.instance i ON i.n = t.n
    LEFT JOIN @schema@.document d ON d.n = t.n
    LEFT JOIN @schema@.plan p ON p.n = i.plan
    CROSS JOIN LATERAL (SELECT coalesce(array_agg(r.state ORDER BY r.slot), '{}') AS states
        FROM @schema@.pointer r WHERE r.n = t.n) r
    CROSS JOIN LATERAL (SELECT array_agg(q.pointer ORDER BY q.pointer) AS pointers,
        array_agg(q.items ORDER BY q.pointer) AS items FROM @schema@.item q WHERE q.n = t.n) q
    ORDER BY t.ord)
    UNION ALL
    (SELECT 13, ARRAY[r.n, r.id, r.pointer, r.wait, r.sequence], ARRAY[r.name, r.key], ARRAY[r.message, r.payload]
    FROM unnest(p_ns) AS t(n)
    JOIN @schema@.inbox r ON r.n = t.n
    ORDER BY r.id)
$function$;

-- Takes instances for a session, if they are still free, and loads them; writes down what it took under `p_batch`.
CREATE FUNCTION @schema@.take_v1(p_batch bytea, p_session text, p_ns bigint[], p_now bigint)
RETURNS SETOF @schema@.answer
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    v_fences bigint[];
BEGIN
    WITH taken AS (
        UPDATE @schema@.instance i
        SET fence = i.fence + 1, owner = p_session, activations = i.activations + 1, blocked_reason = NULL
        FROM unnest(p_ns) WITH ORDINALITY AS t(n, ord)
        WHERE i.n = t.n
        RETURNING t.ord, i.fence)
    SELECT array_agg(taken.fence ORDER BY taken.ord) INTO v_fences FROM taken;
    INSERT INTO @schema@.marker AS m (batch, created_at, taken, fences) VALUES (p_batch, p_now, p_ns, v_fences)
        ON CONFLICT (batch) DO UPDATE SET taken = excluded.taken, fences = excluded.fences;
    RETURN QUERY SELECT * FROM @schema@.load_v1(p_ns);
END
$function$;

-- Loads again what a batch or claim took whose reply was lost, as far as the session still holds it.
CREATE FUNCTION @schema@.retake_v1(p_batch bytea, p_session text) RETURNS SETOF @schema@.answer
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    v_ns bigint[];
BEGIN
    SELECT array_agg(i.n ORDER BY t.ord) INTO v_ns
    FROM @schema@.marker m
    CROSS JOIN LATERAL unnest(m.taken, m.fences) WITH ORDINALITY AS t(n, fence, ord)
    JOIN @schema@.instance i ON i.n = t.n AND i.fence = t.fence AND i.owner = p_session
    WHERE m.batch = p_batch;
    IF v_ns IS NOT NULL THEN
        RETURN QUERY SELECT * FROM @schema@.load_v1(v_ns);
    END IF;
END
$function$;

-- Kinds: 0 (now, next wake, next event), 10 and 13 (what was taken).
-- p_plans null: any definition; p_ids null: whatever is due; p_idle: those in p_ids also without anything to do;
-- p_again: the reply of an earlier call with this p_batch was lost.
CREATE FUNCTION @schema@.claim_v1(
    p_batch bytea, p_session text, p_plans integer[], p_limit integer, p_ids text[], p_idle boolean,
    p_below integer, p_again boolean
) RETURNS SETOF @schema@.answer
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    v_now bigint := @schema@.store_time();
    v_free text[];
    v_plans integer[] := p_plans;
    v_found bigint[];
    v_taken bigint[];
    v_wake bigint;
    v_event bigint;
BEGIN
    -- The mark comes first in a repeat, which so waits for an earlier call that may still run; see below for the rest.
    IF p_again THEN
        INSERT INTO @schema@.marker (batch, created_at) VALUES (p_batch, v_now) ON CONFLICT (batch) DO NOTHING;
        IF NOT FOUND THEN
            RETURN QUERY SELECT * FROM @schema@.retake_v1(p_batch, p_session);
            RETURN NEXT ROW(0, ARRAY[v_now, NULL, NULL]::bigint[], NULL, NULL)::@schema@.answer;
            RETURN;
        END IF;
    END IF;

    -- Nobody, and sessions that are over: every distinct owner is found by one seek in the index.
    WITH RECURSIVE owners(owner) AS (
        SELECT '' COLLATE "C"
        UNION ALL
        SELECT (SELECT i.owner FROM @schema@.instance i
                WHERE i.owner > o.owner AND i.wake_at IS NOT NULL AND i.status <> 'suspended'
                ORDER BY i.owner LIMIT 1)
        FROM owners o WHERE o.owner IS NOT NULL)
    SELECT array_agg(o.owner) INTO v_free FROM owners o
    WHERE o.owner IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM @schema@.session s WHERE s.id = o.owner AND s.expires_at > v_now);

    IF p_limit > 0 AND EXISTS (SELECT 1 FROM @schema@.session s WHERE s.id = p_session AND s.expires_at > v_now) THEN
        IF p_ids IS NULL THEN
            IF v_plans IS NULL THEN
                SELECT array_agg(p.n) INTO v_plans FROM @schema@.plan p;
            END IF;
            SELECT array_agg(c.n ORDER BY c.due, c.n) INTO v_found FROM (
                SELECT u.n, min(u.due) AS due FROM (
                    (SELECT i.n, i.wake_at AS due
                    FROM unnest(v_free) AS o(owner) CROSS JOIN unnest(v_plans) AS p(n)
                    CROSS JOIN LATERAL (
                        SELECT w.n, w.wake_at FROM @schema@.instance w
                        WHERE w.owner = o.owner AND w.plan = p.n AND w.wake_at <= v_now
                            AND w.wake_at IS NOT NULL AND w.status <> 'suspended' AND w.activations < p_below
                        -- More than asked for, as others may be taking the first ones.
                        ORDER BY w.wake_at LIMIT p_limit * 2 + 10) i
                    ORDER BY i.wake_at LIMIT p_limit * 2 + 10)
                    UNION ALL
                    (SELECT i.n, least(i.wake_at, v_now)
                    FROM (SELECT DISTINCT b.n FROM @schema@.inbox b) b
                    JOIN @schema@.instance i ON i.n = b.n
                    WHERE i.ended_at IS NULL AND i.plan = ANY (v_plans) AND i.activations < p_below
                        AND NOT EXISTS (SELECT 1 FROM @schema@.session s WHERE s.id = i.owner AND s.expires_at > v_now)
                    LIMIT p_limit * 2 + 10)
                ) u GROUP BY u.n) c;
        ELSE
            SELECT array_agg(c.n ORDER BY c.due, c.n) INTO v_found FROM (
                SELECT DISTINCT i.n, least(coalesce(i.wake_at, v_now), v_now) AS due
                FROM unnest(p_ids) AS t(id)
                JOIN @schema@.instance i ON i.id = t.id
                WHERE (p_plans IS NULL OR i.plan = ANY (p_plans)) AND i.activations < p_below
                    AND (p_idle
                        OR i.ended_at IS NULL AND (i.wake_at <= v_now AND i.status <> 'suspended'
                            OR EXISTS (SELECT 1 FROM @schema@.inbox b WHERE b.n = i.n)))) c;
        END IF;
    END IF;

    IF v_found IS NOT NULL THEN
        -- The conditions stand here too: a row that changed meanwhile is looked at again when it is locked.
        SELECT array_agg(l.n) INTO v_taken FROM (
            SELECT i.n
            FROM unnest(v_found) WITH ORDINALITY AS t(n, ord)
            JOIN @schema@.instance i ON i.n = t.n
            WHERE (i.owner = ''
                    OR NOT EXISTS (SELECT 1 FROM @schema@.session s WHERE s.id = i.owner AND s.expires_at > v_now))
                AND i.activations < p_below
                AND (p_idle
                    OR i.ended_at IS NULL AND (i.wake_at <= v_now AND i.status <> 'suspended'
                        OR EXISTS (SELECT 1 FROM @schema@.inbox b WHERE b.n = i.n)))
            ORDER BY t.ord
            LIMIT p_limit
            FOR NO KEY UPDATE OF i SKIP LOCKED) l;
    END IF;

    IF v_taken IS NOT NULL THEN
        IF NOT p_again THEN
            -- If a repeat of this very call was faster, it has told its caller that nothing was taken.
            INSERT INTO @schema@.marker (batch, created_at) VALUES (p_batch, v_now) ON CONFLICT (batch) DO NOTHING;
            IF NOT FOUND THEN
                RETURN;
            END IF;
        END IF;
        RETURN QUERY SELECT * FROM @schema@.take_v1(p_batch, p_session, v_taken, v_now);
    END IF;

    SELECT min(w.wake_at) INTO v_wake
    FROM @schema@.plan p CROSS JOIN unnest(v_free) AS o(owner)
    CROSS JOIN LATERAL (
        SELECT i.wake_at FROM @schema@.instance i
        WHERE i.owner = o.owner AND i.plan = p.n AND i.wake_at > v_now
            AND i.wake_at IS NOT NULL AND i.status <> 'suspended'
        ORDER BY i.wake_at LIMIT 1) w;
    SELECT min(e.effective_at) INTO v_event FROM @schema@.event e WHERE e.sequence IS NULL;
    RETURN NEXT ROW(0, ARRAY[v_now, v_wake, v_event], NULL, NULL)::@schema@.answer;
END
$function$;
