"""The one configuration tree. Unknown keys are errors; every run writes its resolved tree to `config.yaml`.

This package imports no torch, so that `--help` is instant.
"""

from cian.config.describe import all_settings, choices
from cian.config.load import (
    FILES,
    absolute,
    changed,
    dump_config,
    flatten,
    load_config,
    load_run_config,
    parse_assignment,
    require_images,
)
from cian.config.settings import (
    AffinityConfig,
    AugmentConfig,
    BackboneConfig,
    ClassifyConfig,
    Config,
    CrfConfig,
    DataConfig,
    OptimizerConfig,
    PredictConfig,
    RelabelConfig,
    RetrainConfig,
    RuntimeConfig,
    SeedConfig,
    TrainConfig,
)

__all__ = [
    "FILES",
    "AffinityConfig",
    "AugmentConfig",
    "BackboneConfig",
    "ClassifyConfig",
    "Config",
    "CrfConfig",
    "DataConfig",
    "OptimizerConfig",
    "PredictConfig",
    "RelabelConfig",
    "RetrainConfig",
    "RuntimeConfig",
    "SeedConfig",
    "TrainConfig",
    "absolute",
    "changed",
    "choices",
    "dump_config",
    "flatten",
    "load_config",
    "load_run_config",
    "parse_assignment",
    "require_images",
    "all_settings",
]
