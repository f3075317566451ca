"""`recsys compare` and `recsys tune`: compares networks on the same rows, and searches hyperparameters."""
