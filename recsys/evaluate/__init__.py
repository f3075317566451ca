"""How good tonight's model is: on the holdout, by slice, against the champion, and whether that is good enough.

The metrics themselves are in `recsys.metrics`.
"""
