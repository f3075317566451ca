"""Limits that retrievers and `recsys.ask.fold_in` share. Does not import torch, so that `fold_in` starts fast."""

LEAST_CONFIDENCE, MOST_CONFIDENCE = 0.2, 2.0  # bounds of the confidence that ALS has in a rating
MIN_AFFINITY = 1e-4  # lower bound, applied before the logarithm
