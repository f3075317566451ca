"""The second stage of a list: the best of what was retrieved, in the order that the rating network has a say in."""
