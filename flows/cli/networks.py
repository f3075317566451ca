"""The commands about networks: list them, compare them, and search their settings."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from flows.cli.console import (
    WIDTH_OF_A_FILE,
    config_option,
    home_option,
    json_option,
    make_settings,
    print_frame,
    print_json,
    shared,
)

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--models", metavar="A,B,…", help="Networks and baselines, or all.  [default: the candidates and bias]")
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="Dataset name, archive, directory, or synthetic:UxMxR; may be given again.  [default: ml-100k]",
)
@click.option(
    "--split",
    "splits",
    metavar="SPLIT,…",
    help="random, time or last, with a share or number of their own (time:0.1, last:5); u1 … u5, ua, ub.  [default: "
    "random]",
)
@click.option("--train", type=FILE, help="Parquet with user_id, movie_id, rating: learns from it, in place of --split.")
@click.option("--holdout", type=FILE, help="Parquet with user_id, movie_id, rating: what is held out, with --train.")
@click.option("--holdout-share", type=float, help="Share held out by random and time.  [default: 0.25]")
@click.option("--seeds", "n_seeds", type=int, default=1, show_default=True, help="Repeat with so many seeds.")
@click.option("--seed", type=int, help="The first of them; it draws the split and the network.  [default: 0]")
@click.option(
    "--epochs",
    type=click.Choice(["chosen", "stated"]),
    default="chosen",
    show_default=True,
    help="Chosen on validation, or as the network's own config states.",
)
@click.option("--find-lr", is_flag=True, help="Only suggest a learning rate for each network, with a plot.")
@click.option("--out", type=FOLDER, help="Where results go; goes on with what is there.  [default: HOME/comparisons/]")
@config_option
@home_option
@json_option
@shared
def compare(
    models: str | None,
    sources: tuple[str, ...],
    splits: str | None,
    train: Path | None,
    holdout: Path | None,
    holdout_share: float | None,
    n_seeds: int,
    epochs: Any,
    find_lr: bool,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train any set of networks on the same rows, and print one table.

    Each network's epochs are chosen on a validation part of what is not held out, then it is trained on all of that and
    measured on the holdout. Figures stand beside those that the write-ups report. Results are written as JSON, CSV and
    pictures. A network that fails has a row that says so, and the others go on.

    \b
    Examples:
      recsys compare
      recsys compare --models all --split random,time:0.1 --seeds 5
      recsys compare --source ml-100k.zip --models ordinal,bias --split u1
      recsys compare --models all --source ml-100k --source ml-latest-small
      recsys compare --train train.parquet --holdout holdout.parquet --json
      recsys compare --models all --out data/comparisons/mine     again, after it was killed: goes on
      recsys compare --models mlp,softmax --find-lr
    """
    from recsys.compare.compare import check_complete, prepare
    from recsys.compare.compare import compare as run_comparison
    from recsys.compare.plan import folders_of, plan_comparison

    work = []
    for source, folder in folders_of(sources, out).items():  # all of them, before the first one trains for hours
        settings = make_settings(**options, source=source)
        if holdout_share is not None:
            split = settings.split.model_dump() | {"holdout_share": holdout_share}
            settings = make_settings(**options, source=source, split=split)
        plan = plan_comparison(models, splits, n_seeds, epochs, settings, (train, holdout))
        work.append((plan, settings, folder))
    if find_lr:
        for plan, settings, folder in work:
            print_rates(plan, settings, folder, as_json)
        return
    found = []
    for job in [prepare(*one) for one in work]:
        found.append(run_comparison(job))
        if not as_json:
            print_comparison(found[-1])
    if as_json:
        print_comparisons_as_json(found)
    check_complete(found)


def print_comparison(found: Any) -> None:
    from recsys.compare.table import render

    click.echo(f"{found.dataset}, snapshot {found.snapshot}\n")
    click.echo(render(found.rows, found.descriptions, _width()), nl=False)
    click.echo(f"Written to {found.folder}: results.json, results.csv, slices.csv, results.png, reliability.png\n")


def print_comparisons_as_json(found: list[Any]) -> None:
    """An object for one source, a list of them for several."""
    from recsys.files import read_json

    results = [read_json(one.folder / "results.json") for one in found]
    print_json(results[0] if len(results) == 1 else results)


def print_rates(plan: Any, settings: Any, out: Path | None, as_json: bool) -> None:
    from recsys.compare.rates import find_rates

    found = find_rates(plan, settings, out)
    if as_json:
        from recsys.files import read_json

        print_json(read_json(found.folder / "learning_rates.json"))
        return
    click.echo(f"{'network':20} {'suggested':>10} {'its config':>10}")
    for name, stated in found.stated.items():
        suggested = f"{found.suggested[name]:.2g}" if name in found.suggested else "none"
        click.echo(f"{name:20} {suggested:>10} {stated:>10.2g}")
    for name, failure in found.failures.items():
        click.echo(f"{name}: {failure}", err=True)
    click.echo(f"Written to {found.folder}: learning_rates.json, learning_rates.png")


@click.command()
@click.option("--model", required=True, help="Network to tune.")
@click.option("--source", help="Dataset name, archive, directory, or synthetic:UxMxR.  [default: ml-100k]")
@click.option("--minutes", type=float, required=True, help="How long to search; a call again goes on.")
@click.option("--trials", "max_trials", type=click.IntRange(min=1), help="No more than so many more trials.")
@click.option("--seed", type=int, help="Seed of the split, the network and the search.  [default: 0]")
@home_option
@json_option
@shared
def tune(model: str, minutes: float, max_trials: int | None, as_json: bool, **options: Any) -> None:
    """Search a network's config: the least validation error, on a part of what is not held out.

    The holdout is never looked at. Every trial is kept: a search that ended or was killed goes on when it is called
    again with the same data and settings. The config that the network comes with is the first trial.

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
    print_json(config)
    states = ", ".join(f"{count} {state}" for state, count in found.trials.items())
    click.echo(f"best of the trials so far ({states}), by validation:")
    for name, value in found.metrics.items():
        shipped = f"{found.default[name]:.4f}" if name in found.default else "?"
        click.echo(f"  {name} {value:.4f}, as shipped {shipped}")
    click.echo(f"every trial: {found.folder / 'trials.csv'}\nuse it:      recsys nightly --config {found.best}")


@click.command()
@click.argument("name", required=False)
@click.option(
    "--ratings",
    "n_ratings",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Show the config for so many; penalties and batch sizes follow it.",
)
@click.option(
    "--levels",
    "n_levels",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="How many different ratings can be given; 10 of half stars.",
)
@json_option
@shared
def networks(name: str | None, n_ratings: int, n_levels: int, as_json: bool) -> None:
    """List the networks, or the knobs of one.

    \b
    Examples:
      recsys networks
      recsys networks ordinal
      recsys networks ordinal --ratings 1000000 --json > mine.json     to change, and give to recsys nightly --config
    """
    from recsys.compare.networks import config_of, list_knobs, list_networks

    if name is None:
        print_frame(list_networks(), as_json)
        return
    config = config_of(name, n_ratings, n_levels)
    if as_json:
        print_json({"model": name, "config": config.model_dump(mode="json")})
    else:
        print_frame(list_knobs(config), as_json)


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_OF_A_FILE
