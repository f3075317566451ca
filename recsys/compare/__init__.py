"""`recsys compare` and `recsys tune`: train and measure networks on the same rows, and search hyperparameters."""
