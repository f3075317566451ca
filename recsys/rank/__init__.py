"""The second stage of a list: blend retrievers and rating network, apply rules, and write lists and similar movies."""
