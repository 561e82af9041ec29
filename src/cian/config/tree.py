"""The configuration tree: every setting with its default, its range and its description. Unknown keys are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator


def _listed(value: Any) -> Any:
    """A list, also of one value alone or of a text with commas: 1.5 → (1.5,), "train,val" → ("train", "val")."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return (value,) if isinstance(value, int | float) else value


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Listed = BeforeValidator(_listed)
Scales = Annotated[tuple[Positive, ...], Listed, Field(min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class DataConfig(Section):
    """Images, tags, and masks to score with."""

    voc: Path | None = Field(
        None,
        description="PASCAL VOC devkit, e.g. VOCdevkit/VOC2012: gives images, tags, masks, classes and lists, where "
        "they are not given",
    )
    sbd: Path | None = Field(
        None,
        description="with `voc`: SBD's folder `dataset` (cls/ID.mat, train.txt, val.txt): more masks and train_aug",
    )
    coco: Path | None = Field(
        None,
        description="COCO's folder (annotations/instances_train2014.json, train2014/, …; or 2017): gives images, tags, "
        "classes, splits and, from `cian coco-masks --out COCO/masks`, masks where they are not given",
    )
    images: Path | None = Field(None, description="folder of images, searched recursively")
    tags: Path | None = Field(
        None,
        description="CSV, JSON or COCO JSON of tags, or a folder of VOC XML or of COCO's instances_*.json; without it, "
        "each sub-folder of `images` is a class",
    )
    masks: Path | tuple[Path, ...] | None = Field(
        None,
        description="folder of indexed PNG masks ID.png (or of SBD's ID.mat), or several: the first that has the mask "
        "counts ([DIR,DIR]); they are used to score, and learned from only with train.labels=masks",
    )
    classes: Path | None = Field(
        None, description="file with one class name a line, in order of the class ids in the masks (background first)"
    )
    splits: dict[str, Path] = Field(
        default_factory=dict,
        description="list files by split name, e.g. {train: train.txt, val: val.txt}; one image a line",
    )
    split_column: str | None = Field(None, description="column of the CSV that holds the split's name")
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="fraction of the images to hold out as split `val`, drawn with `seed`"
    )
    separator: str = Field(";", min_length=1, description="separates tags within one cell of the CSV")
    untagged: Literal["error", "negative"] = Field(
        "error", description="an image with an empty tag: an error, or a picture that shows none of the classes"
    )
    difficult: bool = Field(
        False,
        description="VOC XML: objects marked difficult are tags too; else only where an image has no others",
    )
    min_images: Annotated[int, Field(ge=0)] = Field(
        2, description="fewest training images of a class; 0 lets classes be that only some masks show"
    )

    @property
    def has_images(self) -> bool:
        """Whether anything says where the images are."""
        return any(path is not None for path in (self.images, self.voc, self.coco))


class BackboneConfig(Section):
    """The feature extractor: any timm model."""

    name: str = Field("tf_efficientnet_lite0", description="name of a timm model")
    output_stride: PositiveInt = Field(16, description="image pixels per feature cell (a ViT's is its patch size)")
    weights: str = Field(
        "imagenet",
        description="'imagenet' (Lite from a package, others by timm's download), 'random', or a safetensors file",
    )
    frozen_stages: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="number of first stages that are not trained; default: those up to stride 4, where timm names them "
        "and they have learned weights (the paper: 0)",
    )


class OptimizerConfig(Section):
    name: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with momentum 0.9 as in the paper")
    lr: Positive = Field(1e-4, description="learning rate of the backbone")
    new_lr_factor: Positive = Field(10.0, description="learning rate of new layers / that of the backbone")
    weight_decay: Annotated[float, Field(ge=0)] = Field(5e-4, description="weight decay")
    poly_power: Annotated[float, Field(ge=0)] = Field(0.9, description="lr x (1 - progress) ^ power; 0 = constant")
    poly_per_epoch: bool = Field(False, description="step the schedule once an epoch, as in the paper")
    clip_norm: Annotated[float, Field(ge=0)] = Field(0.0, description="clip the gradient's norm; 0 = never")


class AugmentConfig(Section):
    crop: PositiveInt = Field(257, description="side of the square crop, in pixels")
    scales: Scales = Field((0.5, 0.75, 1.0, 1.25, 1.5), description="resize factors, one drawn per image")
    mirror: bool = Field(True, description="mirror half of the images")
    jitter: Fraction = Field(0.0, description="strength of random brightness, contrast and saturation")


class ClassifyConfig(Section):
    """The multi-label classifier whose class activation maps become seeds."""

    epochs: PositiveInt = Field(5, description="epochs")
    min_steps: Annotated[int, Field(ge=0)] = Field(
        120, description="small data sets: as many epochs as give these steps"
    )
    batch_size: PositiveInt = Field(16, description="images per step and process")
    optimizer: OptimizerConfig = OptimizerConfig(name="sgd", lr=0.001, new_lr_factor=100)
    augment: AugmentConfig = AugmentConfig(scales=(0.75, 1.0, 1.25, 1.5))


class CrfConfig(Section):
    """Dense CRF (Krähenbühl & Koltun 2011)."""

    iterations: Annotated[int, Field(ge=0)] = Field(5, description="mean-field iterations; 0 = no CRF")
    gaussian: Annotated[tuple[Positive, Positive], Listed] = Field(
        (3, 3), description="smoothness kernel: sigma in px, weight"
    )
    bilateral: Annotated[tuple[Positive, Positive, Positive], Listed] = Field(
        (80, 5, 10), description="appearance kernel: sigma in px, sigma in RGB levels (the paper: 13), weight"
    )


class SeedConfig(Section):
    """Sparse labels from class activation maps, without ground truth. `crf` makes them follow the edges of the picture;
    with a saliency map, which has edges of its own, it is not used."""

    folder: Path | None = Field(None, description="ready-made seed maps ID.png (indexed, 255 = ignore) to use instead")
    max_side: Annotated[int, Field(ge=64)] = Field(
        512,
        description="the classifier and the seeds work on larger images reduced to this long side, in px, whatever the "
        "networks' max_side: a crop has to show most of a picture for its tags to be true of it",
    )
    scales: Scales = Field((1.0, 1.5, 2.0), description="image scales of the class activation maps, averaged")
    mirror: bool = Field(True, description="average with the mirrored image")
    foreground: Positive = Field(
        1.25,
        description="a pixel is a class where its object map is over this times Otsu's threshold of the picture's "
        "object maps, at most over 0.85 of their maximum",
    )
    background: str = Field(
        "cam", description="'cam', a folder of saliency maps ID.png (8 bit grey), or a saliency network FILE.onnx"
    )
    background_below: Fraction = Field(
        0.88,
        description="background where every object map is below this fraction of what a class must be over ('cam')",
    )
    salient_above: Fraction = Field(0.3, description="with a saliency map, a class only where it is over this")
    salient_below: Fraction = Field(0.06, description="with a saliency map, background where it is below this")
    margin: Fraction = Field(0.1, description="open where the two best classes are closer than this")
    crf: CrfConfig = CrfConfig(iterations=10)


class AffinityConfig(Section):
    """The paper's module (section 2 of its method)."""

    mode: Literal["none", "self", "cross"] = Field(
        "cross", description="no module, self branch only, or self and cross"
    )
    hidden: PositiveInt = Field(128, description="channels of query, key and value (the paper: 1024, of 2048)")
    similarity: Literal["dot", "cosine"] = Field("dot", description="dot product without 1/sqrt(d), or cosine")
    merge: Literal["max", "mean"] = Field("max", description="how messages of several references are merged")
    include_self: bool = Field(True, description="merge the image's own message into the cross branch")
    tied_start: bool = Field(
        True,
        description="start with equal query and key weights, so that cells look at their like from the start (ours)",
    )
    pool: bool = Field(True, description="3x3 stride 2 max-pooling of keys and values")


class TrainConfig(Section):
    """Training of the segmentation network on groups of images that share a tag."""

    labels: Literal["seeds", "masks"] = Field(
        "seeds", description="what to learn from; the true masks of the training images give the upper bound"
    )
    start: Literal["classifier", "backbone"] = Field(
        "classifier", description="first weights: of the seeds' classifier, if there is one (ours), or backbone.weights"
    )
    epochs: PositiveInt = Field(12, description="epochs")
    min_steps: Annotated[int, Field(ge=0)] = Field(
        180, description="small data sets: as many epochs as give these steps"
    )
    batch_size: PositiveInt = Field(16, description="images per step and process; a multiple of group_size")
    group_size: PositiveInt = Field(2, description="images per group; all share at least one tag")
    balanced: Literal["none", "seeds", "all"] = Field(
        "seeds",
        description="loss terms in which foreground and background weigh the same (ours; the paper: none). In 'all', "
        "completion too: masks then grow, which helps where seeds cover little of an object",
    )
    robust: Fraction = Field(
        0.7,
        description="labels that the network finds unlikely count less, as seeds err: q of the generalised "
        "cross-entropy; 0 = all count the same, cross-entropy (the paper), 1 = absolute error",
    )
    robust_after: Fraction = Field(
        0.5, description="begins after this share of the training: at first the network finds all labels unlikely"
    )
    completion: bool = Field(True, description="train on the completion target of the cross branch too")
    completion_after: Fraction = Field(
        0.5, description="begins after this share of the training: first targets would be guesses (ours; the paper: 0)"
    )
    tag_filter: bool = Field(True, description="completion targets hold only classes among the image's tags (ours)")
    head_dilation: PositiveInt | None = Field(None, description="dilation of the head; default: 96 px / output stride")
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _whole_groups(self) -> TrainConfig:
        if self.batch_size % self.group_size:
            fitting = max(1, self.batch_size // self.group_size) * self.group_size
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of group_size {self.group_size}; "
                f"set train.batch_size={fitting}"
            )
        return self


class PredictConfig(Section):
    """Prediction of one image alone."""

    scales: Scales = Field((0.75, 1.5), description="image scales; their maximum is averaged in as one more")
    mirror: bool = Field(True, description="average with the mirrored image")
    tile: Annotated[int, Field(ge=128)] = Field(
        1024, description="longer sides (of `max_side`, if you raise it) are cut into overlapping tiles, in px"
    )
    own_threshold: Annotated[float, Field(ge=0)] = Field(
        2.5,
        description="the threshold between objects and background is each picture's own (Otsu's, of the log odds), at "
        "most this many nats from where both are as probable (ours); 0 = there (the paper)",
    )
    crf: CrfConfig = CrfConfig()
    splits: Annotated[tuple[str, ...] | None, Listed] = Field(
        None, description="splits to predict; default: all but train, or train if there is no other"
    )


class RelabelConfig(Section):
    """Dense masks of the training images, from the first network."""

    crf_iterations: Annotated[int, Field(ge=0)] = Field(10, description="mean-field iterations; 0 = no CRF")
    tag_filter: bool = Field(True, description="only classes among the image's tags (ours)")


class RetrainConfig(Section):
    """Training again, on the relabelled masks, from the first network's weights."""

    enabled: bool = Field(
        False, description="relabel and retrain, as the paper does (here it has gained nothing: benchmarks/RESULTS.md)"
    )
    epochs: PositiveInt | None = Field(None, description="epochs; default: as in train")
    lr_factor: Positive = Field(
        0.25,
        description="learning rate / that of train, so that a trained network is not shaken up (ours; the paper: 1)",
    )


class RuntimeConfig(Section):
    """Where and how it runs. Nothing here changes what is computed, up to rounding, but `accumulate`."""

    device: str = Field("auto", description="'auto', 'cpu' or 'cuda'")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="mixed precision of training; fp32 on a GPU is TensorFloat-32"
    )
    accumulate: PositiveInt = Field(
        1, description="batches per optimiser step, for larger ones than fit; epochs and min_steps count batches"
    )
    workers: Annotated[int, Field(ge=0)] | None = Field(None, description="loading processes; default: by the cores")
    checkpoint_seconds: Positive = Field(60.0, description="most seconds of training that a kill can cost")


class Config(Section):
    """Everything that a run depends on."""

    seed: int = Field(0, ge=0, description="seeds every random choice")
    max_side: Annotated[int, Field(ge=64)] = Field(
        512, description="larger images are reduced to this long side, in px, to work on; masks get the full size"
    )
    compare: bool = Field(False, description="also train the same network without affinity, to see what it gains")
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    classify: ClassifyConfig = ClassifyConfig()
    seeds: SeedConfig = SeedConfig()
    affinity: AffinityConfig = AffinityConfig()
    train: TrainConfig = TrainConfig()
    relabel: RelabelConfig = RelabelConfig()
    retrain: RetrainConfig = RetrainConfig()
    predict: PredictConfig = PredictConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def seed_side(self) -> int:
        """The long side, in px, to which larger images are reduced for the classifier and the seeds."""
        return min(self.max_side, self.seeds.max_side)

    @property
    def seeded(self) -> bool:
        """Whether networks learn from seed maps, not from true masks."""
        return self.train.labels == "seeds"

    @property
    def has_classifier(self) -> bool:
        """Whether a classifier is trained: for the seeds, or for the first weights of the upper bound too."""
        return self.seeds.folder is None and (self.seeded or self.train.start == "classifier")
