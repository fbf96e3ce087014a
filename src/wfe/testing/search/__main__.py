"""`python -m wfe.testing.search`: visits the states of one model, or of all."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from wfe.testing.search import MODELS, search

_STATES = 400_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Search what the arguments say. 0: no rule is broken in any state."""
    parser = argparse.ArgumentParser(prog="python -m wfe.testing.search", description=__doc__)
    parser.add_argument("model", nargs="*", choices=[*MODELS, []], help="which ones; all without a name")
    parser.add_argument("--states", type=int, default=_STATES, help="how many states of each to visit at most")
    parser.add_argument("--beginning", default="", help="begin at this one alone")
    chosen = parser.parse_args(arguments)
    logging.getLogger("wfe").setLevel(logging.CRITICAL)
    failed = False
    for name in chosen.model or MODELS:
        outcomes = search(MODELS[name], chosen.states, only=chosen.beginning)
        for outcome in outcomes:
            _say(*(f"{name}: {line}" if number == 0 else line for number, line in enumerate(outcome.describe())))
            failed = failed or bool(outcome.violations)
        states, seconds = sum(each.states for each in outcomes), sum(each.seconds for each in outcomes)
        if not outcomes:
            parser.error(f"{name} has no beginning {chosen.beginning!r}")
        _say(f"{name}: {states} states in {seconds:.1f} s, {states / seconds:.0f} states/s", "")
    return 1 if failed else 0


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
