"""Finds the entries of a catalogue that are the same film. MovieLens 100K has 18 films under two ids each."""

import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

TITLE = ("title", "year")
OUTSIDE_IDS = ("imdb_id", "tmdb_id")


def find_films(movies: pl.DataFrame, links: pl.DataFrame) -> dict[int, int]:
    """Returns the film_id of every movie_id that is not itself the film_id: the lowest movie_id of the same film.

    Entries are the same film if they share an outside id, or if they have the same title and year. Titles are compared
    without case, accents and punctuation; an unknown year equals no other year. A title and year that two films have,
    such as "War of the Worlds (2005)", identify none of them: both have outside ids of the same kinds, and all differ.
    If only one of two entries has a TMDB id, different IMDb ids do not count, because IMDb withdraws duplicates.

    movies: (movie_id, title, year). links: (movie_id, imdb_id, tmdb_id).
    """
    ids = [pl.col(name).cast(pl.Int64, strict=False).replace(0, None).alias(name) for name in OUTSIDE_IDS]
    linked = links.select("movie_id", *ids).unique("movie_id", keep="first", maintain_order=True)
    entries = movies.select("movie_id", "year", title=_plain(pl.col("title"))).unique("movie_id", maintain_order=True)
    entries = entries.join(linked, on="movie_id", how="left").sort("movie_id")
    namesakes = _pair(entries, TITLE)
    one_film = namesakes.filter(~_are_apart().any().over(TITLE)) if len(namesakes) else namesakes
    pairs = [one_film, *(_pair(entries, (name,)) for name in OUTSIDE_IDS)]
    return _lowest(entries["movie_id"], pl.concat([pair.select("movie_id", "movie_id_right") for pair in pairs]))


def _plain(title: pl.Expr) -> pl.Expr:
    """Returns the words of a title in lower case without accents; null if it has none, such as "$"."""
    bare = title.str.normalize("NFKD").str.replace_all(r"\p{M}", "").str.to_lowercase()
    return bare.str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars(" ").replace("", None)


def _pair(entries: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    """Returns all pairs of entries with the same key, the lower movie_id first. Null equals nothing."""
    shared = entries.drop_nulls(key).filter(pl.struct(key).is_duplicated())
    return shared.join(shared, on=key).filter(pl.col("movie_id") < pl.col("movie_id_right"))


def _are_apart() -> pl.Expr:
    """Whether both entries of a pair have outside ids of the same kinds, and all of them differ."""
    one_is_known = pl.any_horizontal(pl.col(name).is_not_null() for name in OUTSIDE_IDS)
    differ = [
        (pl.col(name).is_null() & pl.col(f"{name}_right").is_null())
        | (pl.col(name) != pl.col(f"{name}_right")).fill_null(False)
        for name in OUTSIDE_IDS
    ]
    return one_is_known & pl.all_horizontal(differ)


def _lowest(movie_ids: pl.Series, pairs: pl.DataFrame) -> dict[int, int]:
    """Follows the pairs to the lowest movie_id that each entry is connected to. movie_ids: ascending."""
    first, second = (movie_ids.search_sorted(pairs[name]).to_numpy() for name in pairs.columns)
    graph = coo_array(([True] * len(pairs), (first, second)), shape=(len(movie_ids), len(movie_ids)))
    groups = pl.DataFrame({"movie_id": movie_ids, "film": connected_components(graph, directed=False)[1]})
    films = groups.with_columns(film_id=pl.col("movie_id").min().over("film"))
    return dict(films.filter(pl.col("movie_id") != pl.col("film_id")).select("movie_id", "film_id").iter_rows())
