"""From figures to the table: which ratio is asked for, is it reached, and how is it written down."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import Figures

BEGIN = "<!-- figures: begin, written by `make bench` -->"
END = "<!-- figures: end -->"

NOTHING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"

STORE_NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
Key = tuple[str, str, str]


@dataclass
class Collected:
    """The figures of all runs, by (store, peer, workload)."""

    runs: dict[Key, list[Figures]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, store: str, peer: str, workload: str, figures: Figures) -> None:
        """Keep the figures of one run."""
        self.runs.setdefault((store, peer, workload), []).append(figures)

    def median(self, store: str, peer: str, workload: str, figure: str) -> float | None:
        """The median of one figure over the rounds; None where the peer was not run or failed."""
        values = self._values(store, peer, workload, figure)
        return statistics.median(values) if values else None

    def rounds(self, store: str, peer: str, workload: str) -> int:
        """How many runs the median is made of."""
        return len(self.runs.get((store, peer, workload), []))

    def _values(self, store: str, peer: str, workload: str, figure: str) -> list[float]:
        figures = self.runs.get((store, peer, workload), [])
        return [float(one[figure]) for one in figures if figure in one]


@dataclass(frozen=True, slots=True)
class Check:
    """One demand: a value and the bound that it is held to. `value` is None where there is nothing to compare."""

    value: float | None
    bound: float
    at_least: bool
    text: str

    @property
    def passed(self) -> bool | None:
        """None where it could not be measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def mark(self) -> str:
        """A word for the table."""
        return {True: "pass", False: "FAIL", None: NOTHING}[self.passed]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    store: str
    figures: Sequence[str]
    must: Check | None
    aim: Check | None


def table(collected: Collected, stores: Sequence[str]) -> list[Row]:
    """All rows for which something was measured."""
    rows = [row for store in stores for row in _rows_of_store(collected, store)]
    rows += _import_rows(collected)
    return [row for row in rows if any(figure != NOTHING for figure in row.figures)]


def failed(rows: Iterable[Row]) -> list[Row]:
    """The rows whose demand was measured and not met."""
    return [row for row in rows if row.must is not None and row.must.passed is False]


def _rows_of_store(collected: Collected, store: str) -> list[Row]:
    sqlite = store == "sqlite"
    return [
        _rate(collected, store, "one-step workflows/s (w1)", "w1", "workflows_per_s", dbos_times=30 if sqlite else 20),
        _rate(
            collected, store, "ten-step workflows, steps/s (w10)", "w10", "steps_per_s", dbos_times=50 if sqlite else 40
        ),
        _time(
            collected, store, "one caller, start → result, ms", "lat", "median_ms", dbos_share=1 / 3, floor_times=1.5
        ),
        _limited(
            collected,
            store,
            "event → waiter has ended, ms",
            "evt",
            "median_ms",
            limit=3.0,
            text="≤ 3 ms",
            floor_times=1.5,
        ),
        _time(collected, store, "1,000 parallel steps (`for_each`), s", "fan", "wall_s", dbos_share=1 / 20),
        _time(collected, store, "1,000 parallel steps (`parallel`), s", "fan-parallel", "wall_s", dbos_share=1 / 20),
        _limited(collected, store, "1,000 sleeps of 1 s, s", "tmr", "wall_s", limit=1.3, text="≤ 1.3 s"),
        _spread(collected, store, "cost per loop turn, longest ÷ 100 turns", "loop", "turns_"),
        _spread(collected, store, "cost per step, 800 ÷ 50 steps", "chains", "steps_"),
        _limited(collected, store, "10,000 waiting, MB", "mem", "rss_mb", limit=100, text="< 100 MB"),
        _limited(collected, store, "start of a new host on them, s", "mem-again", "open_s", limit=1.0, text="< 1 s"),
        _limited(collected, store, "its memory, MB", "mem-again", "rss_mb", limit=100, text="< 100 MB"),
        _first(collected, store),
        *_counted(collected, store),
    ]


def _rate(collected: Collected, store: str, what: str, workload: str, figure: str, *, dbos_times: int) -> Row:
    ours, floor, dbos = (collected.median(store, peer, workload, figure) for peer in ("wfe", "floor", "dbos"))
    return Row(
        what,
        store,
        _shown(ours, floor, dbos),
        Check(_ratio(ours, dbos), dbos_times, at_least=True, text=f"≥ {dbos_times}{TIMES} DBOS"),
        Check(_ratio(ours, floor), 0.25, at_least=True, text="≥ ¼ of floor"),
    )


def _time(
    collected: Collected,
    store: str,
    what: str,
    workload: str,
    figure: str,
    *,
    dbos_share: float,
    floor_times: float = 0,
) -> Row:
    ours, floor, dbos = (collected.median(store, peer, workload, figure) for peer in ("wfe", "floor", "dbos"))
    if workload == "fan-parallel":  # the peers have one form of it
        floor, dbos = (collected.median(store, peer, "fan", figure) for peer in ("floor", "dbos"))
    must = Check(_ratio(ours, dbos), dbos_share, at_least=False, text=f"≤ 1/{round(1 / dbos_share)} of DBOS")
    return Row(what, store, _shown(ours, floor, dbos), must, _against_floor(ours, floor, floor_times))


def _limited(
    collected: Collected,
    store: str,
    what: str,
    workload: str,
    figure: str,
    *,
    limit: float,
    text: str,
    floor_times: float = 0,
) -> Row:
    ours, floor, dbos = (collected.median(store, peer, workload, figure) for peer in ("wfe", "floor", "dbos"))
    must = Check(ours, limit, at_least=False, text=text)
    return Row(what, store, _shown(ours, floor, dbos), must, _against_floor(ours, floor, floor_times))


def _first(collected: Collected, store: str) -> Row:
    """From nothing to the first result; what is asked of it is asked of a fresh file, not of a server."""
    shown = _shown(*(collected.median(store, peer, "cold", "first_ms") for peer in ("wfe", "floor", "dbos")))
    ours = collected.median(store, "wfe", "cold", "first_ms")
    must = Check(ours, 50, at_least=False, text="< 50 ms") if store == "sqlite" else None
    return Row("first workflow in a fresh store, ms", store, shown, must, None)


def _spread(collected: Collected, store: str, what: str, workload: str, prefix: str) -> Row:
    """Highest over lowest cost of a step among the lengths measured; shown are the costs in microseconds."""
    costs = {
        name: cost
        for run in collected.runs.get((store, "wfe", workload), [])[:1]
        for name in run
        if name.startswith(prefix) and (cost := collected.median(store, "wfe", workload, name)) is not None
    }
    spread = max(costs.values()) / min(costs.values()) if costs else None
    shown = " / ".join(f"{cost:.0f}" for cost in costs.values()) + " µs" if costs else NOTHING
    return Row(
        what, store, (shown, NOTHING, NOTHING), Check(spread, 1.3, at_least=False, text=f"within 1.3{TIMES}"), None
    )


def _counted(collected: Collected, store: str) -> list[Row]:
    rows = []
    for workload, what in (("count-plain", "plain step"), ("count-data", "step that changes data")):
        written, read, notified = (
            collected.median(store, "wfe", workload, figure) for figure in ("rows", "reads", "notifies")
        )
        aim = Check(written, 4, at_least=False, text="4") if workload == "count-plain" else None
        rows += [
            _plain(f"rows written per {what}", store, written, Check(written, 5, at_least=False, text="≤ 5"), aim),
            _plain(f"reads per {what}", store, read, Check(read, 0, at_least=False, text="none")),
            _plain(f"NOTIFY per {what}", store, notified, Check(notified, 0, at_least=False, text="none")),
        ]
    return rows


def _import_rows(collected: Collected) -> list[Row]:
    ours, dbos = (collected.median("", peer, "import", "import_ms") for peer in ("wfe", "dbos"))
    check = Check(ours, 100, at_least=False, text="< 100 ms")
    return [Row("`import`, ms", "", _shown(ours, None, dbos), check, None)]


def _plain(what: str, store: str, value: float | None, must: Check, aim: Check | None = None) -> Row:
    return Row(what, store, _shown(value, None, None), must, aim)


def _against_floor(ours: float | None, floor: float | None, times: float) -> Check | None:
    if not times:
        return None
    return Check(_ratio(ours, floor), times, at_least=False, text=f"≤ {times:g}{TIMES} floor")


def _ratio(ours: float | None, other: float | None) -> float | None:
    return ours / other if ours is not None and other else None


def _shown(*values: float | None) -> tuple[str, ...]:
    return tuple(NOTHING if value is None else _number(value) for value in values)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 or value == 0 else 4
    return f"{value:.{digits}f}"


def _judged(check: Check | None) -> str:
    if check is None:
        return ""
    measured = f" ({_number(check.value)}{TIMES})" if _is_ratio(check) and check.value is not None else ""
    mark = f"**{check.mark}**" if check.passed is False else check.mark
    return f"{check.text}: {mark}{measured}"


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for the page and for the terminal."""
    head = ["what", "store", "wfe", "floor", "DBOS", "must", "aim"]
    lines = [[*head], ["---"] * len(head)]
    for row in rows:
        cells = [*row.figures, *[NOTHING] * (3 - len(row.figures))]
        lines.append([row.what, STORE_NAMES.get(row.store, ""), *cells, _judged(row.must), _judged(row.aim)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("| " + " | ".join(_padded(line, widths)) + " |" for line in lines)


def durability_table(collected: Collected, stores: Sequence[str]) -> str:
    """What each durability mode costs: `wfe` with it, and without power-loss safety."""
    lines = [
        "| store | mode | w1 workflows/s | w10 steps/s | start → result, ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    for store in stores:
        for peer, mode in (("wfe", "power (default)"), ("wfe-process", "process")):
            values = _shown(
                collected.median(store, peer, "w1", "workflows_per_s"),
                collected.median(store, peer, "w10", "steps_per_s"),
                collected.median(store, peer, "lat", "median_ms"),
            )
            lines.append(f"| {STORE_NAMES[store]} | {mode} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def write_section(page: Path, section: str) -> None:
    """Put the section between the marks of the page; the words around them stay.

    Raises:
        ValueError: The page has lost its marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the lines {BEGIN!r} and {END!r}; put them back where the figures belong")
    page.write_text(f"{before}{BEGIN}\n\n{section.strip()}\n\n{END}{after}", encoding="utf-8")


def described(facts: Mapping[str, str]) -> str:
    """A list of facts about the run."""
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _is_ratio(check: Check) -> bool:
    return any(word in check.text for word in ("DBOS", "floor", "within"))


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    fill = "-" if set("".join(cells)) == {"-"} else " "
    return [cell.ljust(width, fill) for cell, width in zip(cells, widths, strict=True)]
