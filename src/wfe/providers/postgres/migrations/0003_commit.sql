-- One batch, in one round trip and one transaction. Everything of variable length comes as parallel arrays; a row names
-- the transition or start that it belongs to by its place: transitions count from 1, starts go on after them. An array
-- without elements is null.
--
-- p_flags: 1 do not wait for the disk, 2 the batch holds what would happen twice if it were sent twice, 4 some waits must
-- still stand.
-- t_keep, s_keep: 1 the session holds the instance, 0 it is given back, 2 it has ended.
-- s_level, s_cause: children come one level after the transition or start that causes them (0: a start of its own).
-- m_place 0: a message of the batch itself.
--
-- Kinds of answers: 0 (now, repeated), 1 (refused transitions: place and outcome by turns), 2 (starts not made: the same),
-- 4 (places of publishes with an outcome other than created: the same), 5 (sequence number of each publish, by its place),
-- 6 (sequence number of each delivery), 7 (instances reached by m_*, 0 for none), 8 (unread ids), 9 (one delivery),
-- 10 and 13 (what was taken).
CREATE FUNCTION @schema@.commit_v1(
    p_batch bytea, p_session text, p_flags integer, p_stripes integer[], p_promote integer,
    p_room integer, p_plans integer[],
    t_id text[], t_revision bigint[], t_fence bigint[], t_status text[], t_run integer[], t_head bytea[],
    t_wake bigint[], t_keep integer[], t_first bigint[], t_count integer[], t_records bytea[],
    s_level integer[], s_cause integer[], s_id text[], s_plan integer[], s_digest bytea[], s_name text[],
    s_reference text[], s_parent text[], s_parent_pointer bigint[], s_on_parent_end text[],
    s_status text[], s_run integer[], s_head bytea[], s_wake bigint[], s_keep integer[], s_first bigint[],
    s_count integer[], s_records bytea[], s_data bytea[], s_vals bytea[],
    w_place integer[], w_slot bigint[], w_state bytea[],
    g_place integer[], g_slot bigint[],
    d_place integer[], d_data bytea[], d_vals bytea[],
    i_place integer[], i_pointer bigint[], i_items bytea[],
    j_place integer[], j_pointer bigint[],
    e_place integer[], e_number bigint[], e_error bytea[],
    k_place integer[], k_id bigint[],
    o_place integer[], o_topic bytea[], o_sequence bigint[],
    u_place integer[], u_pointer bigint[], u_wait bigint[], u_topic bytea[], u_from bigint[],
    x_place integer[], x_pointer bigint[], x_wait bigint[], x_required boolean[],
    m_place integer[], m_instance text[], m_message bytea[], m_request text[],
    c_place integer[], c_message bytea[],
    b_place integer[], b_id text[], b_name text[], b_key text[], b_topic bytea[], b_payload bytea[], b_effective bigint[]
) RETURNS SETOF @schema@.answer
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    v_now bigint;
    v_xid bigint;
    v_repeated boolean := false;
    v_stripes integer[] := p_stripes;
    v_due text[];
    v_made text[];
    v_due_stripes integer[];
    v_transitions integer := coalesce(cardinality(t_id), 0);
    v_starts integer := coalesce(cardinality(s_id), 0);
    v_count bigint;
    v_numbers bigint[];
    v_places bigint[];
    -- The instance's number by place; 0 where nothing is to be written.
    v_ns bigint[] := '{}';
    v_again bigint[];
    v_gone integer[];
    v_newest bigint;
    v_latest bigint;
    v_level integer;
    v_flag boolean;
    v_refused bigint[];
    v_ended bigint[];
    v_reached bigint[];
    -- Inbox rows of this batch.
    v_row_ns bigint[] := '{}';
    v_row_ids bigint[] := '{}';
    v_sequences bigint[];
    v_fresh_topics bytea[] := '{}';
    v_fresh bigint[] := '{}';
    v_hits bigint[];
    v_taken bigint[];
    v_some bigint[];
    v_topics bytea[];
BEGIN
    IF p_flags & 1 <> 0 THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    IF p_flags & 2 <> 0 THEN
        INSERT INTO @schema@.marker (batch, created_at) VALUES (p_batch, @schema@.store_time())
            ON CONFLICT (batch) DO NOTHING;
        v_repeated := NOT FOUND;
    END IF;

    -- Stripes, sorted, before all other locks and in a statement of their own.
    IF p_promote > 0 AND NOT v_repeated THEN
        SELECT array_agg(f.id), array_agg(get_byte(f.topic, 0)) INTO v_due, v_due_stripes FROM (
            SELECT e.id, e.topic FROM @schema@.event e
            WHERE e.sequence IS NULL AND e.effective_at <= @schema@.store_time()
            ORDER BY e.effective_at LIMIT p_promote
            FOR UPDATE SKIP LOCKED) f;
        IF v_due IS NOT NULL THEN
            SELECT array_agg(DISTINCT s ORDER BY s) INTO v_stripes FROM unnest(v_stripes || v_due_stripes) AS s;
        END IF;
    END IF;
    IF cardinality(v_stripes) > 0 THEN
        PERFORM pg_advisory_xact_lock(@lock@, s) FROM unnest(v_stripes) AS s;
    END IF;

    -- Read before anything that this transaction waits for later: whoever publishes after a start was acknowledged gets a
    -- higher number, whoever was acknowledged before it has a lower one.
    IF v_starts > 0 THEN
        SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO v_newest FROM @schema@.event_number s;
    END IF;
    v_now := @schema@.store_time();
    v_xid := pg_current_xact_id()::text::bigint;

    -- Guards.
    IF p_flags & 4 <> 0 THEN
        PERFORM 1
            FROM unnest(x_place, x_pointer, x_wait, x_required) AS x(place, pointer, wait, required)
            JOIN @schema@.instance i ON i.id = t_id[x.place]
            JOIN @schema@.subscription s ON s.n = i.n AND s.pointer = x.pointer AND s.wait = x.wait
            WHERE x.required
            ORDER BY s.n, s.pointer, s.wait
            FOR UPDATE OF s;
        SELECT array_agg(x.place) INTO v_gone
            FROM unnest(x_place, x_pointer, x_wait, x_required) AS x(place, pointer, wait, required)
            WHERE x.required AND x.place <= v_transitions AND NOT EXISTS (
                SELECT 1 FROM @schema@.instance i
                JOIN @schema@.subscription s ON s.n = i.n AND s.pointer = x.pointer AND s.wait = x.wait
                WHERE i.id = t_id[x.place]);
    END IF;
    IF v_transitions > 0 THEN
        WITH accepted AS (
            UPDATE @schema@.instance i
            SET revision = i.revision + 1, activations = 0, status = t.status, run = t.run, head = t.head,
                wake_at = CASE WHEN t.keep < 2 THEN t.wake END,
                owner = CASE WHEN t.keep = 1 THEN i.owner ELSE '' END,
                ended_at = CASE WHEN t.keep = 2 THEN v_now END
            FROM unnest(t_id, t_revision, t_fence, t_status, t_run, t_head, t_wake, t_keep)
                WITH ORDINALITY AS t(id, revision, fence, status, run, head, wake, keep, place)
            WHERE i.id = t.id AND i.revision = t.revision AND i.fence = t.fence
                AND (v_gone IS NULL OR t.place <> ALL (v_gone))
            RETURNING t.place, i.n)
        SELECT count(*), array_agg(a.n ORDER BY a.place), array_agg(a.place ORDER BY a.place)
            INTO v_count, v_ns, v_places FROM accepted a;
        IF v_count < v_transitions THEN
            v_numbers := v_ns;
            v_ns := array_fill(0::bigint, ARRAY[v_transitions]);
            FOR k IN 1 .. v_count LOOP
                v_ns[v_places[k]] := v_numbers[k];
            END LOOP;
            SELECT array_agg(v ORDER BY r.place, v.o), array_agg(r.n) FILTER (WHERE v.o = 2 AND r.outcome = 0)
                INTO v_refused, v_again
            FROM (
                SELECT t.place, i.n,
                    CASE WHEN l.batch = p_batch THEN 0
                        WHEN i.n IS NULL OR i.fence <> t.fence THEN 1
                        WHEN i.revision <> t.revision OR v_gone IS NULL OR t.place <> ALL (v_gone) THEN 2
                        ELSE 3 END AS outcome
                FROM unnest(t_id, t_revision, t_fence) WITH ORDINALITY AS t(id, revision, fence, place)
                LEFT JOIN @schema@.instance i ON i.id = t.id
                LEFT JOIN @schema@.log l ON l.n = i.n AND l.revision = t.revision + 1
                WHERE v_ns[t.place] = 0) r
            CROSS JOIN LATERAL (VALUES (1, r.place), (2, r.outcome::bigint)) AS v(o, v);
            v_repeated := v_repeated OR v_again IS NOT NULL;
            RETURN NEXT ROW(1, v_refused, NULL, NULL)::@schema@.answer;
        END IF;
        INSERT INTO @schema@.log (n, revision, xid, time, first_sequence, count, run, batch, records)
            SELECT v_ns[t.place], t.revision + 1, v_xid, v_now, t.first, t.count, t.run, p_batch, t.records
            FROM unnest(t_revision, t_first, t_count, t_run, t_records)
                WITH ORDINALITY AS t(revision, first, count, run, records, place)
            WHERE v_ns[t.place] <> 0;
    END IF;

    -- Starts, a level at a time: a child is made only if what causes it was accepted.
    IF v_starts > 0 THEN
        SELECT array_agg(nextval('@schema@.instance_number')) INTO v_numbers FROM generate_series(1, v_starts);
        v_ns := v_ns || v_numbers;
        v_level := 0;
        v_count := 0;
        LOOP
            WITH made AS (
                INSERT INTO @schema@.instance (n, created_at, born_after, plan, run, revision, fence, activations, id, digest, owner,
                    status, head, wake_at, ended_at, name, reference, parent_id, parent_pointer, on_parent_end)
                SELECT v_numbers[s.place], v_now, v_newest, s.plan, s.run, 1, CASE WHEN s.keep = 1 THEN 1 ELSE 0 END, 0, s.id,
                    s.digest, CASE WHEN s.keep = 1 THEN p_session ELSE '' END, s.status, s.head,
                    CASE WHEN s.keep < 2 THEN s.wake END, CASE WHEN s.keep = 2 THEN v_now END, s.name, s.reference,
                    s.parent, s.parent_pointer, s.on_parent_end
                FROM unnest(s_level, s_cause, s_id, s_plan, s_digest, s_name, s_reference, s_parent, s_parent_pointer,
                        s_on_parent_end, s_status, s_run, s_head, s_wake, s_keep)
                    WITH ORDINALITY AS s(level, cause, id, plan, digest, name, reference, parent, parent_pointer,
                        on_parent_end, status, run, head, wake, keep, place)
                WHERE s.level = v_level AND (s.cause = 0 OR v_ns[s.cause] <> 0)
                ON CONFLICT (id) DO NOTHING
                RETURNING 1)
            SELECT v_count + count(*) INTO v_count FROM made;
            IF v_count < v_starts THEN
                -- Not all made, or not yet: without a row of its number a start writes nothing and causes nothing.
                SELECT array_agg(CASE WHEN s.level = v_level AND NOT EXISTS (
                            SELECT 1 FROM @schema@.instance i WHERE i.n = v_numbers[s.place])
                        THEN 0 ELSE v_ns[v_transitions + s.place] END ORDER BY s.place)
                    INTO v_some
                FROM unnest(s_level) WITH ORDINALITY AS s(level, place);
                v_ns := v_ns[1 : v_transitions] || v_some;
            END IF;
            EXIT WHEN v_level >= s_level[v_starts];
            v_level := v_level + 1;
        END LOOP;
        IF v_count < v_starts THEN
            SELECT array_agg(v ORDER BY r.place, v.o), coalesce(bool_or(r.outcome = 0), false) INTO v_refused, v_flag
            FROM (
                SELECT s.place,
                    CASE WHEN i.n IS NULL THEN 9
                        WHEN i.digest <> s.digest THEN 2
                        WHEN l.batch = p_batch AND i.n <> ALL (v_numbers) THEN 0
                        ELSE 1 END AS outcome
                FROM unnest(s_id, s_digest) WITH ORDINALITY AS s(id, digest, place)
                LEFT JOIN @schema@.instance i ON i.id = s.id
                LEFT JOIN @schema@.log l ON l.n = i.n AND l.revision = 1
                WHERE v_ns[v_transitions + s.place] = 0) r
            CROSS JOIN LATERAL (VALUES (1, r.place), (2, r.outcome::bigint)) AS v(o, v);
            v_repeated := v_repeated OR v_flag;
            RETURN NEXT ROW(2, v_refused, NULL, NULL)::@schema@.answer;
        END IF;
        INSERT INTO @schema@.document (n, data, vals)
            SELECT v_ns[v_transitions + s.place], s.data, s.vals
            FROM unnest(s_data, s_vals) WITH ORDINALITY AS s(data, vals, place)
            WHERE v_ns[v_transitions + s.place] <> 0;
        INSERT INTO @schema@.log (n, revision, xid, time, first_sequence, count, run, batch, records)
            SELECT v_ns[v_transitions + s.place], 1, v_xid, v_now, s.first, s.count, s.run, p_batch, s.records
            FROM unnest(s_first, s_count, s_run, s_records) WITH ORDINALITY AS s(first, count, run, records, place)
            WHERE v_ns[v_transitions + s.place] <> 0;
    END IF;

    -- What belongs to one instance alone.
    IF cardinality(g_place) > 0 THEN
        DELETE FROM @schema@.pointer r USING unnest(g_place, g_slot) AS g(place, slot)
            WHERE r.n = v_ns[g.place] AND r.slot = g.slot;
    END IF;
    IF cardinality(w_place) > 0 THEN
        INSERT INTO @schema@.pointer AS r (n, slot, state)
            SELECT v_ns[w.place], w.slot, w.state FROM unnest(w_place, w_slot, w_state) AS w(place, slot, state)
            WHERE v_ns[w.place] <> 0
            ON CONFLICT (n, slot) DO UPDATE SET state = excluded.state;
    END IF;
    IF cardinality(d_place) > 0 THEN
        UPDATE @schema@.document r SET data = coalesce(d.data, r.data), vals = coalesce(d.vals, r.vals)
            FROM unnest(d_place, d_data, d_vals) AS d(place, data, vals)
            WHERE r.n = v_ns[d.place];
    END IF;
    IF cardinality(j_place) > 0 THEN
        DELETE FROM @schema@.item r USING unnest(j_place, j_pointer) AS j(place, pointer)
            WHERE r.n = v_ns[j.place] AND r.pointer = j.pointer;
    END IF;
    IF cardinality(i_place) > 0 THEN
        INSERT INTO @schema@.item AS r (n, pointer, items)
            SELECT v_ns[i.place], i.pointer, i.items
            FROM unnest(i_place, i_pointer, i_items) AS i(place, pointer, items)
            WHERE v_ns[i.place] <> 0
            ON CONFLICT (n, pointer) DO UPDATE SET items = excluded.items;
    END IF;
    IF cardinality(e_place) > 0 THEN
        INSERT INTO @schema@.error AS r (n, number, error)
            SELECT v_ns[e.place], e.number, e.error FROM unnest(e_place, e_number, e_error) AS e(place, number, error)
            WHERE v_ns[e.place] <> 0
            ON CONFLICT (n, number) DO UPDATE SET error = excluded.error;
    END IF;
    IF cardinality(k_place) > 0 THEN
        DELETE FROM @schema@.inbox r USING unnest(k_place, k_id) AS k(place, id)
            WHERE r.n = v_ns[k.place] AND r.id = k.id;
    END IF;
    IF cardinality(o_place) > 0 THEN
        INSERT INTO @schema@.position AS r (n, topic, sequence)
            SELECT v_ns[o.place], o.topic, o.sequence
            FROM unnest(o_place, o_topic, o_sequence) AS o(place, topic, sequence)
            WHERE v_ns[o.place] <> 0
            ON CONFLICT (n, topic) DO UPDATE SET sequence = greatest(r.sequence, excluded.sequence);
    END IF;
    IF cardinality(x_place) > 0 THEN
        DELETE FROM @schema@.subscription r USING unnest(x_place, x_pointer, x_wait) AS x(place, pointer, wait)
            WHERE r.n = v_ns[x.place] AND r.pointer = x.pointer AND r.wait = x.wait;
    END IF;
    IF t_keep @> '{2}' OR s_keep @> '{2}' THEN
        SELECT array_agg(v_ns[t.place]) INTO v_ended
            FROM unnest(t_keep || s_keep) WITH ORDINALITY AS t(keep, place) WHERE t.keep = 2 AND v_ns[t.place] <> 0;
        DELETE FROM @schema@.subscription r USING unnest(v_ended) AS v(n) WHERE r.n = v.n;
        DELETE FROM @schema@.inbox r USING unnest(v_ended) AS v(n) WHERE r.n = v.n;
        DELETE FROM @schema@.item r USING unnest(v_ended) AS v(n) WHERE r.n = v.n;
        DELETE FROM @schema@.position r USING unnest(v_ended) AS v(n) WHERE r.n = v.n;
    END IF;

    -- Waits that begin: a stored event that fits, or a row for those to come. Two searches, one by number and one by time;
    -- each has an index in its order.
    IF cardinality(u_place) > 0 THEN
        WITH wanted AS (
            SELECT u.ord, i.n, u.pointer, u.wait, u.topic, coalesce(u.from_time, 0) AS from_time,
                u.from_time IS NULL AS by_number,
                CASE WHEN u.from_time IS NULL THEN greatest(i.born_after, (
                    SELECT o.sequence FROM @schema@.position o WHERE o.n = i.n AND o.topic = u.topic))
                ELSE 0 END AS after_sequence
            FROM unnest(u_place, u_pointer, u_wait, u_topic, u_from)
                WITH ORDINALITY AS u(place, pointer, wait, topic, from_time, ord)
            JOIN @schema@.instance i ON i.n = v_ns[u.place]
            WHERE i.ended_at IS NULL
        ), matched AS MATERIALIZED (
            SELECT w.*, e.sequence, e.name, e.key, e.payload
            FROM wanted w
            LEFT JOIN LATERAL (
                (SELECT e.sequence, e.name, e.key, e.payload FROM @schema@.event e
                WHERE w.by_number AND e.topic = w.topic AND e.sequence > w.after_sequence AND e.sequence IS NOT NULL
                ORDER BY e.topic, e.sequence LIMIT 1)
                UNION ALL
                (SELECT e.sequence, e.name, e.key, e.payload FROM @schema@.event e
                WHERE NOT w.by_number AND e.topic = w.topic AND e.time >= w.from_time AND e.sequence IS NOT NULL
                ORDER BY e.topic, e.time, e.sequence LIMIT 1)) e ON true
        ), waiting AS (
            INSERT INTO @schema@.subscription AS r (n, pointer, wait, after_sequence, from_time, topic)
            SELECT m.n, m.pointer, m.wait, m.after_sequence, m.from_time, m.topic FROM matched m
            WHERE m.sequence IS NULL
            ON CONFLICT (n, pointer, wait) DO UPDATE SET topic = excluded.topic, from_time = excluded.from_time,
                after_sequence = excluded.after_sequence
        ), delivered AS (
            INSERT INTO @schema@.inbox (n, id, pointer, wait, sequence, request, name, key, payload)
            SELECT m.n, nextval('@schema@.inbox_number'), m.pointer, m.wait, m.sequence, '', m.name, m.key, m.payload
            FROM matched m WHERE m.sequence IS NOT NULL ORDER BY m.ord
            RETURNING n, id)
        SELECT coalesce(array_agg(d.n), '{}'), coalesce(array_agg(d.id), '{}') INTO v_row_ns, v_row_ids
            FROM delivered d;
    END IF;

    -- Children that end with their parent, and messages.
    IF cardinality(m_place) > 0 THEN
        SELECT array_agg(CASE WHEN m.place = 0 AND v_repeated OR v_ns[m.place] = 0 THEN 0 ELSE coalesce(i.n, 0) END
                ORDER BY m.ord) INTO v_reached
            FROM unnest(m_place, m_instance) WITH ORDINALITY AS m(place, instance, ord)
            LEFT JOIN @schema@.instance i ON i.id = m.instance AND i.ended_at IS NULL;
        WITH put AS (
            INSERT INTO @schema@.inbox (n, id, pointer, wait, sequence, request, name, key, message, payload)
            SELECT m.n, nextval('@schema@.inbox_number'), 0, 0, 0, m.request, '', '', m.message, ''
            FROM unnest(v_reached, m_message, m_request) AS m(n, message, request) WHERE m.n <> 0
            RETURNING n, id)
        SELECT v_row_ns || coalesce(array_agg(p.n), '{}'), v_row_ids || coalesce(array_agg(p.id), '{}')
            INTO v_row_ns, v_row_ids FROM put p;
        IF p_flags & 2 <> 0 THEN
            IF v_repeated THEN
                SELECT r.reached INTO v_reached FROM @schema@.marker r WHERE r.batch = p_batch;
            ELSE
                UPDATE @schema@.marker SET reached = v_reached WHERE batch = p_batch;
            END IF;
        END IF;
        RETURN NEXT ROW(7, v_reached, NULL, NULL)::@schema@.answer;
    END IF;
    IF cardinality(c_place) > 0 THEN
        WITH put AS (
            INSERT INTO @schema@.inbox (n, id, pointer, wait, sequence, request, name, key, message, payload)
            SELECT i.n, nextval('@schema@.inbox_number'), 0, 0, 0, '', '', '', c.message, ''
            FROM unnest(c_place, c_message) AS c(place, message)
            JOIN @schema@.instance p ON p.n = v_ns[c.place]
            JOIN @schema@.instance i ON i.parent_id = p.id AND i.on_parent_end = 'cancel' AND i.ended_at IS NULL
            RETURNING n, id)
        SELECT v_row_ns || coalesce(array_agg(p.n), '{}'), v_row_ids || coalesce(array_agg(p.id), '{}')
            INTO v_row_ns, v_row_ids FROM put p;
    END IF;

    -- Events: promoted ones first. Inserted in the order of their ids, numbered in the order of the batch.
    IF v_due IS NOT NULL THEN
        SELECT max(l.time) INTO v_latest
            FROM (SELECT DISTINCT e.topic FROM unnest(v_due) AS d(id) JOIN @schema@.event e ON e.id = d.id) t
            CROSS JOIN LATERAL (
                SELECT e.time FROM @schema@.event e WHERE e.topic = t.topic AND e.sequence IS NOT NULL
                ORDER BY e.topic DESC, e.time DESC LIMIT 1) l;
        WITH promoted AS (
            UPDATE @schema@.event e SET sequence = d.sequence, time = greatest(v_now, v_latest)
            FROM (SELECT d.id, nextval('@schema@.event_number') AS sequence FROM unnest(v_due) AS d(id)) d
            WHERE e.id = d.id
            RETURNING e.topic, e.sequence)
        SELECT array_agg(p.topic ORDER BY p.sequence), array_agg(p.sequence ORDER BY p.sequence)
            INTO v_fresh_topics, v_fresh FROM promoted p;
    END IF;
    IF cardinality(b_place) > 0 THEN
        SELECT array_agg(nextval('@schema@.event_number')) INTO v_sequences
            FROM generate_series(1, cardinality(b_place));
        -- The latest time of all these topics will do for each. Searched before the first is inserted, as the search would
        -- pass every one of them.
        SELECT max(l.time) INTO v_latest
            FROM (SELECT DISTINCT t.topic FROM unnest(b_topic) AS t(topic)) t
            CROSS JOIN LATERAL (
                SELECT e.time FROM @schema@.event e WHERE e.topic = t.topic AND e.sequence IS NOT NULL
                ORDER BY e.topic DESC, e.time DESC LIMIT 1) l;
        WITH published AS (
            INSERT INTO @schema@.event (id, sequence, time, effective_at, topic, batch, name, key, payload)
            SELECT b.id, CASE WHEN b.later THEN NULL ELSE v_sequences[b.place] END,
                CASE WHEN b.later THEN NULL ELSE greatest(v_now, v_latest) END,
                b.effective, b.topic, p_batch, b.name, b.key, b.payload
            FROM (SELECT *, coalesce(b.effective > v_now, false) AS later
                FROM unnest(b_place, b_id, b_name, b_key, b_topic, b_payload, b_effective)
                AS b(place, id, name, key, topic, payload, effective)) b
            ON CONFLICT (id) DO NOTHING
            RETURNING id, topic, sequence)
        SELECT coalesce(array_agg(p.id), '{}'), v_fresh_topics || coalesce(array_agg(p.topic) FILTER (WHERE p.sequence IS NOT NULL), '{}'),
                v_fresh || coalesce(array_agg(p.sequence) FILTER (WHERE p.sequence IS NOT NULL), '{}')
            INTO v_made, v_fresh_topics, v_fresh FROM published p;
        RETURN NEXT ROW(5, v_sequences, NULL, NULL)::@schema@.answer;
        IF cardinality(v_made) < cardinality(b_place) THEN
            -- Those that were there, from somebody else or from this batch's first try.
            SELECT array_agg(v ORDER BY r.place, v.o), coalesce(bool_or(r.outcome = 0), false) INTO v_refused, v_flag
            FROM (
                SELECT b.place,
                    CASE WHEN (e.topic, e.name, e.key, e.payload) IS DISTINCT FROM (b.topic, b.name, b.key, b.payload)
                            THEN 2
                        WHEN e.batch = p_batch THEN 0
                        ELSE 1 END AS outcome
                FROM unnest(b_place, b_id, b_name, b_key, b_topic, b_payload)
                    AS b(place, id, name, key, topic, payload)
                JOIN @schema@.event e ON e.id = b.id
                WHERE b.id <> ALL (v_made)) r
            CROSS JOIN LATERAL (VALUES (1, r.place), (2, r.outcome)) AS v(o, v);
            v_repeated := v_repeated OR v_flag;
            RETURN NEXT ROW(4, v_refused, NULL, NULL)::@schema@.answer;
        END IF;
    END IF;
    IF cardinality(v_fresh) > 0 THEN
        WITH hit AS MATERIALIZED (
            SELECT DISTINCT ON (s.n, s.pointer, s.wait)
                s.n, s.pointer, s.wait, e.sequence, e.name, e.key, e.payload
            FROM unnest(v_fresh_topics, v_fresh) AS f(topic, sequence)
            JOIN @schema@.event e ON e.topic = f.topic AND e.sequence = f.sequence AND e.sequence IS NOT NULL
            JOIN @schema@.subscription s ON s.topic = f.topic
            WHERE e.sequence > s.after_sequence AND e.time >= s.from_time
            ORDER BY s.n, s.pointer, s.wait, e.sequence
        ), matched AS (
            -- Waits for whoever ends such a wait by time or cancel; then its row is gone, and nothing is delivered.
            DELETE FROM @schema@.subscription s USING hit h
            WHERE s.n = h.n AND s.pointer = h.pointer AND s.wait = h.wait
            RETURNING h.*
        ), delivered AS (
            INSERT INTO @schema@.inbox (n, id, pointer, wait, sequence, request, name, key, payload)
            SELECT m.n, nextval('@schema@.inbox_number'), m.pointer, m.wait, m.sequence, '', m.name, m.key, m.payload
            FROM (SELECT * FROM matched ORDER BY sequence, n, pointer, wait) m
            RETURNING n, id, sequence)
        SELECT v_row_ns || coalesce(array_agg(d.n), '{}'), v_row_ids || coalesce(array_agg(d.id), '{}'),
                array_agg(d.sequence)
            INTO v_row_ns, v_row_ids, v_hits FROM delivered d;
        IF v_hits IS NOT NULL THEN
            RETURN NEXT ROW(6, v_hits, NULL, NULL)::@schema@.answer;
        END IF;
    END IF;

    -- What is left in the inboxes of those that were written.
    IF v_transitions > 0 THEN
        RETURN QUERY
            SELECT 8, NULL::bigint[], array_agg(i.id), NULL::bytea[]
            FROM unnest(v_ns[1 : v_transitions] || v_again) AS v(n)
            JOIN @schema@.instance i ON i.n = v.n
            WHERE EXISTS (SELECT 1 FROM @schema@.inbox b WHERE b.n = v.n)
            HAVING count(*) > 0;
    END IF;

    IF v_repeated THEN
        -- The reply is lost, and with it what had been delivered: show again what lies there for the same instances. How
        -- many waits were reached is not told again (kind 6): what was delivered may have been consumed.
        SELECT array_agg(e.topic), array_agg(e.sequence) INTO v_topics, v_some
            FROM @schema@.event e WHERE e.id = ANY (b_id) AND e.batch = p_batch AND e.sequence IS NOT NULL;
        SELECT coalesce(array_agg(b.n), '{}'), coalesce(array_agg(b.id), '{}') INTO v_row_ns, v_row_ids
            FROM @schema@.inbox b JOIN @schema@.instance i ON i.n = b.n
            WHERE i.id = ANY (m_instance) OR b.sequence = ANY (v_some);
        RETURN QUERY SELECT * FROM @schema@.retake_v1(p_batch, p_session);
    ELSIF p_room > 0 AND cardinality(v_row_ns) > 0
            AND EXISTS (SELECT 1 FROM @schema@.session s WHERE s.id = p_session AND s.expires_at > v_now) THEN
        SELECT array_agg(l.n) INTO v_taken FROM (
            SELECT i.n FROM @schema@.instance i
            WHERE i.n = ANY (v_row_ns) AND i.ended_at IS NULL AND i.plan = ANY (p_plans)
                AND (i.owner = ''
                    OR NOT EXISTS (SELECT 1 FROM @schema@.session s WHERE s.id = i.owner AND s.expires_at > v_now))
            LIMIT p_room
            FOR NO KEY UPDATE OF i SKIP LOCKED) l;
        IF v_taken IS NOT NULL THEN
            RETURN QUERY SELECT * FROM @schema@.take_v1(p_batch, p_session, v_taken, v_now);
        END IF;
    END IF;
    IF cardinality(v_row_ns) > 0 THEN
        RETURN QUERY
            SELECT 9, ARRAY[b.n, b.id, b.pointer, b.wait, b.sequence],
                ARRAY[i.id, (SELECT s.id FROM @schema@.session s WHERE s.id = i.owner AND s.expires_at > v_now),
                    b.name, b.key],
                ARRAY[b.message, b.payload]
            FROM unnest(v_row_ns, v_row_ids) AS v(n, id)
            JOIN @schema@.inbox b ON b.n = v.n AND b.id = v.id
            JOIN @schema@.instance i ON i.n = b.n
            WHERE v_taken IS NULL OR b.n <> ALL (v_taken)
            ORDER BY b.id;
    END IF;
    RETURN NEXT ROW(0, ARRAY[v_now, v_repeated::integer], NULL, NULL)::@schema@.answer;
END
$function$;
