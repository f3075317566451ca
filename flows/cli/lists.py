"""Commands that read the published lists: recommend, similar, explain."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.console import home_of, home_option, report_errors
from flows.cli.output import format_option, is_for_people, json_option, print_frame, print_json, print_table
from recsys.errors import UsageError
from recsys.printable import printable

if TYPE_CHECKING:
    import polars as pl

    from recsys.ask.explain import Explanation
    from recsys.home import Home

BAR = 40  # length of the bar for a probability of one, in characters
BECAUSE = 5  # number of rated movies shown as reasons
SHOWN = ["rank", "title", "year", "score", "rating_hat", "because_titles"]  # in a table; CSV and JSON have ids, too
PERSONAL = {"rating_hat", "because_titles"}  # empty in the lists of segments

segment_option = click.option(
    "--segment", metavar="S", help="Segment of a user who has no list: all, or e.g. gender=F or 'gender=F age=25'."
)


@click.command()
@click.argument("user_id", type=int, required=False)
@segment_option
@click.option("--ratings", metavar="R", help="Your own ratings: 'Toy Story=5,Heat=4'. May be combined with --segment.")
@click.option("--n", type=click.IntRange(min=1), help="Show only the first N movies.")
@home_option
@format_option
@json_option
@report_errors
def recommend(
    user_id: int | None, segment: str | None, ratings: str | None, n: int | None, home: Path | None, as_json: bool
) -> None:
    """Show the list of a user, a segment or your own ratings.

    \b
    Examples:
      recsys recommend 42 --n 5
      recsys recommend --segment "gender=F age=25"
      recsys recommend --ratings "Toy Story=5,Heat=4"
    """
    from recsys.ask import lookup

    whose = {"user_id": user_id, "segment": segment}
    if user_id is not None and segment is None and ratings is None:
        _print_list(lookup.recommend(home_of(home), user_id), f"user {user_id}", n, whose)
    elif user_id is None and ratings is not None:
        _print_newcomer(home_of(home), ratings, n, whose)
    elif user_id is None and segment is not None:
        _print_list(lookup.recommend_default(home_of(home), segment), f"segment {segment}", n, whose)
    else:
        raise UsageError(
            "pass a USER_ID, --segment or --ratings, as in `recsys recommend 42`. See recsys recommend --help"
        )


@click.command()
@click.argument("title")
@click.option("--n", type=click.IntRange(min=1), help="Show only the first N movies.")
@home_option
@format_option
@json_option
@report_errors
def similar(title: str, n: int | None, home: Path | None, as_json: bool) -> None:
    """Show the movies most similar to TITLE.

    TITLE may also be a movie_id.

    \b
    Examples:
      recsys similar "Toy Story"
      recsys similar "the matrix (1999)" --n 5
    """
    from recsys.ask.lookup import similar as look_up

    movie, rows = look_up(home_of(home), title)
    rows = rows.head(n) if n else rows
    found = movie.select("movie_id", "title", "year", "genres").row(0, named=True)
    if is_for_people():
        click.echo(f"{_named(found['title'], found['year'])}, movie_id {found['movie_id']}")
    if rows.is_empty():
        click.echo("the movie has no similar movies, because it has no ratings", err=True)
    if len(rows) or not is_for_people():
        shown = ["title", "year", "genres", "similarity"]
        print_frame(rows.drop("run_id"), shown, run_id=_first(rows, "run_id"), movie=found)


@click.command()
@click.argument("user_id", type=int)
@click.argument("title")
@home_option
@json_option
@report_errors
def explain(user_id: int, title: str, home: Path | None, as_json: bool) -> None:
    """Explain the score of a movie for a user.

    TITLE may also be a movie_id.

    \b
    Examples:
      recsys explain 42 "Toy Story"
      recsys explain 42 50
    """
    from recsys.ask.explain import explain as look_up

    explanation = look_up(home_of(home), user_id, title)
    if as_json:
        print_json(explanation.as_json())
    else:
        _print_explanation(explanation)


def _print_list(rows: "pl.DataFrame", whose: str, n: int | None, about: dict[str, Any]) -> None:
    if len(rows) < (n or 1):
        click.echo(f"the published list of {whose} has {len(rows)} movies", err=True)
    served_by = _first(rows, "served_by")  # the same in every row
    about |= {"run_id": _first(rows, "run_id"), "rated": [], "served_by": served_by}
    if served_by and is_for_people():
        click.echo(f"served_by: {served_by}")
    rows = rows.head(n) if n else rows
    shown = [name for name in SHOWN if about["segment"] is None or name not in PERSONAL]
    print_frame(rows.drop("run_id", "served_by"), shown, **about)


def _print_newcomer(home: "Home", ratings: str, n: int | None, about: dict[str, Any]) -> None:
    from recsys.ask.newcomer import recommend_for

    newcomer = recommend_for(home, ratings, about["segment"], n)
    if is_for_people():
        rated = (f"{_named(title, year)} {stars:g}" for _, title, year, stars in newcomer.rated.iter_rows())
        click.echo(f"rated: {'; '.join(rated)}")
        click.echo(f"served_by: {newcomer.served_by}")
    about |= {"run_id": newcomer.run_id, "rated": newcomer.rated.to_dicts(), "served_by": newcomer.served_by}
    print_frame(newcomer.rows, SHOWN, **about)


def _first(rows: "pl.DataFrame", column: str) -> str | None:
    """Returns the value in the first row; None without rows."""
    values: list[str] = rows[column].head(1).to_list()
    return values[0] if values else None


def _print_explanation(one: "Explanation") -> None:
    movie = one.movie.row(0, named=True)
    place = f"rank {one.rank}" if one.rank else "not in the list"
    seen = f", rated {one.rating:g} by the user, so never recommended" if one.rating is not None else ""
    click.echo(f"{_named(movie['title'], movie['year'])} for user {one.user_id}: {place}{seen}")
    click.echo(f"\nscore {one.score:.4f}, the sum of")
    print_table(one.parts)
    click.echo(f"\nexpected stars {one.rating_hat:.2f}")
    for stars, probability in one.stars.iter_rows():
        click.echo(f"{stars:4g}  {probability:6.1%}  {'█' * round(BAR * probability)}".rstrip())
    if one.affinity is not None:
        click.echo(f"\nreasons: the shares of all {len(one.because)} rated movies add up to {one.affinity:.4f}")
        print_table(one.because.head(BECAUSE))


def _named(title: str, year: int | None) -> str:
    return f"{printable(title)} ({year or 'year unknown'})"
