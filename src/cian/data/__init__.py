"""Data sets: `read` makes a `table` from a user's files, `check` opens them all.
`dataset` and `sampler` feed training.

Nothing here knows of networks. Only `dataset` and `augment` import torch.
"""
