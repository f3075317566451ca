"""The limits of an affinity that ranking must know, too. No torch here: `recsys.ask.fold_in` does without."""

LEAST_CONFIDENCE, MOST_CONFIDENCE = 0.2, 2.0  # of ALS in a rating, whatever the stars
MIN_AFFINITY = 1e-4  # what a movie without affinity counts as
