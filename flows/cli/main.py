"""The entry point of the command line. Heavy imports are inside the commands, so that `recsys --help` is instant."""

import logging
from pathlib import Path
from typing import Any

import click

from flows.cli.console import (
    config_option,
    home_option,
    make_settings,
    model_option,
    n_option,
    report_errors,
    resumable,
    run_program,
    seed_option,
    source_option,
)
from flows.cli.data import check, datasets, forget, generate
from flows.cli.group import Program
from flows.cli.lists import explain, recommend, similar
from flows.cli.networks import compare, networks, tune
from flows.cli.nights import backfill, rollback, runs
from flows.cli.output import json_option, print_json, print_page
from flows.cli.parameter_types import ACCEPTED, Moment
from flows.cli.serve import serve
from flows.cli.tables import export, status
from flows.cli.watch import test_alerts, watch
from recsys.errors import RecsysError

logger = logging.getLogger("recsys.cli")


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="recsys")
def main() -> None:
    """A nightly movie recommender: reads MovieLens, writes audited top-N tables to DuckDB.

    \b
    Examples:
      recsys nightly                      one night on MovieLens 100K
      recsys recommend 42                 the list of user 42
      recsys similar "Toy Story"          movies similar to Toy Story
      recsys runs                         all nights, including refused ones
      recsys compare --models all         all networks on the same rows, in one table

    \b
    Exit codes:
      0    success
      1    any other error
      2    invalid arguments or settings, reported before anything starts
      3    the data were refused
      4    the gate held the model back
      130  interrupted by Ctrl-C (143: by SIGTERM)
    """


@main.command()
@source_option
@home_option
@model_option
@click.option("--as-of", type=Moment(), metavar="T", help=f"Use only ratings before T: {ACCEPTED}.")
@n_option
@seed_option
@click.option("--force-publish", is_flag=True, help="Publish even if the gate holds the model back; recorded in runs.")
@config_option
@json_option
@report_errors
def nightly(force_publish: bool, as_json: bool, **options: Any) -> None:
    """Run one night: fetch, check, train, evaluate, publish.

    \b
    Examples:
      recsys nightly
      recsys nightly --source ml-1m.zip --n 20 --seed 1
      recsys nightly --source synthetic:500x300x20000 --home /tmp/try --json
    """
    settings = make_settings(gate={"force_publish": True} if force_publish else None, **options)
    logger.info("night on %s, tables in %s", settings.source, settings.home / "warehouse.duckdb")
    from flows.launch import run_nightly
    from recsys.runs.summary import render, summarise

    try:
        with resumable(settings.home):
            summary = run_nightly(settings)
    except RecsysError as error:
        if as_json and error.run:
            print_json(summarise(error.run, {}, verdict=error.verdict, reason=str(error)).__dict__)
        raise
    if as_json:
        print_json(summary.__dict__)
    else:
        print_page(render(summary))


@main.command()
@click.option(
    "--train",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Parquet: user_id, movie_id, rating.",
)
@click.option(
    "--holdout",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Parquet: user_id, movie_id[, rating].",
)
@click.option("--source", help="Source of the movies, users and rating scale.  [default: ml-100k]")
@home_option
@model_option
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write user_id, movie_id, rating_mean, rating_median.",
)
@click.option("--lists", type=click.Path(path_type=Path, dir_okay=False), help="Write user_id, rank, movie_id, score.")
@click.option("--n", type=int, help="Movies per user in --lists.  [default: 10]")
@click.option("--seed", type=int, help="Seed of the network.  [default: 0]")
@json_option
@report_errors
def evaluate(
    train: Path, holdout: Path, predictions: Path | None, lists: Path | None, as_json: bool, **options: Any
) -> None:
    """Train on one file of ratings and predict another.

    Use it to verify the published figures with your own split and code.

    \b
    Example:
      recsys evaluate --train train.parquet --holdout holdout.parquet --predictions p.parquet --lists l.parquet
    """
    settings = make_settings(**options)
    from recsys.evaluate.own_files import evaluate_files

    report = evaluate_files(train, holdout, settings, predictions=predictions, lists=lists)
    if as_json:
        print_json(report)
    else:
        click.echo(f"{report['model']}, {report['epochs']} epochs, chosen on a part of {train}")
        for model, metrics in report["metrics"].items():
            click.echo(f"{model}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


for command in (
    backfill, check, compare, datasets, explain, export, forget, generate, networks, recommend, rollback, runs, serve,
    similar, status, test_alerts, tune, watch,
):  # fmt: skip
    main.add_command(command)

main.sections = {
    "Nights": ("nightly", "backfill", "runs", "rollback"),
    "Lists": ("recommend", "similar", "explain"),
    "Data": ("datasets", "check", "forget", "export", "generate"),
    "Networks": ("networks", "compare", "evaluate", "tune"),
    "Monitoring": ("status", "watch", "test-alerts"),
}


def program() -> None:
    """The entry point of the script `recsys`."""
    run_program(main)
