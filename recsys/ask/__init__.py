"""Read-only queries on the published lists: recommendations, explanations, similar movies, and lists for new users.

Modules in this folder never write.
"""
