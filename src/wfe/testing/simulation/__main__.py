"""`python -m wfe.testing.simulation`: runs many seeds, or one again."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from wfe.testing.simulation.running import Outcome, simulate_seed
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
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return _one(chosen.seed, chosen.about)
    return _many(range(chosen.first, chosen.first + chosen.seeds), jobs=chosen.jobs, shrinks=not chosen.no_shrink)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _one(seed: int, about: str) -> int:
    outcome = simulate_seed(seed)
    _say(*outcome.scenario.describe(), "", *outcome.trace.last(len(outcome.trace.lines), about), "")
    _say(*(outcome.violations or ("No rule was broken.",)), f"trace {outcome.digest[:16]}")
    return 1 if outcome.violations else 0


def _many(seeds: range, *, jobs: int, shrinks: bool) -> int:
    began = time.monotonic()
    done = accepted = instances = 0
    failed: list[int] = []
    for portion in _portions(seeds, jobs):
        for seed, count, made, rules in portion:
            done, accepted, instances = done + 1, accepted + count, instances + made
            if rules:
                failed.append(seed)
                _say(f"seed {seed} breaks {', '.join(rules)}")
        if done % 100 == 0:
            _say(f"{done} seeds, {done / (time.monotonic() - began):.1f} seeds/s, {len(failed)} failed")
    rate = done / (time.monotonic() - began)
    _say(f"{done} seeds, {instances} instances, {accepted} transitions, {rate:.1f} seeds/s, {len(failed)} failed")
    for seed in failed[:3]:
        _report(seed, shrinks=shrinks)
    return 1 if failed else 0


def _portions(seeds: range, jobs: int) -> Iterator[list[tuple[int, int, int, list[str]]]]:
    portions = [seeds[at : at + _PORTION] for at in range(0, len(seeds), _PORTION)]
    if jobs <= 1:
        yield from map(_run, portions)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_run, portions)


def _run(seeds: range) -> list[tuple[int, int, int, list[str]]]:
    """Give seed, transitions, instances and broken rules of each."""
    return [_numbers(seed, simulate_seed(seed)) for seed in seeds]


def _numbers(seed: int, outcome: Outcome) -> tuple[int, int, int, list[str]]:
    return seed, outcome.accepted, outcome.instances, sorted(outcome.rules)


def _report(seed: int, *, shrinks: bool) -> None:
    outcome = simulate_seed(seed)
    _say("", f"== seed {seed} ==", *outcome.violations[:10])
    if shrinks:
        outcome = shrink(outcome)
        _say("", "The least that was found to break it still:", *outcome.scenario.describe(), *outcome.violations[:10])
    _say("", *outcome.trace.last(_TRACE_LINES), "", f"Again: python -m wfe.testing.simulation --seed {seed}")


if __name__ == "__main__":
    sys.exit(main())
