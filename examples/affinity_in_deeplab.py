"""Cross-image affinity in another library's network: DeepLabV3+ of segmentation_models.pytorch.

    pip install segmentation-models-pytorch
    python examples/affinity_in_deeplab.py

The affinity module stands between encoder and decoder. It starts as the identity, so a trained network keeps its
outputs until training changes them. Weights and images are random here: the script shows how the parts fit.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from cian import CrossImageAffinity, losses

CLASSES = 3  # with background


class DeepLabWithAffinity(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.model = smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=num_classes)
        self.affinity = CrossImageAffinity(self.model.encoder.out_channels[-1], hidden=64)

    def forward(self, images: Tensor, group_size: int = 1) -> tuple[Tensor, ...]:
        """Logits of the self branch and, in groups, of the cross branch: (N, 3, H, W) → (N, K, H, W) each."""
        *early, last = self.model.encoder(images)  # last: (N, C, H / 16, W / 16)
        branches = [each for each in self.affinity(last, group_size) if each is not None]  # (N, C, H / 16, W / 16) each
        return tuple(self.model.segmentation_head(self.model.decoder([*early, each])) for each in branches)


def main() -> None:
    torch.manual_seed(0)
    network = DeepLabWithAffinity(CLASSES)
    images = torch.randn(4, 3, 64, 96)  # two groups: image j of each half of the batch shares a tag with the other
    seeds = torch.full((4, 64, 96), 255)  # 255 = unlabelled
    seeds[:, :20], seeds[:, 30:50, 30:60] = 0, 1
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for step in range(2):
        loss = torch.stack([losses.label_loss(logits, seeds) for logits in network(images, group_size=2)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.3f}")
    with torch.no_grad():
        (logits,) = network.eval()(images[:1])  # prediction: each image is its own reference
    print(f"mask: {tuple(logits.argmax(1).shape)}")


if __name__ == "__main__":
    main()
