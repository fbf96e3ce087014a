"""What Python can reach: a throw-away engine that records the durable points and does nothing else.

It is a yardstick, not a product: workflows are coroutines, recovery replays recorded answers, and there are no
retries, timeouts, control verbs or migrations. What it shares with `wfe` is the way to the disk: everybody's entries
gather while the last batch is being written, then go out together in one transaction, and a batch is refused when
another owner has taken the store. SQLite: WAL, synchronous=FULL, one writer thread. PostgreSQL: one statement a batch.
"""

from __future__ import annotations

import time

_import_begun = time.perf_counter()

import asyncio  # noqa: E402
import queue  # noqa: E402
import sqlite3  # noqa: E402
import threading  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Awaitable, Callable, Coroutine, Sequence  # noqa: E402
from typing import TYPE_CHECKING, Any, Protocol  # noqa: E402

import msgspec  # noqa: E402

from bench.workloads import Order, read_order, run_and_leave  # noqa: E402

if TYPE_CHECKING:
    import asyncpg

START, ANSWER, MAIL, END = range(4)
COLUMNS = (4, 5, 3, 3)  # values in an entry of each kind

_decode = msgspec.json.decode
_encoder = msgspec.json.Encoder()


def _encode(value: object) -> str:
    return _encoder.encode(value).decode()


class Batch:
    """Entries that become durable together, and the futures of those who wait for that."""

    __slots__ = ("entries", "waiters")

    def __init__(self) -> None:
        self.entries: tuple[list[tuple[Any, ...]], ...] = ([], [], [], [])
        self.waiters: list[asyncio.Future[None]] = []


class Medium(Protocol):
    """Where batches go. `slots` batches may be under way at once."""

    slots: int

    async def open(self) -> None: ...
    async def load(self) -> tuple[Sequence[Sequence[Any]], Sequence[Sequence[Any]], Sequence[Sequence[Any]]]: ...
    def write(self, batch: Batch, done: Callable[[Batch, BaseException | None], None]) -> None: ...
    async def finished(self) -> int: ...


class Journal:
    """Gathers entries into batches and hands them to the medium, as many at once as it takes."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._loop = asyncio.get_running_loop()
        self._gathering = Batch()
        self._free = medium.slots
        self._called = False

    def record(self, kind: int, entry: tuple[Any, ...]) -> asyncio.Future[None]:
        """Add an entry; the future is done once it is durable."""
        future = self._loop.create_future()
        self._gathering.entries[kind].append(entry)
        self._gathering.waiters.append(future)
        if self._free and not self._called:
            self._call_later()
        return future

    def _call_later(self) -> None:
        # Not at once: whatever else is runnable in this turn of the loop shall travel along.
        self._called = True
        self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._called = False
        if self._free and self._gathering.waiters:
            batch, self._gathering = self._gathering, Batch()
            self._free -= 1
            self._medium.write(batch, self._written)

    def _written(self, batch: Batch, error: BaseException | None) -> None:
        self._free += 1
        for waiter in batch.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        if not self._called:
            self._call_later()


class SQLiteMedium:
    """One file, one writer thread."""

    slots = 1

    SCHEMA = """
        CREATE TABLE IF NOT EXISTS owner(one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL);
        CREATE TABLE IF NOT EXISTS run(id TEXT PRIMARY KEY, flow TEXT NOT NULL, input TEXT, begun REAL,
            output TEXT, ended REAL) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS run_open ON run(begun) WHERE ended IS NULL;
        CREATE TABLE IF NOT EXISTS answer(run TEXT, number INTEGER, step TEXT, value TEXT, at REAL,
            PRIMARY KEY (run, number)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS mail(run TEXT, number INTEGER, body TEXT, PRIMARY KEY (run, number)) WITHOUT ROWID;
    """
    SINGLE = (
        "INSERT INTO run(id, flow, input, begun) VALUES (?, ?, ?, ?)",
        "INSERT INTO answer(run, number, step, value, at) VALUES (?, ?, ?, ?, ?)",
        "INSERT INTO mail(run, number, body) VALUES (?, ?, ?)",
        "UPDATE run SET output = ?2, ended = ?3 WHERE id = ?1 AND ended IS NULL",
    )
    # All entries of a kind as one JSON array: SQLite loops over them in C, without the interpreter lock.
    WHOLE = (
        "INSERT INTO run(id, flow, input, begun) SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?)",
        """INSERT INTO answer(run, number, step, value, at)
            SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?)""",
        "INSERT INTO mail(run, number, body) SELECT value->>0, value->>1, value->>2 FROM json_each(?)",
        """UPDATE run SET output = e.value->>1, ended = e.value->>2 FROM json_each(?) e
            WHERE run.id = e.value->>0 AND run.ended IS NULL""",
    )
    WORTH_AN_ARRAY = 3

    def __init__(self, path: str) -> None:
        self._path = path
        self._orders: queue.SimpleQueue[tuple[Batch, Callable[[Batch, BaseException | None], None]]] = (
            queue.SimpleQueue()
        )

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")
        self._file.executescript(self.SCHEMA)
        take = "INSERT INTO owner VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
        self._epoch = self._file.execute(take).fetchall()[0][0]
        threading.Thread(target=self._work, name="floor-writer", daemon=True).start()

    async def load(self) -> tuple[list[Any], list[Any], list[Any]]:
        still_open = "JOIN run ON run.id = x.run AND run.ended IS NULL"
        return (
            self._file.execute("SELECT id, flow, input FROM run WHERE ended IS NULL ORDER BY begun").fetchall(),
            self._file.execute(f"SELECT x.run, x.number, x.value FROM answer x {still_open}").fetchall(),
            self._file.execute(f"SELECT x.run, x.body FROM mail x {still_open} ORDER BY 1, x.number").fetchall(),
        )

    def write(self, batch: Batch, done: Callable[[Batch, BaseException | None], None]) -> None:
        self._orders.put((batch, done))

    async def finished(self) -> int:
        count: int = self._file.execute("SELECT count(*) FROM run WHERE ended IS NOT NULL").fetchone()[0]
        return count

    def _work(self) -> None:
        while True:
            batch, done = self._orders.get()
            error: BaseException | None = None
            try:
                self._transact(batch)
            except (sqlite3.Error, RuntimeError) as caught:
                error = caught
            self._loop.call_soon_threadsafe(done, batch, error)

    def _transact(self, batch: Batch) -> None:
        execute = self._file.execute
        execute("BEGIN IMMEDIATE")
        if execute("SELECT epoch FROM owner").fetchone()[0] != self._epoch:
            execute("ROLLBACK")
            raise RuntimeError("another process has taken the store")
        for kind, entries in enumerate(batch.entries):
            if len(entries) >= self.WORTH_AN_ARRAY:
                execute(self.WHOLE[kind], (_encode(entries),))
            elif entries:
                self._file.executemany(self.SINGLE[kind], entries)
        execute("COMMIT")


class PostgresMedium:
    """One database; a batch is one statement on one of two prepared connections."""

    slots = 2

    SCHEMA = """
        CREATE TABLE IF NOT EXISTS owner(one int PRIMARY KEY CHECK (one = 1), epoch int NOT NULL);
        CREATE TABLE IF NOT EXISTS run(id text PRIMARY KEY, flow text NOT NULL, input text, begun float8,
            output text, ended float8) WITH (fillfactor = 70);
        CREATE INDEX IF NOT EXISTS run_open ON run(begun) WHERE ended IS NULL;
        CREATE TABLE IF NOT EXISTS answer(run text, number int, step text, value text, at float8,
            PRIMARY KEY (run, number));
        CREATE TABLE IF NOT EXISTS mail(run text, number int, body text, PRIMARY KEY (run, number));
    """
    # The share lock keeps another process from taking the store between the look at the epoch and the commit.
    WHOLE = """
        WITH mine AS (SELECT epoch FROM owner WHERE epoch = $1 FOR SHARE),
        starts AS (
            INSERT INTO run(id, flow, input, begun)
            SELECT e.* FROM mine, unnest($2::text[], $3::text[], $4::text[], $5::float8[]) e),
        answers AS (
            INSERT INTO answer(run, number, step, value, at)
            SELECT e.* FROM mine, unnest($6::text[], $7::int[], $8::text[], $9::text[], $10::float8[]) e),
        mails AS (
            INSERT INTO mail(run, number, body)
            SELECT e.* FROM mine, unnest($11::text[], $12::int[], $13::text[]) e),
        ends AS (
            UPDATE run SET output = e.output, ended = e.at
            FROM mine, unnest($14::text[], $15::text[], $16::float8[]) e(id, output, at)
            WHERE run.id = e.id AND run.ended IS NULL)
        SELECT epoch FROM mine
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._writing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        import asyncpg  # not needed for SQLite

        self._connections: list[asyncpg.Connection[Any]] = [await asyncpg.connect(self._url) for _ in range(self.slots)]
        first = self._connections[0]
        await first.execute(self.SCHEMA)
        take = "INSERT INTO owner VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET epoch = owner.epoch + 1 RETURNING epoch"
        self._epoch = await first.fetchval(take)
        self._statements = [await connection.prepare(self.WHOLE) for connection in self._connections]

    async def load(self) -> tuple[list[Any], list[Any], list[Any]]:
        still_open = "JOIN run ON run.id = x.run AND run.ended IS NULL"
        fetch = self._connections[0].fetch
        return (
            await fetch("SELECT id, flow, input FROM run WHERE ended IS NULL ORDER BY begun"),
            await fetch(f"SELECT x.run, x.number, x.value FROM answer x {still_open}"),
            await fetch(f"SELECT x.run, x.body FROM mail x {still_open} ORDER BY 1, x.number"),
        )

    def write(self, batch: Batch, done: Callable[[Batch, BaseException | None], None]) -> None:
        task = asyncio.ensure_future(self._transact(batch, done))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def finished(self) -> int:
        count: int = await self._connections[0].fetchval("SELECT count(*) FROM run WHERE ended IS NOT NULL")
        return count

    async def _transact(self, batch: Batch, done: Callable[[Batch, BaseException | None], None]) -> None:
        statement = self._statements.pop()
        arguments: list[Sequence[Any]] = []
        for kind, entries in enumerate(batch.entries):
            arguments.extend(zip(*entries, strict=True) if entries else ((),) * COLUMNS[kind])
        error: BaseException | None = None
        try:
            if await statement.fetchval(self._epoch, *arguments) != self._epoch:
                error = RuntimeError("another process has taken the store")
        except Exception as caught:  # noqa: BLE001 - the waiters raise it
            error = caught
        self._statements.append(statement)
        done(batch, error)


class Run:
    """One workflow under way: numbers its steps and answers from the record where there is one."""

    __slots__ = ("_number", "_read", "id", "journal", "mailbox", "posted", "recorded", "stirred", "task")

    def __init__(self, run_id: str, journal: Journal) -> None:
        self.id = run_id
        self.journal = journal
        self.recorded: dict[int, str] | None = None
        self.mailbox: list[str] = []
        self.posted = 0
        self.stirred: asyncio.Future[None] | None = None
        self.task: asyncio.Task[Any] | None = None
        self._number = 0
        self._read = 0

    async def step(self, body: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:  # noqa: ANN401
        """Run the body and record its answer, or take the answer from the record."""
        self._number += 1
        number = self._number
        if self.recorded is not None and number in self.recorded:
            return _decode(self.recorded[number])
        value = await body(*arguments)
        await self.journal.record(ANSWER, (self.id, number, body.__name__, _encode(value), time.time()))
        return value

    async def receive(self) -> Any:  # noqa: ANN401
        """The next message for this workflow."""
        number, self._read = self._read, self._read + 1
        while len(self.mailbox) <= number:
            self.stirred = asyncio.get_running_loop().create_future()
            await self.stirred
        return _decode(self.mailbox[number])

    async def sleep(self, seconds: float) -> None:
        """A pause whose end is recorded, so that it ends at the same time after a crash."""
        due = await self.step(_moment, seconds)
        await asyncio.sleep(max(0.0, due - time.time()))


async def _moment(seconds: float) -> float:
    return time.time() + seconds


async def _plus_one(x: int) -> int:
    return x + 1


async def chain(run: Run, steps: int, x: int) -> int:
    for _ in range(steps):
        x = await run.step(_plus_one, x)
    return x


async def fan(run: Run, width: int) -> int:
    return len(await asyncio.gather(*[run.step(_plus_one, item) for item in range(width)]))


async def waiter(run: Run) -> Any:  # noqa: ANN401
    return await run.receive()


async def sleeper(run: Run) -> int:
    await run.sleep(1.0)
    return 1


FLOWS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    flow.__name__: flow for flow in (chain, fan, waiter, sleeper)
}


class FloorPeer:
    """The reference engine as a benchmark peer. A handle is the task of the workflow."""

    def __init__(self, order: Order) -> None:
        sqlite = order.url.startswith("sqlite:")
        path = order.url.removeprefix("sqlite:///")
        self._medium: Medium = SQLiteMedium(path) if sqlite else PostgresMedium(order.url)
        self._live: dict[str, Run] = {}

    async def open(self) -> None:
        await self._medium.open()
        self._loop = asyncio.get_running_loop()
        self._journal = Journal(self._medium)
        starts, answers, mails = await self._medium.load()
        for run_id, _, _ in starts:
            self._live[run_id] = Run(run_id, self._journal)
        for run_id, number, value in answers:
            run = self._live[run_id]
            run.recorded = run.recorded or {}
            run.recorded[number] = value
        for run_id, body in mails:
            self._live[run_id].mailbox.append(body)
            self._live[run_id].posted += 1
        for run_id, flow, arguments in starts:
            self._spawn(self._live[run_id], FLOWS[flow], _decode(arguments))

    async def close(self) -> None:
        """Nothing to do: what counts is on disk."""

    def start_chain(self, steps: int, x: int) -> Awaitable[asyncio.Task[Any]]:
        return self._start(chain, steps, x)

    def start_waiter(self, key: str) -> Awaitable[asyncio.Task[Any]]:
        return self._start(waiter, run_id=key)

    def start_sleeper(self) -> Awaitable[asyncio.Task[Any]]:
        return self._start(sleeper)

    async def signal(self, key: str, payload: int) -> None:
        run = self._live[key]
        body, number = _encode(payload), run.posted
        run.posted += 1
        await self._journal.record(MAIL, (key, number, body))
        run.mailbox.append(body)
        if run.stirred is not None and not run.stirred.done():
            run.stirred.set_result(None)

    def result(self, handle: asyncio.Task[Any]) -> Awaitable[object]:
        return handle

    async def find(self, key: str) -> asyncio.Task[Any]:
        task = self._live[key].task
        if task is None:
            raise LookupError(key)
        return task

    async def run_fan(self, width: int) -> int:
        done: int = await (await self._start(fan, width))
        return done

    async def finished(self) -> int:
        return await self._medium.finished()

    async def _start(
        self, flow: Callable[..., Coroutine[Any, Any, Any]], *arguments: object, run_id: str | None = None
    ) -> asyncio.Task[Any]:
        run = Run(run_id or uuid.uuid4().hex, self._journal)
        await self._journal.record(START, (run.id, flow.__name__, _encode(arguments), time.time()))
        self._live[run.id] = run
        return self._spawn(run, flow, arguments)

    def _spawn(
        self, run: Run, flow: Callable[..., Coroutine[Any, Any, Any]], arguments: Sequence[object]
    ) -> asyncio.Task[Any]:
        run.task = self._loop.create_task(self._drive(run, flow(run, *arguments)))
        return run.task

    async def _drive(self, run: Run, flow: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        output = await flow
        await self._journal.record(END, (run.id, _encode(output), time.time()))
        del self._live[run.id]
        return output


IMPORT_SECONDS = time.perf_counter() - _import_begun

if __name__ == "__main__":
    ORDER = read_order()
    run_and_leave(FloorPeer(ORDER), ORDER, import_s=IMPORT_SECONDS)
