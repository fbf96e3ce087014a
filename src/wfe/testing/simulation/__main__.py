"""`python -m wfe.testing.simulation`: runs many seeds, or one again."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from wfe.testing.simulation.coverage import happened, missing
from wfe.testing.simulation.running import simulate_seed
from wfe.testing.simulation.scenario import compact
from wfe.testing.simulation.shrinking import shrink

_PORTION = 10
_TRACE_LINES = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say. 0: no rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m wfe.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--seed", type=int, help="run this one alone and print its trace")
    parser.add_argument("--about", default="", help="with --seed: print only lines that name this")
    parser.add_argument("--no-shrink", action="store_true", help="print a failure as it was found")
    parser.add_argument("--digests", action="store_true", help="print the fingerprint of each seed's trace")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return _one(chosen.seed, chosen.about)
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    if chosen.digests:
        _say(*(f"{seed} {simulate_seed(seed).digest}" for seed in seeds))
        return 0
    return _many(seeds, jobs=chosen.jobs, shrinks=not chosen.no_shrink)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _one(seed: int, about: str) -> int:
    outcome = simulate_seed(seed)
    _say(*outcome.scenario.describe(), "", *outcome.trace.last(len(outcome.trace.lines), about), "")
    _say(*(outcome.violations or ("No rule was broken.",)), f"trace {outcome.digest[:16]}")
    return 1 if outcome.violations else 0


class _Found(NamedTuple):
    """What is told of one seed."""

    seed: int
    accepted: int
    instances: int
    rules: list[str]
    seen: Mapping[str, int]
    seconds: float
    """Of a processor."""


def _many(seeds: range, *, jobs: int, shrinks: bool) -> int:
    began = time.monotonic()
    found: list[_Found] = []
    for portion in _portions(seeds, jobs):
        found += portion
        for each in portion:
            if each.rules:
                _say(f"seed {each.seed} breaks {', '.join(each.rules)}")
        if len(found) % 100 == 0:
            _say(_summary(found, time.monotonic() - began))
    seeds_with: Counter[str] = Counter()
    for each in found:
        seeds_with.update(happened(each.seen))
    _say(_summary(found, time.monotonic() - began), f"never happened: {', '.join(missing(seeds_with)) or 'nothing'}")
    failed = [each.seed for each in found if each.rules]
    for seed in failed[:3]:
        _report(seed, shrinks=shrinks)
    return 1 if failed else 0


def _summary(found: list[_Found], seconds: float) -> str:
    instances, accepted = sum(each.instances for each in found), sum(each.accepted for each in found)
    per_core = len(found) / max(sum(each.seconds for each in found), 1e-9)
    return (
        f"{len(found)} seeds, {instances} instances, {accepted} transitions, {len(found) / seconds:.1f} seeds/s, "
        f"{per_core:.1f} per core, {sum(bool(each.rules) for each in found)} failed"
    )


def _portions(seeds: range, jobs: int) -> Iterator[list[_Found]]:
    portions = [seeds[at : at + _PORTION] for at in range(0, len(seeds), _PORTION)]
    if jobs <= 1:
        yield from map(_run, portions)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_run, portions)


def _run(seeds: range) -> list[_Found]:
    return [_run_one(seed) for seed in seeds]


def _run_one(seed: int) -> _Found:
    began = time.process_time()
    outcome = simulate_seed(seed)
    seconds = time.process_time() - began
    return _Found(seed, outcome.accepted, outcome.instances, sorted(outcome.rules), outcome.seen, seconds)


def _report(seed: int, *, shrinks: bool) -> None:
    outcome = simulate_seed(seed)
    _say("", f"== seed {seed} ==", *outcome.violations[:10])
    if shrinks:
        outcome = shrink(outcome)
        _say("", "The least that was found to break it still:", *outcome.scenario.describe(), *outcome.violations[:10])
        _say("", "The same for a test:", compact(outcome.scenario))
    _say("", *outcome.trace.last(_TRACE_LINES), "", f"Again: python -m wfe.testing.simulation --seed {seed}")


if __name__ == "__main__":
    sys.exit(main())
