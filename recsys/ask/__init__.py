"""Questions about the published lists: what to watch, why, what is similar, and what a stranger would like.

Nothing here writes.
"""
