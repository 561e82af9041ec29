"""Named groups of settings: a backbone for the machine at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cian.errors import CianError


@dataclass(frozen=True)
class Preset:
    """
    Attributes:
        about: the network, in a few words.
        gpu_memory: in GB, from which it fits; 0: it needs no GPU.
        settings: what differs from the defaults, by dotted key.
    """

    about: str
    gpu_memory: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)


# Memory: `base` took 3.1 GB on an H200 (16 crops of 321 px in bfloat16, see docs/speed.md). `large` was not measured on
# a GPU, and neither was trained from its ImageNet weights by us: their learning rates are what is usual for them.
PRESETS = {
    "small": Preset("EfficientNet-Lite0 at stride 16, the default"),
    "base": Preset(
        "ResNet-50 at stride 8",
        6.0,
        {"backbone.name": "resnet50", "backbone.output_stride": 8, "runtime.precision": "bf16"},
    ),
    "large": Preset(
        "DINOv2 ViT-S, patches of 14 px",
        12.0,
        {
            "backbone.name": "vit_small_patch14_dinov2.lvd142m",
            "backbone.output_stride": 14,
            "runtime.precision": "bf16",
            "classify.optimizer.name": "adamw",
            "classify.optimizer.lr": 1e-5,
            "train.optimizer.lr": 1e-5,
            "train.optimizer.new_lr_factor": 50.0,
        },
    ),
}


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset, by dotted key.

    Raises:
        CianError: there is no such preset.
    """
    if name not in PRESETS:
        raise CianError(f"--preset {name}: there is no such preset. Use {', '.join(PRESETS)}.")
    return PRESETS[name].settings


def fitting(gpu_memory: float) -> str:
    """The largest preset for a GPU with so many GB; 0: there is none."""
    return [name for name, each in PRESETS.items() if each.gpu_memory <= gpu_memory][-1]
