"""Evaluates tonight's model on the holdout, overall and by slice; compares it with the champion; applies the gate.

The metrics themselves are in `recsys.metrics`.
"""
