"""Cross-image affinity on the tokens of a vision transformer of timm.

    python examples/affinity_in_vit.py

The affinity module stands between the transformer and a linear head. It starts as the identity. Weights and images are
random here: the script shows how the parts fit.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from cian import CrossImageAffinity, losses

CLASSES = 3  # with background


class ViTWithAffinity(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        vit: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True)
        self.vit = vit
        self.affinity = CrossImageAffinity(vit.num_features, hidden=64)
        self.head = nn.Conv2d(vit.num_features, num_classes, 1)

    def forward(self, images: Tensor, group_size: int = 1) -> tuple[Tensor, ...]:
        """Logits of the self branch and, in groups, of the cross branch: (N, 3, H, W) → (N, K, H / 16, W / 16) each."""
        (tokens,) = self.vit.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
        return tuple(self.head(each) for each in self.affinity(tokens, group_size) if each is not None)


def main() -> None:
    torch.manual_seed(0)
    network = ViTWithAffinity(CLASSES)
    images = torch.randn(4, 3, 64, 96)  # two groups: image j of each half of the batch shares a tag with the other
    seeds = torch.full((4, 4, 6), 255)  # 255 = unlabelled
    seeds[:, 0], seeds[:, 2, 2:4] = 0, 1
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
