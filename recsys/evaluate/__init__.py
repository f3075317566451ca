"""Evaluate tonight's model on the holdout, overall and by slice; compare it with the champion; apply the gate.

The metrics themselves are in `recsys.metrics`.
"""
