"""Commands for networks: list and compare them, and tune their configs."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from flows.cli.console import config_option, home_option, make_settings, report_errors, source_option
from flows.cli.output import PIPE_WIDTH, format_option, json_option, print_frame, print_json, print_page

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--models", metavar="A,B,…", help="Networks and baselines, or all.  [default: the candidates and bias]")
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Dataset name, archive, directory, or synthetic:UxMxR; repeatable.  [default: ml-100k]",
)
@click.option(
    "--split",
    "splits",
    metavar="SPLIT,…",
    help="random, time or last, each with an optional share or number (time:0.1, last:5); u1 … u5, ua, ub.  [default: "
    "random]",
)
@click.option("--train", type=FILE, help="Parquet file of user_id, movie_id, rating to train on, instead of --split.")
@click.option("--holdout", type=FILE, help="Parquet file of user_id, movie_id, rating to measure on, with --train.")
@click.option("--holdout-share", type=float, help="Holdout share of the splits random and time.  [default: 0.25]")
@click.option("--seeds", "n_seeds", type=int, default=1, show_default=True, help="Number of seeds to repeat with.")
@click.option("--seed", type=int, help="The first seed, for the split and the network.  [default: 0]")
@click.option(
    "--epochs",
    type=click.Choice(["chosen", "stated"]),
    default="chosen",
    show_default=True,
    help="Chosen on validation, or as stated in the config of the network.",
)
@click.option("--find-lr", is_flag=True, help="Only suggest a learning rate for each network, with a plot.")
@click.option(
    "--out", type=FOLDER, help="Folder of the results; existing ones are reused.  [default: HOME/comparisons/]"
)
@config_option
@home_option
@json_option
@report_errors
def compare(sources: tuple[str, ...], out: Path | None, find_lr: bool, as_json: bool, **options: Any) -> None:
    """Compare networks on the same rows, in one table.

    The epochs of each network are chosen on a validation part of the training rows. The network is then trained on all
    training rows and measured on the holdout. For comparison, the table shows the figures that the write-ups of the
    networks report. Results are written as JSON, CSV and plots. If a network fails, its row shows the error and the
    others are still run.

    \b
    Examples:
      recsys compare
      recsys compare --models all --split random,time:0.1 --seeds 5
      recsys compare --source ml-100k.zip --models ordinal,bias --split u1
      recsys compare --models all --source ml-100k --source ml-latest-small
      recsys compare --train train.parquet --holdout holdout.parquet --json
      recsys compare --models all --out data/comparisons/mine     resumes if it was interrupted
      recsys compare --models mlp,softmax --find-lr
    """
    from recsys.compare.compare import check_complete, prepare
    from recsys.compare.compare import compare as run_comparison

    work = plan_work(sources, out, **options)
    if find_lr:
        rates = [print_rates(*one, as_json) for one in work]
        if as_json:
            print_json({"comparisons": rates})
        return
    found = []
    for job in [prepare(*one) for one in work]:
        found.append(run_comparison(job))
        if not as_json:
            print_comparison(found[-1])
    if as_json:
        print_comparisons_as_json(found)
    check_complete(found)


def plan_work(
    sources: tuple[str, ...],
    out: Path | None,
    *,
    models: str | None,
    splits: str | None,
    train: Path | None,
    holdout: Path | None,
    holdout_share: float | None,
    n_seeds: int,
    epochs: Any,
    **options: Any,
) -> list[tuple[Any, Any, Path | None]]:
    """Returns plan, settings and folder for each source. All of them are validated before the first network is trained.

    Raises: UsageError for an invalid argument.
    """
    from recsys.compare.plan import folders_of, plan_comparison

    work = []
    for source, folder in folders_of(sources, out).items():
        settings = make_settings(**options, source=source)
        if holdout_share is not None:
            split = settings.split.model_dump() | {"holdout_share": holdout_share}
            settings = make_settings(**options, source=source, split=split)
        plan = plan_comparison(models, splits, n_seeds, epochs, settings, (train, holdout))
        work.append((plan, settings, folder))
    return work


def print_comparison(found: Any) -> None:
    from recsys.compare.table import render

    click.echo(f"{found.dataset}, snapshot {found.snapshot}\n")
    print_page(render(found.rows, found.descriptions, _width()))
    click.echo(f"Written to {found.folder}: results.json, results.csv, slices.csv, results.png, reliability.png\n")


def print_comparisons_as_json(found: list[Any]) -> None:
    from recsys.files import read_json

    print_json({"comparisons": [read_json(one.folder / "results.json") for one in found]})


def print_rates(plan: Any, settings: Any, out: Path | None, as_json: bool) -> Any:
    """Prints the suggested rates, and returns them for JSON."""
    from recsys.compare.rates import find_rates
    from recsys.files import read_json

    found = find_rates(plan, settings, out)
    rates = read_json(found.folder / "learning_rates.json")
    if as_json:
        return rates
    click.echo(f"{'network':20} {'suggested':>10} {'its config':>10}")
    for name, stated in found.stated.items():
        suggested = f"{found.suggested[name]:.2g}" if name in found.suggested else "none"
        click.echo(f"{name:20} {suggested:>10} {stated:>10.2g}")
    for name, failure in found.failures.items():
        click.echo(f"{name}: {failure}", err=True)
    click.echo(f"Written to {found.folder}: learning_rates.json, learning_rates.png")
    return rates


@click.command()
@click.option("--model", required=True, help="Network to tune.")
@source_option
@click.option("--minutes", type=float, required=True, help="Time limit. Another call continues the search.")
@click.option("--trials", "max_trials", type=click.IntRange(min=1), help="Maximum number of additional trials.")
@click.option("--seed", type=int, help="Seed of the split, the network and the search.  [default: 0]")
@home_option
@json_option
@report_errors
def tune(model: str, minutes: float, max_trials: int | None, as_json: bool, **options: Any) -> None:
    """Tune the config of a network on validation data.

    The search minimises the validation error. The holdout is never used. Every trial is stored: a search that ended or
    was interrupted continues when it is called again with the same data and settings. The first trial is the default
    config.

    \b
    Examples:
      recsys tune --model softmax --minutes 10
      recsys tune --model ordinal --source ml-1m --minutes 60 --trials 20 --json
    """
    settings = make_settings(**options)
    from recsys.compare.tune import tune as search

    found = search(model, settings, minutes, max_trials)
    config = {"model": found.model, "config": found.config.model_dump(mode="json")}
    if as_json:
        shown = {"trials": found.trials, "validation": found.metrics, "default": found.default}
        print_json(config | shown | {"folder": str(found.folder)})
        return
    click.echo(json.dumps(config, indent=2))
    states = ", ".join(f"{count} {state}" for state, count in found.trials.items())
    click.echo(f"best trial by validation ({states}):")
    for name, value in found.metrics.items():
        default = f"{found.default[name]:.4f}" if name in found.default else "?"
        click.echo(f"  {name} {value:.4f}, default config {default}")
    click.echo(f"all trials: {found.folder / 'trials.csv'}\nuse it:     recsys nightly --config {found.best}")


@click.command()
@click.argument("name", required=False)
@click.option(
    "--ratings",
    "n_ratings",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Number of ratings to make the config for; penalties and batch sizes depend on it.",
)
@click.option(
    "--levels",
    "n_levels",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Number of distinct rating values; 10 for half stars.",
)
@format_option
@json_option
@report_errors
def networks(name: str | None, n_ratings: int, n_levels: int, as_json: bool) -> None:
    """List the networks, or the parameters of one.

    \b
    Examples:
      recsys networks
      recsys networks ordinal
      recsys networks ordinal --ratings 1000000 --json > mine.json     edit it for recsys nightly --config
    """
    from recsys.compare.networks import config_of, list_knobs, list_networks

    if name is None:
        print_frame(list_networks())
        return
    config = config_of(name, n_ratings, n_levels)
    if as_json:
        print_json({"model": name, "config": config.model_dump(mode="json")})
    else:
        print_frame(list_knobs(config))


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
