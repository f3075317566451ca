"""The second stage of a list: blends retrievers and rating network, applies rules, writes lists and similar movies."""
