"""Where does the time go? One workload of `wfe` under a profiler: `python -m bench.profile w10 --store sqlite`.

`--sampler` uses pyinstrument where it is installed; it disturbs less than cProfile, which counts every call and so
makes small functions look dear. By default the event loop's thread is seen; `--thread NAME` shows, instead, the threads
whose name contains NAME (a store's writer, for example; Python 3.11 only, later versions profile all threads as one).
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: this very file would shadow `profile`, which cProfile imports
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import asyncio
import contextlib
import cProfile
import pstats
import shutil
import threading
from collections.abc import Iterator

from bench import environment
from bench.measure import Figures
from bench.peers import wfe_peer
from bench.workloads import DEFAULT_SIZES, Order
from tests.servers.postgres import PostgresServer


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("workload", choices=[*DEFAULT_SIZES, "cold", *wfe_peer.OWN])
    parser.add_argument("--store", choices=["sqlite", "postgres", "memory"], default="sqlite")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--durability", choices=["power", "process"], default="power")
    parser.add_argument("--sort", choices=["tottime", "cumulative", "ncalls"], default="tottime")
    parser.add_argument("--top", type=int, default=40, help="how many lines")
    parser.add_argument("--thread", default="", help="profile the threads whose name contains this")
    parser.add_argument("--sampler", action="store_true", help="pyinstrument instead of cProfile")
    parser.add_argument("--save", default="", help="file for the raw profile, as snakeviz and others read it")
    return parser.parse_args()


@contextlib.contextmanager
def fresh_store(store: str) -> Iterator[str]:
    """The URL of a new store that is removed afterwards."""
    if store == "memory":
        yield "memory:"
        return
    folder = environment.scratch()
    try:
        if store == "sqlite":
            yield f"sqlite:///{folder / 'bench.db'}"
        else:
            with PostgresServer(directory=folder / "postgres") as server:
                yield server.create_database()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(order: Order) -> Figures:
    return asyncio.run(wfe_peer.run(order))


def profiled(order: Order, options: argparse.Namespace) -> Figures:
    """Run under cProfile on the loop's thread and print the top."""
    profiler = cProfile.Profile()
    figures = profiler.runcall(run, order)
    _show(pstats.Stats(profiler), options)
    return figures


def profiled_threads(order: Order, options: argparse.Namespace) -> Figures:
    """Run with cProfile in the threads of the given name and print their top together."""
    profilers: list[cProfile.Profile] = []
    run_thread = threading.Thread.run

    def watched(thread: threading.Thread) -> None:
        if options.thread not in thread.name:
            run_thread(thread)
            return
        profiler = cProfile.Profile()
        profilers.append(profiler)
        profiler.runcall(run_thread, thread)

    threading.Thread.run = watched  # type: ignore[method-assign, assignment]
    figures = run(order)
    threading.Thread.run = run_thread  # type: ignore[method-assign]
    if not profilers:
        sys.exit(f"no thread was started whose name contains {options.thread!r}")
    for profiler in profilers:
        profiler.disable()
    _show(pstats.Stats(*profilers), options)
    return figures


def sampled(order: Order, _options: argparse.Namespace) -> Figures:
    """Run under pyinstrument."""
    try:
        from pyinstrument import Profiler
    except ImportError:
        sys.exit("--sampler needs pyinstrument in this environment: pip install pyinstrument")
    profiler = Profiler(interval=0.0005, async_mode="disabled")
    profiler.start()
    figures = run(order)
    profiler.stop()
    print(profiler.output_text(unicode=True, show_all=True))
    return figures


def main() -> None:
    options = read_options()
    sizes = {**DEFAULT_SIZES, **wfe_peer.OWN_SIZES, "cold": 1}
    with fresh_store(options.store) as url:
        order = Order(options.workload, url, options.size or sizes[options.workload], options.durability)
        how = sampled if options.sampler else profiled_threads if options.thread else profiled
        figures = how(order, options)
    print("under the profiler:", figures)


def _show(stats: pstats.Stats, options: argparse.Namespace) -> None:
    if options.save:
        stats.dump_stats(options.save)
    stats.strip_dirs().sort_stats(options.sort).print_stats(options.top)


if __name__ == "__main__":
    main()
