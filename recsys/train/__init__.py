"""Training: the loop, devices, checkpoints, learning rates, the choice of a network and saved models.

The networks themselves belong in `recsys.models`.
"""
