"""Any timm model as a dense backbone: images (N, 3, H, W) in, features (N, C, H / stride, W / stride) out.

The features are those that the model's own classifier would average: after the final norm and activation, so that
their dot products are on a sane scale.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from cian.backbone.grid import Grid
from cian.errors import CianError
from cian.memory import bound_caches

_PLAIN_VITS = ("vision_transformer", "deit", "eva")  # timm's modules
_FROZEN_NORMS = (nn.modules.batchnorm._BatchNorm,)
_FINE = 8  # the largest stride of fine features


class Backbone(nn.Module):
    """A timm model without its classifier, with random weights (`pretrained.build_backbone` loads others).

    Its batch norms are frozen, statistics and affine, as in the paper.

    Args:
        name: timm's name of the model.
        output_stride: image pixels per feature cell. A vision transformer ignores it; its stride is its patch size.
        frozen_stages: the number of first stages that are not trained (the stem counts as one). None: those up to
            stride 4, as in object detectors, and none where timm does not name the stages.

    Attributes:
        grid: where the feature cells lie on the image.
        channels: C, channels of the features.
        detail_channels: C', channels of the fine features (see `forward_detail`).
        frozen_stages: the number of first stages that are not trained.

    Raises:
        CianError: timm has no such model, or it has no dense features at this stride.
    """

    def __init__(self, name: str, output_stride: int = 16, frozen_stages: int | None = 0):
        super().__init__()
        bound_caches()
        self.name = name
        self.model, stride = _create(name, output_stride)
        model: Any = self.model
        cfg = model.pretrained_cfg
        alignment: Any = "centre" if _patch_stem(model) else "corner"
        self.grid = Grid(stride, alignment, tuple(cfg["mean"]), tuple(cfg["std"]))
        self.channels: int = model.num_features
        stages: Any = getattr(model, "feature_info", [])
        strides = [info["reduction"] for info in stages]
        fine = [each for each in strides if each <= _FINE]
        self._detail = strides.index(max(fine)) if fine else None  # the stage of the fine features
        self.detail_channels: int = stages[self._detail]["num_chs"] if fine else self.channels
        self.prefix_tokens: int = getattr(self.model, "num_prefix_tokens", 0)
        self.model.eval()
        self._check_cells()
        self.frozen_stages = _early_stages(self.model) if frozen_stages is None else frozen_stages
        frozen = _stages(self.model)[: self.frozen_stages] if self.frozen_stages else []
        for norm in self._norms():
            norm.requires_grad_(False)
        for stage in frozen:
            stage.requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), normalised as `grid` says → (N, C, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return self._cells(self.model(images), images)

    def _cells(self, features: Tensor, images: Tensor) -> Tensor:
        """The model's output, tokens or maps → (N, C, h, w)."""
        if features.ndim == 3:  # tokens (N, prefix + cells, C)
            height, width = (-(-side // self.grid.stride) for side in images.shape[2:])
            cells = features[:, self.prefix_tokens :]
            features = cells.transpose(1, 2).unflatten(2, (height, width))
        elif features.shape[1] != self.channels:  # (N, H, W, C)
            features = features.permute(0, 3, 1, 2)
        return features

    @torch.no_grad()
    def _check_cells(self) -> None:
        """
        Raises:
            CianError: the model does not take images of any size, or its features do not lie on the grid.
        """
        stride = self.grid.stride
        size = self.grid.size(4 * stride, 7 * stride)  # an odd and an even number of cells
        wanted = (self.channels, *self.grid.cells(torch.empty(size)).shape)
        try:
            shape = tuple(self(torch.zeros(1, 3, *size)).shape[1:])
        except Exception as error:  # noqa: BLE001 - models raise any kind
            raise _not_dense(self.name, stride, error) from None
        if shape != wanted:
            raise _not_dense(self.name, stride, f"{shape} for an image of {size} px, not {wanted}")

    def forward_detail(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and finer ones of the last early stage of stride 8 or less.

        A model without such a stage (a vision transformer) returns its features twice.

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
        """As `nn.Module.train`, but the batch norms keep their statistics."""
        super().train(mode)
        for norm in self._norms():
            norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.model.modules() if isinstance(module, _FROZEN_NORMS)]


def timm_options(name: str, output_stride: int) -> dict[str, Any]:
    """Options of `timm.create_model` for features without pooling."""
    if timm.models.model_entrypoint(name).__module__.rpartition(".")[2] in _PLAIN_VITS:
        return {"global_pool": "", "dynamic_img_size": True, "dynamic_img_pad": True}
    return {"global_pool": "", "output_stride": output_stride}


def _create(name: str, output_stride: int) -> tuple[Any, int]:
    if not timm.is_model(name):
        import difflib

        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise CianError(f"backbone.name = {name}: timm has no such model. Close: {', '.join(close) or 'none'}.")
    try:
        model: Any = timm.create_model(name, pretrained=False, num_classes=0, **timm_options(name, output_stride))
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
        "EfficientNet, ConvNeXt, RegNet or plain ViT, for example resnet50."
    )


def _patch_stem(model: Any) -> bool:
    stem = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return stem.kernel_size == stem.stride


def _early_stages(model: Any, stride: int = 4) -> int:
    """How many of the first stages lead to features of `stride`; 0 where timm does not say it."""
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
