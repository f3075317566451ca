"""The first stage of a list: which movies a user might rate at all, from who rated what."""

from recsys.retrieve.retriever import Retriever, Users

__all__ = ["Retriever", "Users"]
