"""A night on a catalogue with every film under two ids: the tables treat both as one film."""

import duckdb
import polars as pl
import pytest

from recsys.home import Home
from recsys.ingest.synthetic.synthetic import plant
from recsys.runs.night import night
from tests.support.archives import write_archive
from tests.support.nights import prepare, publish_night, settings_of
from tests.support.planted import quick_config

PLANTED = plant(40, 30, 700)
OFFENCES = {
    "a film twice in a list": """
        select user_id::varchar from recommendations join movies using (movie_id)
        group by user_id, film_id having count(*) > 1
        union all
        select segment from default_recommendations join movies using (movie_id)
        group by segment, film_id having count(*) > 1""",
    "a film that its user has rated under any id": """
        select user_id, rank from recommendations join movies using (movie_id)
        semi join (from rated join movies using (movie_id)) seen using (user_id, film_id)""",
    "a film similar to itself": """
        select movies.movie_id from similar_movies join movies using (movie_id)
        join movies others on others.movie_id = similar_movie_id where movies.film_id = others.film_id""",
    "a film twice among the similar ones": """
        select similar_movies.movie_id from similar_movies join movies on movies.movie_id = similar_movie_id
        group by similar_movies.movie_id, film_id having count(*) > 1""",
    "a film because of itself": """
        with reasons as (select movie_id, unnest(because_movie_ids) as reason from recommendations)
        select * from reasons join movies using (movie_id) join movies others on others.movie_id = reason
        where movies.film_id = others.film_id""",
    "a reason of less than three stars": """
        with reasons as (select user_id, unnest(because_movie_ids) as movie_id from recommendations)
        select * from reasons join rated using (user_id, movie_id) where rating < 3""",
}  # fmt: skip


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """The tables, and the ratings as `rated`. Movies 2 k - 1 and 2 k have the same title and year."""
    folder = tmp_path_factory.mktemp("films")
    film_id = (pl.col("movie_id") + 1) // 2
    movies = PLANTED.movies.with_columns(
        title=pl.format("Film {}", film_id), year=pl.lit(1990, pl.Int16), genres=pl.lit(["Drama"])
    )
    source = write_archive(folder / "source", "canonical", PLANTED.ratings, movies, PLANTED.users)
    home = Home(folder / "home")
    quick = {"model": "ordinal", "config": quick_config("ordinal", epochs=1).model_dump(mode="json")}
    settings = settings_of(home, source, model="auto", config=quick, n=20)
    with night(settings) as run:
        publish_night(prepare(settings, run), settings)
    opened = duckdb.connect(home.warehouse, read_only=True)
    opened.register("rated", PLANTED.ratings.to_arrow())
    return opened


@pytest.mark.slow
def test_the_tables_name_the_film_of_each_movie(connection: duckdb.DuckDBPyConnection) -> None:
    films = connection.sql("select movie_id, film_id from movies order by movie_id").fetchall()
    assert films == [(movie, (movie + 1) // 2 * 2 - 1) for movie in range(1, 31)]
    (n_both,) = connection.sql("""
        select count(*) from (
            select user_id from rated join movies using (movie_id) group by user_id, film_id having count(*) > 1
        )
    """).fetchall()[0]
    assert 0 < n_both < len(PLANTED.ratings) / 2
    assert connection.sql("from recommendations where because_movie_ids <> []").limit(1).fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("offence", OFFENCES)
def test_no_list_has(connection: duckdb.DuckDBPyConnection, offence: str) -> None:
    assert connection.sql(OFFENCES[offence]).fetchall() == []
