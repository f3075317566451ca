"""Read-only queries on the published lists: recommendations, explanations, similar movies, and lists for new users.

Nothing here writes.
"""
