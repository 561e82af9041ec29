"""cian: images and tags in, masks and a segmentation model out.

Names are imported when first used, so that `import cian` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cian._version import __version__

if TYPE_CHECKING:
    from cian import crf, losses
    from cian.affinity import CrossImageAffinity, cross_image_affinity
    from cian.config import Config, load_config
    from cian.errors import CianError
    from cian.evaluation import metrics
    from cian.inference.prediction import Prediction
    from cian.inference.segmenter import Segmenter, load
    from cian.network import CIAN
    from cian.pipeline.run import run
    from cian.pipeline.suggest import suggest

_HOME = {
    "CIAN": "cian.network",
    "CianError": "cian.errors",
    "Config": "cian.config",
    "CrossImageAffinity": "cian.affinity",
    "Prediction": "cian.inference.prediction",
    "Segmenter": "cian.inference.segmenter",
    "cross_image_affinity": "cian.affinity",
    "load": "cian.inference.segmenter",
    "load_config": "cian.config",
    "run": "cian.pipeline.run",
    "suggest": "cian.pipeline.suggest",
}
_MODULES = {"crf": "cian.crf", "losses": "cian.losses", "metrics": "cian.evaluation.metrics"}

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'cian' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
