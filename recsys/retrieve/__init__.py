"""The first stage of a list: candidates, from who rated what. Their order is decided in `recsys.rank`."""
