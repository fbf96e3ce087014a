"""Measure `wfe` beside its peers on this machine and print the table of ratios: `make bench`.

Each run is a fresh process on a fresh database. The runs of the peers are interleaved, so that whatever the machine
does meanwhile hits all of them; each figure is the median of the rounds. Figures of different runs do not compare;
ratios of one run do.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: its folder must not shadow modules of the standard library
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import environment, report
from bench.counting import kind_of
from bench.measure import Figures, parse_result
from bench.report import Collected
from tests.servers.postgres import PostgresServer, execute_sql, fetch_value

PAGE = environment.ROOT / "docs" / "benchmarks.md"
PEERS = ("dbos", "floor", "wfe", "wfe-process")
COMMON = ("w1", "w10", "fan", "lat", "evt", "tmr", "cold", "mem")
OWN = ("fan-parallel", "loop", "chains")
COUNTED = ("count-plain", "count-data")
ALL = (*COMMON, *OWN, *COUNTED, "import")
MODULES = {
    "dbos": "bench.peers.dbos_peer",
    "floor": "bench.peers.floor",
    "wfe": "bench.peers.wfe_peer",
    "wfe-process": "bench.peers.wfe_peer",
}
# No target is a ratio to these, and they take DBOS long: one round, or none where it would take minutes.
DBOS_ONCE = frozenset({"evt", "tmr", "cold"})
DBOS_NEVER = frozenset({"mem"})
MODES_COMPARED = frozenset({"w1", "w10", "lat"})
RUN_LIMIT = 180.0  # seconds, for one process
COUNT_SHORT, COUNT_LONG = 10, 110
IMPORTS = 15

QUICK_SIZES = {
    "w1": 300,
    "w10": 60,
    "fan": 300,
    "fan-parallel": 300,
    "lat": 40,
    "evt": 10,
    "tmr": 1000,
    "mem": 2000,
    "loop": 2000,
}
DBOS_SIZES = {"evt": 8, "lat": 100}  # a median needs no more, and each sample may take a second
DBOS_QUICK_SIZES = {"evt": 2, "lat": 30, "tmr": 100}

# What the server shall do differently from its defaults: keep statements of counted databases apart in its log.
SERVER_SETTINGS = {"log_line_prefix": "[%d] "}


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    stores: tuple[str, ...]
    peers: tuple[str, ...]
    only: frozenset[str]
    rounds: int
    quick: bool
    check: bool
    write: bool
    budget: float


class Bench:
    """Runs everything that was asked for and collects the figures."""

    def __init__(self, options: Options, folder: Path, server: PostgresServer | None) -> None:
        self._options = options
        self._folder = folder
        self._server = server
        self._number = 0
        self.collected = Collected()
        self.rounds = 0
        """How many were completed."""

    def run(self) -> None:
        """What is counted, then the interleaved rounds; ends early, between two runs, when the time is used up."""
        deadline = time.monotonic() + self._options.budget
        self._counts()
        self._imports()
        for number in range(self._options.rounds):
            for store, workload, peer in self._plan(number):
                if number and time.monotonic() > deadline:
                    print(f"the time is used up in round {number + 1}; the medians are of what was measured")
                    return
                self._measure(store, peer, workload)
            self.rounds = number + 1

    def _plan(self, number: int) -> Iterator[tuple[str, str, str]]:
        for store in self._options.stores:
            for workload in COMMON:
                if not self._wanted(workload):
                    continue
                peers = [peer for peer in self._options.peers if self._takes_part(peer, workload, number)]
                turn = number % len(peers) if peers else 0  # another order each round
                for peer in peers[turn:] + peers[:turn]:
                    yield store, workload, peer
            for workload in OWN:
                if self._wanted(workload) and "wfe" in self._options.peers:
                    yield store, workload, "wfe"

    def _takes_part(self, peer: str, workload: str, number: int) -> bool:
        if peer == "wfe-process":
            return workload in MODES_COMPARED
        if peer == "dbos":
            skipped = workload in DBOS_NEVER and workload not in self._options.only
            quick_skipped = self._options.quick and workload == "tmr"
            return not skipped and not quick_skipped and (number == 0 or workload not in DBOS_ONCE)
        return workload != "mem" or number == 0

    def _wanted(self, workload: str) -> bool:
        return not self._options.only or workload in self._options.only

    def _measure(self, store: str, peer: str, workload: str) -> None:
        url = self._fresh_store(store)
        self._keep(store, peer, workload, self._process(peer, workload, url))
        if workload == "mem":
            self._keep(store, peer, "mem-again", self._process(peer, "mem-again", url))

    def _counts(self) -> None:
        if "wfe" not in self._options.peers:
            return
        for store in self._options.stores:
            for workload in COUNTED:
                if self._wanted(workload):
                    self._keep(store, "wfe", workload, self._count(store, workload))

    def _count(self, store: str, workload: str) -> Figures | None:
        """Rows, reads and NOTIFYs per step: a long chain less a short one, which takes out start and end."""
        short, long = (self._count_chain(store, workload, steps) for steps in (COUNT_SHORT, COUNT_LONG))
        if short is None or long is None:
            return None
        if long["rows"] <= short["rows"] or not long["statements"]:  # a counter that sees nothing must not look good
            self._fail("wfe", workload, f"{store}:", "the longer chain shows no writes: what counts them sees nothing")
            return None
        steps = COUNT_LONG - COUNT_SHORT
        return {name: round((float(long[name]) - float(short[name])) / steps, 2) for name in short if name in long}

    def _count_chain(self, store: str, workload: str, steps: int) -> dict[str, int] | None:
        url = self._fresh_store(store)
        if self._server is None or store == "sqlite":
            figures = self._process("wfe", workload, url, steps)
            names = ("rows", "reads", "commits", "statements")
            return None if figures is None else {"notifies": 0, **{name: int(figures[name]) for name in names}}
        name = url.rsplit("/", 1)[1]
        execute_sql(url, f"ALTER DATABASE \"{name}\" SET log_statement = 'all'")
        if self._process("wfe", workload, url, steps) is None:
            return None
        kinds = [kind_of(statement) for statement in _logged_statements(self._server.log, name)]
        rows = fetch_value(
            url, "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables"
        )
        return {
            "rows": int(str(rows)),
            "reads": kinds.count("read"),
            "commits": kinds.count("commit"),
            "notifies": kinds.count("notify"),
            "statements": len(kinds),
        }

    def _imports(self) -> None:
        """Time of the import statement alone, each in a fresh interpreter."""
        if not self._wanted("import"):
            return
        for peer, times in (("wfe", IMPORTS), ("dbos", 3)):
            if peer not in self._options.peers:
                continue
            script = f"import time; t = time.perf_counter(); import {peer}; print((time.perf_counter() - t) * 1000)"
            subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)  # warms the cache
            for _ in range(times):
                done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
                if done.returncode == 0:
                    self.collected.add("", peer, "import", {"import_ms": float(done.stdout)})

    def _process(self, peer: str, workload: str, url: str, size: int = 0) -> Figures | None:
        size = size or self._size(peer, workload)
        command = [sys.executable, "-m", MODULES[peer], workload, "--url", url, "--size", str(size)]
        if peer == "wfe-process":
            command += ["--durability", "process"]
        os.sync()  # what earlier runs left to be written would otherwise be paid for by this one's commits
        try:
            done = subprocess.run(
                command, cwd=environment.ROOT, check=False, capture_output=True, text=True, timeout=RUN_LIMIT
            )
        except subprocess.TimeoutExpired:
            self._fail(peer, workload, url, f"not done after {RUN_LIMIT:.0f} s")
            return None
        figures = parse_result(done.stdout) if done.returncode == 0 else None
        if figures is None:
            self._fail(peer, workload, url, (done.stderr or done.stdout).strip()[-1500:])
        return figures

    def _size(self, peer: str, workload: str) -> int:
        """0 stands for the workload's own size."""
        workload = "mem" if workload == "mem-again" else workload
        sizes = QUICK_SIZES if self._options.quick else {}
        if peer == "dbos":
            sizes = {**sizes, **(DBOS_QUICK_SIZES if self._options.quick else DBOS_SIZES)}
        return sizes.get(workload, 0)

    def _fail(self, peer: str, workload: str, url: str, why: str) -> None:
        store = "sqlite" if url.startswith("sqlite") else "postgres"
        self.collected.failures.append(f"{peer} {workload} on {store}")
        print(f"FAILED  {peer} {workload} on {store}:\n{why}\n", file=sys.stderr, flush=True)

    def _keep(self, store: str, peer: str, workload: str, figures: Figures | None) -> None:
        if figures is None:
            return
        self.collected.add(store, peer, workload, figures)
        shown = "  ".join(f"{name}={value}" for name, value in figures.items() if name != "workload")
        print(f"{store:<9}{workload:<13}{peer:<12}{shown}", flush=True)

    def _fresh_store(self, store: str) -> str:
        if store == "postgres":
            if self._server is None:
                raise RuntimeError("no PostgreSQL was started")
            url = self._server.create_database()
            execute_sql(url, "CHECKPOINT")
            return url
        self._number += 1
        folder = self._folder / f"{self._number}"
        folder.mkdir()
        return f"sqlite:///{folder / 'bench.db'}"


def _logged_statements(log: str, database: str) -> Iterator[str]:
    """The statements that the server logged for one database; continued lines begin with a tab."""
    mark, statement = f"[{database}] LOG:  ", ""
    for line in log.splitlines():
        if line.startswith("\t"):
            statement += line if statement else ""
            continue
        if statement:
            yield statement.partition(": ")[2]
        is_statement = line.startswith((f"{mark}statement: ", f"{mark}execute "))
        statement = line.removeprefix(mark) if is_statement else ""
    if statement:
        yield statement.partition(": ")[2]


def machine() -> str:
    """Processor, cores, memory and system; nothing that names this machine."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_processor()}, {cores} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "processor unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "processor unknown"


def versions(server_version: str | None) -> str:
    """What took part, with its version."""
    parts = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    parts += [f"PostgreSQL {server_version}"] if server_version else []
    parts += [f"{name} {importlib.metadata.version(name)}" for name in ("wfe", "dbos", "asyncpg", "msgspec")]
    return ", ".join(parts)


def read_options(argv: Sequence[str] | None = None) -> Options:
    """The command line as options."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round with small sizes, under two minutes")
    parser.add_argument("--only", default="", help="workloads, by commas: " + ", ".join(ALL))
    parser.add_argument("--stores", default="sqlite,postgres")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=0, help="how often each peer runs each workload (default 3)")
    parser.add_argument("--budget", type=float, default=1500, help="seconds after which no further run begins")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a demand is not met or a run failed")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} also after a partial run")
    given = parser.parse_args(argv)
    only = frozenset(filter(None, given.only.split(",")))
    if unknown := only - set(ALL):
        parser.error(f"unknown workload: {', '.join(sorted(unknown))}")
    stores, peers = tuple(given.stores.split(",")), tuple(given.peers.split(","))
    if unknown := frozenset(stores) - set(report.STORE_NAMES) | frozenset(peers) - set(PEERS):
        parser.error(f"unknown store or peer: {', '.join(sorted(unknown))}")
    whole = not only and not given.quick and set(stores) == set(report.STORE_NAMES) and set(peers) == set(PEERS)
    rounds = given.rounds or (1 if given.quick else 3)
    return Options(stores, peers, only, rounds, given.quick, given.check, given.write or whole, given.budget)


def section(bench: Bench, options: Options, server_version: str | None, seconds: float) -> str:
    """What is written to the page."""
    collected = bench.collected
    day = time.strftime("%Y-%m-%d", time.gmtime())
    sizes = " of quick sizes" if options.quick else ""
    facts = {
        "run": f"{day}, `make bench`, {bench.rounds} of {options.rounds} rounds{sizes}, {seconds / 60:.1f} minutes",
        "versions": versions(server_version),
        "machine": machine(),
    }
    if collected.failures:
        facts["runs that failed"] = ", ".join(sorted(set(collected.failures)))
    rows = report.table(collected, options.stores)
    return "\n\n".join(
        [
            report.described(facts),
            report.as_markdown(rows),
            "What each durability mode costs (`durability=`, see the guarantees):",
            report.durability_table(collected, options.stores),
        ]
    )


def measure(options: Options) -> int:
    """Run, print, write; the exit code."""
    begun = time.monotonic()
    folder = environment.scratch()
    server = None
    try:
        server_version = None
        if "postgres" in options.stores:
            server = PostgresServer(directory=folder / "postgres", settings=SERVER_SETTINGS).start()
            server_version = str(fetch_value(server.url, "SHOW server_version"))
        bench = Bench(options, folder, server)
        bench.run()
        text = section(bench, options, server_version, time.monotonic() - begun)
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print("\n" + text)
    if options.write:
        report.write_section(PAGE, text)
    missed = report.failed(report.table(bench.collected, options.stores))
    return 1 if options.check and (missed or bench.collected.failures) else 0


def main() -> int:
    """Entry point of `make bench`."""
    options = read_options()
    environment.ensure()
    environment.enter()
    return measure(options)


if __name__ == "__main__":
    sys.exit(main())
