"""A process to be killed: one host and, if it is asked to, a client that gives it work.

Prints `ready` once its host runs. It goes on until it is killed or its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import random
import signal
import sys
from pathlib import Path

from tests.crash.client import carry_out
from tests.crash.flows import definitions, plan, plan_gated, use_ledger
from tests.crash.ledger import Ledger
from wfe import WorkflowHost

__all__: list[str] = []

_log = logging.getLogger("client")
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run until killed."""
    # Whatever ends the test also ends this process.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    options = _options()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    asyncio.run(_run(options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("life")
    parser.add_argument("--seed", default="")
    parser.add_argument("--prefix", default="")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--durability", choices=["power", "process"], default="power")
    parser.add_argument("--active", type=int, default=10_000)
    parser.add_argument("--gated", type=int, default=0)
    parser.add_argument("--ttl", type=float, default=15)
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    ledger = Ledger(options.ledger, options.life)
    use_ledger(ledger)
    host = WorkflowHost(
        options.url,
        lease_ttl=options.ttl,
        sweep_interval=0.1,
        name=options.life,
        max_active=options.active,
        durability=options.durability,
    )
    host.register(*definitions())
    async with host:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        work = asyncio.ensure_future(_work(host, ledger, options))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await work
    sys.stdout.write("stopped\n")
    sys.stdout.flush()


async def _work(host: WorkflowHost, ledger: Ledger, options: argparse.Namespace) -> None:
    wanted = plan_gated(options.prefix, options.gated)
    if options.count:
        wanted += plan(random.Random(options.seed), options.prefix, options.count)
    try:
        await carry_out(host, wanted, ledger, at_once=False, limit=60)
    except Exception:
        _log.exception("the client failed")
        raise


if __name__ == "__main__":
    main()
