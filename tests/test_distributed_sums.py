"""Two processes that hold half of a batch each compute what one computes with all of it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cian import distributed
from cian.affinity import CrossImageAffinity
from cian.losses import cian_loss, mean


class Network(nn.Module):
    """The plain module and a head, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.affinity = CrossImageAffinity(6, 3)
        self.head = nn.Conv2d(6, 3, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter)
        self.double()

    def loss(self, features: Tensor, seeds: Tensor, average) -> Tensor:
        self_features, cross_features = self.affinity(features, 2)
        logits = self.head(self_features), self.head(cross_features)
        return cian_loss(*logits, seeds, balance="seeds", average=average)["total"]


def batch() -> tuple[Tensor, Tensor]:
    """Two groups of two images; the images of the first have fewer labels."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(4, 6, 4, 5, dtype=torch.float64, generator=generator)
    seeds = torch.randint(0, 3, (4, 4, 5), generator=generator)
    seeds[0::2, 1:] = 255
    return features, seeds


def half(rank: int, folder: str) -> None:
    """One of two processes: averages its gradients with the other's, as DistributedDataParallel does."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network = Network()
    distributed.join_batch_norms(network)
    features, seeds = (part[rank::2] for part in batch())  # group `rank`: an image of each chunk
    network.loss(features, seeds, distributed.average).backward()
    for parameter in network.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= 2
    if rank == 0:
        found = {name: p.grad for name, p in network.named_parameters()} | dict(network.named_buffers())
        torch.save(found, Path(folder) / "found.pt")
    dist.barrier()
    distributed.leave()


def test_gradients_and_statistics(tmp_path):
    network = Network()
    network.loss(*batch(), mean).backward()
    expected = {name: p.grad for name, p in network.named_parameters()} | dict(network.named_buffers())
    torch.multiprocessing.spawn(half, (str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_one_process_is_left_alone():
    network = Network()
    distributed.join_batch_norms(network)
    assert not any("forward" in module.__dict__ for module in network.modules())
    total, count = torch.tensor(6.0), torch.tensor(4)
    assert distributed.average(total, count) == mean(total, count) == 1.5
    assert mean(torch.tensor(0.0), torch.tensor(0)) == 0
