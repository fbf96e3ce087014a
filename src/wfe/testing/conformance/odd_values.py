"""Odd and big values come back as they were given."""

from __future__ import annotations

from wfe.ports.store import DefinitionRow, ErrorRow, ItemsRow, ListFilter, PointerRow, StartOutcome, TransitionOutcome
from wfe.testing.conformance.values import DEFINITION, event, message, start, transition, wait
from wfe.testing.conformance.world import World

__all__ = ["BigValuePromises", "OddValuePromises"]

ODD_TEXTS = (
    " ",
    " leading and trailing ",
    "\ttab\nnewline\r\n",
    "'; DROP TABLE instance; --",
    "\"quoted\" 'single' `back`",
    "percent % underscore _ back\\slash \\u0000 \\x00",
    "$1 :name ?1 {braces} ((var)) ${{ x }}",
    "null",
    "NULL",
    "0",
    "007",
    "1e5",
    "Größe, naïve, Ωmega",
    "日本語のキー",
    "العربية",
    "🧵🪡 \U0001f469\u200d\U0001f4bb",
    "e\u0301 and \u00e9",
    "\u202eright to left",
    "\ufeffbyte order mark",
    "\u2028line separator\u2029",
    "\x01\x1f\x7f\x80control",
    "\uffff\U0010ffff",
    "x" * 500,
)

ODD_BYTES = (
    b"",
    b"\x00",
    bytes(range(256)),
    b"\xff\xfe\x00\x00",
    b"\\x00\\000",
    b"'\"\\",
    "日本語".encode(),
    b"null",
)

FAR_FUTURE = 253_402_300_799_000_000
"""The last second of the year 9999."""


class OddValuePromises:
    """Text is any Unicode without NUL and lone surrogates; packed values are any bytes."""

    async def test_ids_are_any_text(self, world: World) -> None:
        """Instances are told apart by every character of their ids."""
        ids = [*ODD_TEXTS, "a", "A", "a ", "á", "a\u0301"]

        await world.create(*(start(instance_id, head=instance_id.encode()) for instance_id in ids))

        assert [(await world.row(instance_id)).head for instance_id in ids] == [text.encode() for text in ids]
        assert sorted(await world.store.known(ids)) == sorted(ids)

    async def test_names_and_references_are_any_text(self, world: World) -> None:
        """Names and references are found as they were given."""
        await world.create(
            *(start(f"order-{number}", name=text, reference=text) for number, text in enumerate(ODD_TEXTS))
        )

        for number, text in enumerate(ODD_TEXTS):
            rows, _ = await world.store.list_instances(ListFilter(reference=text), 10)
            assert [(row.id, row.name, row.reference) for row in rows] == [(f"order-{number}", text, text)]
            assert (await world.row(text)).id == f"order-{number}"

    async def test_empty_text_is_text(self, world: World) -> None:
        """An empty reference is not the same as none."""
        await world.create(start("empty", reference=""), start("none", reference=None))

        rows, _ = await world.store.list_instances(ListFilter(reference=""), 10)

        assert [row.id for row in rows] == ["empty"]
        assert (await world.row("none")).reference is None

    async def test_definitions_have_any_text(self, world: World) -> None:
        """Ids, structures, plans and sources are any text; instances of them are claimed by all of the key."""
        keys = [DEFINITION._replace(id=text, hash=text) for text in ODD_TEXTS]
        for key in keys:
            await world.store.save_definition(DefinitionRow(key, '{"text":"' + "日本" * 9 + '"}', key.id))
        await world.create(*(start(f"order-{number}", definition=key, wake_at=0) for number, key in enumerate(keys)))

        claimed = await world.claim(runnable=[keys[3], keys[9]])

        assert sorted(loaded.definition for loaded in claimed.instances) == sorted([keys[3], keys[9]])
        assert sorted(row.source for row in await world.store.definitions()) == sorted(ODD_TEXTS)

    async def test_event_names_and_keys_are_any_text(self, world: World) -> None:
        """Each odd key reaches its own wait alone, by name and by key; empty ones are keys too."""
        texts = [*ODD_TEXTS, "", "paid", "PAID", "paid "]
        waits = [wait(text, "key", pointer=number) for number, text in enumerate(texts)]
        waits += [wait("name", text, pointer=100 + number) for number, text in enumerate(texts)]
        await world.started(subscribe=waits)

        reply = await world.commit(
            *(event(text, "key", text.encode()) for text in texts),
            *(event("name", text, text.encode()) for text in texts),
        )

        assert {one.deliveries for one in reply.publishes} == {1}
        received = {row.pointer: row.payload for row in await world.inbox()}
        assert received == {number + base: text.encode() for base in (0, 100) for number, text in enumerate(texts)}

    async def test_event_ids_and_requests_are_any_text(self, world: World) -> None:
        """Odd event ids and request ids are told apart."""
        await world.create(start())

        first = await world.commit(*(event(event_id=text, payload=text.encode()) for text in ODD_TEXTS))
        again = await world.commit(*(event(event_id=text, payload=b"other") for text in ODD_TEXTS))
        await world.commit(*(message(request=text) for text in ODD_TEXTS))

        assert {one.outcome.value for one in first.publishes} == {"created"}
        assert {one.outcome.value for one in again.publishes} == {"conflict"}
        assert sorted(await world.store.pending_control(ODD_TEXTS)) == sorted(ODD_TEXTS)

    async def test_reasons_are_any_text(self, world: World) -> None:
        """Reasons for blocking are any text."""
        await world.create(*(start(f"order-{number}") for number in range(len(ODD_TEXTS))))

        await world.store.block({f"order-{number}": text for number, text in enumerate(ODD_TEXTS)})

        reasons = [(await world.row(f"order-{number}")).blocked_reason for number in range(len(ODD_TEXTS))]
        assert reasons == list(ODD_TEXTS)

    async def test_packed_values_are_any_bytes(self, world: World) -> None:
        """Heads, documents, pointers, collections, errors, messages, payloads and records are opaque bytes."""
        for number, odd in enumerate(ODD_BYTES):
            name = f"order-{number}"
            held = await world.started(
                name,
                head=odd,
                data=odd,
                values=odd,
                pointers=[PointerRow(1, odd)],
                items=[ItemsRow(1, odd)],
                errors=[ErrorRow(1, odd)],
                first_sequence=1,
                record_count=1,
                records=odd,
                subscribe=[wait(key=name)],
            )
            await world.commit(message(name, odd), event(key=name, payload=odd))
            await world.store.release(world.session, [(name, held.fence)])

            loaded = await world.take(name)

            assert (loaded.head, loaded.data, loaded.values) == (odd, odd, odd)
            assert (list(loaded.pointers), [row.items for row in loaded.items]) == ([odd], [odd])
            assert sorted((row.message is None, row.message or row.payload) for row in loaded.inbox) == [
                (False, odd),
                (True, odd),
            ]
            assert [row.records for row in await world.store.history(name)] == [odd]
            assert list(await world.store.errors(name)) == [odd]

    async def test_digests_are_any_bytes(self, world: World) -> None:
        """A digest is compared byte by byte."""
        await world.create(*(start(f"order-{n}", digest=odd) for n, odd in enumerate(ODD_BYTES)))

        same = await world.commit(*(start(f"order-{n}", digest=odd) for n, odd in enumerate(ODD_BYTES)))
        other = await world.commit(*(start(f"order-{n}", digest=odd + b"\x00") for n, odd in enumerate(ODD_BYTES)))

        assert set(same.starts) == {StartOutcome.EXISTS}
        assert set(other.starts) == {StartOutcome.CONFLICT}

    async def test_far_times_are_kept_exactly(self, world: World) -> None:
        """Times are whole microseconds up to the year 9999."""
        await world.create(start("far", wake_at=FAR_FUTURE), start("odd", wake_at=FAR_FUTURE - 123_457))

        claim = await world.claim()
        await world.commit(event(effective_at=FAR_FUTURE - 1))

        assert ((await world.row("far")).wake_at, claim.next_wake) == (FAR_FUTURE, FAR_FUTURE - 123_457)
        assert (await world.claim()).next_event == FAR_FUTURE - 1

    async def test_version_zero_and_big_versions(self, world: World) -> None:
        """Versions are whole numbers."""
        keys = [DEFINITION._replace(version=version) for version in (0, 1, 2_000_000_000)]
        await world.create(*(start(f"order-{key.version}", definition=key, wake_at=0) for key in keys))

        claimed = await world.claim(runnable=keys[1:])

        assert sorted(loaded.definition.version for loaded in claimed.instances) == [1, 2_000_000_000]


class BigValuePromises:
    """Big values and many rows fit."""

    async def test_big_documents(self, world: World) -> None:
        """A document, a collection, a payload and a message of a few megabytes come back whole."""
        megabyte = bytes(range(256)) * 4096
        held = await world.started(data=megabyte * 4, items=[ItemsRow(1, megabyte)], subscribe=[wait()])
        await world.commit(message(body=megabyte), event(payload=megabyte))

        await world.write(held, hold=False)
        loaded = await world.take()

        assert loaded.data == megabyte * 4
        assert [row.items for row in loaded.items] == [megabyte]
        assert all((row.message or row.payload) == megabyte for row in loaded.inbox)
        assert len(loaded.inbox) == 2

    async def test_many_pointers(self, world: World) -> None:
        """One transition may write, and another delete, very many pointers."""
        count = world.scale
        held = await world.started()

        await world.write(held, pointers=[PointerRow(slot, str(slot).encode()) for slot in range(count)])
        full = len((await world.row()).pointers)
        await world.write(held, pointers_gone=range(1, count))

        assert (full, list((await world.row()).pointers)) == (count, [b"0"])

    async def test_many_starts(self, world: World) -> None:
        """One batch may start very many instances, and one claim load them."""
        ids = [f"order-{number}" for number in range(world.scale // 5)]
        await world.create(*(start(instance_id, wake_at=0, pointers=[PointerRow(1, b"p")]) for instance_id in ids))

        claimed = (await world.claim(len(ids))).instances

        assert {loaded.id for loaded in claimed} == set(ids)
        assert {tuple(loaded.pointers) for loaded in claimed} == {(b"p",)}

    async def test_many_messages(self, world: World) -> None:
        """One transition may consume very many messages."""
        held = await world.started()
        await world.commit(*(message(body=str(number).encode()) for number in range(world.scale // 5)))
        rows = await world.inbox()

        await world.write(held, consumed=[row.id for row in rows[:-1]])

        assert (len(rows), await world.inbox()) == (world.scale // 5, rows[-1:])

    async def test_many_refused_among_many_accepted(self, world: World) -> None:
        """In a big batch every transition is judged by itself."""
        count = world.scale // 10
        await world.create(*(start(f"order-{number}", hold=True) for number in range(count)))

        reply = await world.commit(
            *(transition(f"order-{number}", 1, 1 + number % 2, data=str(number).encode()) for number in range(count))
        )

        expected = [TransitionOutcome.FENCED if number % 2 else TransitionOutcome.ACCEPTED for number in range(count)]
        assert list(reply.transitions) == expected
        assert ((await world.row("order-8")).data, (await world.row("order-9")).data) == (b"8", b"{}")

    async def test_questions_about_many_ids(self, world: World) -> None:
        """Reads by id take very many ids."""
        ids = [f"order-{number}" for number in range(world.scale)]
        await world.create(start(ids[-1]))
        await world.commit(message(ids[-1], request=ids[-1]))

        assert list(await world.store.known(ids)) == [ids[-1]]
        assert len(await world.store.inbox(ids)) == 1
        assert list(await world.store.pending_control(ids)) == [ids[-1]]
        assert list(await world.store.ended(ids)) == []
        assert await world.claimed_ids(ids=ids) == [ids[-1]]

    async def test_long_keys(self, world: World) -> None:
        """Event names and keys, ids and names of a thousand characters are kept and matched."""
        long = "ключ" * 250
        await world.create(start(long, name=long, subscribe=[wait(long, long)]))

        reply = await world.commit(event(long, long), message(long))

        assert (reply.publishes[0].deliveries, len(await world.inbox(long))) == (1, 2)
