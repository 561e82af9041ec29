"""Images, masks and the table of them. `dataset` and `sampler` feed training.

Nothing here knows of formats or networks. Only `dataset` and `augment` import torch.
"""
