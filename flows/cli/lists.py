"""Commands that read the published lists: recommend, similar, explain."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.console import home_of, home_option, json_option, print_frame, print_json, report_errors
from recsys.errors import UsageError
from recsys.printable import printable

if TYPE_CHECKING:
    import polars as pl

    from recsys.ask.explain import Explanation
    from recsys.home import Home

BAR = 40  # length of the bar for a probability of one, in characters
BECAUSE = 5  # number of rated movies shown as reasons

segment_option = click.option(
    "--segment", metavar="S", help="Segment of a user who has no list: all, or e.g. gender=F or 'gender=F age=25'."
)


@click.command()
@click.argument("user_id", type=int, required=False)
@segment_option
@click.option("--ratings", metavar="R", help="Your own ratings: 'Toy Story=5,Heat=4'. May be combined with --segment.")
@click.option("--n", type=click.IntRange(min=1), help="Show only the first N movies.")
@home_option
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

    if user_id is not None and segment is None and ratings is None:
        _print_list(lookup.recommend(home_of(home), user_id), f"user {user_id}", n, as_json)
    elif user_id is None and ratings is not None:
        _print_newcomer(home_of(home), ratings, segment, n, as_json)
    elif user_id is None and segment is not None:
        _print_list(lookup.recommend_default(home_of(home), segment), f"segment {segment}", n, as_json)
    else:
        raise UsageError(
            "pass a USER_ID, --segment or --ratings, as in `recsys recommend 42`. See recsys recommend --help"
        )


@click.command()
@click.argument("title")
@click.option("--n", type=click.IntRange(min=1), help="Show only the first N movies.")
@home_option
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
    if as_json:
        print_json({"movie": found, "similar": rows.to_dicts()})
        return
    click.echo(f"{_named(found['title'], found['year'])}, movie_id {found['movie_id']}")
    if rows.is_empty():
        click.echo("the movie has no similar movies, because it has no ratings", err=True)
    else:
        print_frame(rows.select("title", "year", "genres", "similarity"), as_json)


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


def _print_list(rows: "pl.DataFrame", whose: str, n: int | None, as_json: bool) -> None:
    if len(rows) < (n or 1):
        click.echo(f"the published list of {whose} has {len(rows)} movies", err=True)
    rows = rows.head(n) if n else rows
    if "served_by" in rows.columns and not as_json:  # the same in every row
        for served_by in rows["served_by"].head(1):
            click.echo(f"served_by: {served_by}")
        rows = rows.drop("served_by")
    print_frame(rows, as_json)


def _print_newcomer(home: "Home", ratings: str, segment: str | None, n: int | None, as_json: bool) -> None:
    from recsys.ask.newcomer import recommend_for

    newcomer = recommend_for(home, ratings, segment, n)
    if as_json:
        parts = {"rated": newcomer.rated.to_dicts(), "served_by": newcomer.served_by, "list": newcomer.rows.to_dicts()}
        print_json(parts)
        return
    rated = (f"{_named(title, year)} {stars:g}" for _, title, year, stars in newcomer.rated.iter_rows())
    click.echo(f"rated: {'; '.join(rated)}")
    click.echo(f"served_by: {newcomer.served_by}")
    print_frame(newcomer.rows.drop("movie_id"), as_json)


def _print_explanation(one: "Explanation") -> None:
    movie = one.movie.row(0, named=True)
    place = f"rank {one.rank}" if one.rank else "not in the list"
    seen = f", rated {one.rating:g} by the user, so never recommended" if one.rating is not None else ""
    click.echo(f"{_named(movie['title'], movie['year'])} for user {one.user_id}: {place}{seen}")
    click.echo(f"\nscore {one.score:.4f}, the sum of")
    print_frame(one.parts, as_json=False)
    click.echo(f"\nexpected stars {one.rating_hat:.2f}")
    for stars, probability in one.stars.iter_rows():
        click.echo(f"{stars:4g}  {probability:6.1%}  {'█' * round(BAR * probability)}".rstrip())
    if one.affinity is not None:
        click.echo(f"\nreasons: the shares of all {len(one.because)} rated movies add up to {one.affinity:.4f}")
        print_frame(one.because.head(BECAUSE), as_json=False)


def _named(title: str, year: int | None) -> str:
    return f"{printable(title)} ({year or 'year unknown'})"
