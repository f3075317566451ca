"""The first stage of a list: retrievers that score movies from ratings. The final order is decided in `recsys.rank`."""
