"""`make bench-lists ARGS="..."`: measure quality and speed of lists, and print Markdown tables for docs/.

    make bench-lists ARGS="quality --source ml-1m --split time"      the blend, its parts and other methods
    make bench-lists ARGS="cold-users --source ml-1m"                new users with 0 to 10 ratings; cold-start.png
    make bench-lists ARGS="cold-movies --source ml-1m"               movies without ratings
    make bench-lists ARGS="speed --source ml-1m"                     lists of 100 movies for all users
    make bench-lists ARGS="scale"                                    200,000 users, 87,000 movies, and implicit
    make bench-lists ARGS="trade-off --source ml-1m"                 diversity, popularity; trade-off.png
    make bench-lists ARGS="publish"                                  lists of 100 for 200,000 users, seven nights

Except `scale` and `publish`, all train like a night, with the settings of the environment (for example
RECSYS_RANK__CANDIDATES=500).
"""

import argparse
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # read when torch is imported; spinning threads slow each other down

from flows.cli.console import run_program
from recsys.settings import Settings
from tests.benches.cold_movies import measure_cold_movies
from tests.benches.cold_users import measure_cold_users
from tests.benches.publishing import measure_publishing
from tests.benches.quality import SPLITS, measure_quality
from tests.benches.scale import measure_scale
from tests.benches.speed import measure_speed
from tests.benches.trade_off import measure_trade_off

LEARNING = ("quality", "cold-users", "cold-movies", "speed", "trade-off")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    named = {name: commands.add_parser(name) for name in (*LEARNING, "scale", "publish")}
    for name in LEARNING:
        add = named[name].add_argument
        add("--source", default="ml-100k")
        add("--model", default="ordinal", help="the rating network of the blend")
        add(
            "--epochs",
            type=int,
            help="maximum number of epochs, for a quick look; default: the schedule of the network",
        )
        add("--home", type=Path, help="folder for archives and snapshots; default: a temporary folder")
    for name, seeds in (("quality", 3), ("cold-users", 3), ("cold-movies", 3), ("trade-off", 1)):
        named[name].add_argument("--seeds", type=int, default=seeds, help="seeds 0 to SEEDS - 1")
    named["quality"].add_argument("--split", choices=tuple(SPLITS), default="random")
    for name in ("cold-users", "trade-off"):
        named[name].add_argument("--out", type=Path, default=Path("docs"), help="folder of the picture")
    add = named["scale"].add_argument
    for flag, number in (("--users", 200_000), ("--movies", 87_000), ("--dim", 64), ("--n", 100)):
        add(flag, type=int, default=number)
    add("--repeats", type=int, default=3)
    add("--threads", type=int, default=2)
    add = named["publish"].add_argument
    for flag, number in (("--users", 200_000), ("--movies", 19_997), ("--n", 100), ("--nights", 7)):
        add(flag, type=int, default=number)
    for name in ("scale", "publish"):
        help_text = "with room for a few GB; default: that of temporary files"
        named[name].add_argument("--folder", type=Path, help=help_text)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> str:
    if options.command == "scale":
        sizes = (options.users, options.movies, options.dim, options.n)
        return measure_scale(*sizes, repeats=options.repeats, threads=options.threads, folder=options.folder)
    if options.command == "publish":
        return measure_publishing(
            options.users, options.movies, options.n, nights=options.nights, folder=options.folder
        )
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(source=options.source, model=options.model, home=options.home or Path(folder))
        return measure_learned(settings, options)


def measure_learned(settings: Settings, options: argparse.Namespace) -> str:
    if options.command == "speed":
        return measure_speed(settings, options.epochs)
    seeds = range(options.seeds)
    if options.command == "quality":
        return measure_quality(settings, seeds, options.split, options.epochs)
    if options.command == "cold-movies":
        return measure_cold_movies(settings, seeds, options.epochs)
    if options.command == "cold-users":
        return measure_cold_users(settings, seeds, options.epochs, options.out / "cold-start.png")
    return measure_trade_off(settings, seeds, options.epochs, options.out / "trade-off.png")


def main(arguments: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s  %(message)s")
    print(measure(parse(arguments)))


if __name__ == "__main__":
    run_program(main)
