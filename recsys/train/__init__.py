"""The training loop and what surrounds it: device, checkpoints, learning rate, choice of a network, saved models.

The networks are in `recsys.models`.
"""
