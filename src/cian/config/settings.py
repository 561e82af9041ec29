"""The configuration tree: every setting with its default, its range, its group and its description.

Unknown keys are errors. A description says what the setting is, in which unit, and when to change it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

GROUPS = {
    "main": "Settings that people change",
    "more": "More settings",
    "paper": "Choices of the paper and its ablations",
    "experimental": "No gain in our trials",
}


def main(default: Any, text: str, when: str, **limits: Any) -> Any:
    """A setting that people change. `cian run --help` shows it.

    Args:
        text: what it is, and its unit.
        when: a value to try, and when, e.g. "2048 if objects are small in large images".
        limits: as of pydantic's `Field`.
    """
    return Field(default, description=text, json_schema_extra={"group": "main", "when": when}, **limits)


def more(default: Any, text: str, **limits: Any) -> Any:
    """A setting that few people need to change."""
    return Field(default, description=text, json_schema_extra={"group": "more"}, **limits)


def paper(default: Any, text: str, **limits: Any) -> Any:
    """A choice of the paper, or one of its ablations."""
    return Field(default, description=text, json_schema_extra={"group": "paper"}, **limits)


def experimental(default: Any, text: str, **limits: Any) -> Any:
    """A setting of something that gained nothing in our trials."""
    return Field(default, description=text, json_schema_extra={"group": "experimental"}, **limits)


def section(default: Any, main: dict[str, str]) -> Any:
    """A section that stands in several places of the tree, and here holds settings that people change.

    Args:
        main: for the names of those settings, a value to try, and when.
    """
    return Field(default, json_schema_extra={"main": dict(main)})


def _listed(value: Any) -> Any:
    """A list, also from a single value or a text with commas: 1.5 → (1.5,), "train,val" → ("train", "val")."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return (value,) if isinstance(value, int | float) else value


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]
NotNegative = Annotated[float, Field(ge=0, le=1_000_000)]
Listed = BeforeValidator(_listed)
# Upper bounds stop mistakes that would end in a lack of memory or take months. No useful value comes near them.
Scales = Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], Listed, Field(min_length=1, max_length=16)]
Passes = Annotated[int, Field(gt=0, le=10_000)]  # over the training images
Steps = Annotated[int, Field(ge=0, le=10_000_000)]
Batch = Annotated[int, Field(gt=0, le=4096)]
Iterations = Annotated[int, Field(ge=0, le=1000)]
Side = 65_536  # pixels


Name = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)]


_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # those between stand for bytes that are no text


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Refuses halves of characters, which no name of a file can hold."""
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        if any(isinstance(part, str | Path) and _HALF.search(str(part)) for part in parts):
            raise ValueError("is not valid text")
        return value


class DataConfig(Section):
    """Images, tags and masks, and how they are read."""

    voc: Path | None = more(
        None,
        "The folder of a PASCAL VOC devkit, e.g. VOCdevkit/VOC2012. It gives images, tags, masks, classes and splits, "
        "unless they are set.",
    )
    sbd: Path | None = more(
        None,
        "The folder `dataset` of SBD (with cls/ID.mat, train.txt and val.txt). Set it together with `data.voc` to get "
        "more masks and the 10,582 training images of train_aug.",
    )
    coco: Path | None = more(
        None,
        "The folder of COCO (with annotations/instances_train2014.json and train2014/, or those of 2017). It gives "
        "images, tags, classes and splits, unless they are set. Masks come from `cian coco-masks --out COCO/masks`.",
    )
    images: Path | None = more(None, "The folder of the images, searched recursively. Option: --images.")
    tags: Path | None = more(
        None,
        "The tags: a CSV, JSON or COCO JSON file, or a folder of VOC XML files or of COCO's instances_*.json. Without "
        "it, each sub-folder of `data.images` is a class. Option: --tags.",
    )
    masks: Path | tuple[Path, ...] | None = more(
        None,
        "The true masks: a folder of PNG files ID.png (or SBD's ID.mat), or shapes in a format of another program, "
        "such as COCO JSON. Several can be given as [PATH,PATH]: the first that has the mask counts. Masks are only "
        "used to score. Option: --masks.",
    )
    labels: Path | tuple[Path, ...] | None = more(
        None,
        "The label maps to learn from: a folder of PNG files ID.png (255 = unlabelled), or shapes in a format of "
        "another program, such as COCO JSON. Several can be given as [PATH,PATH]: the first that has the label map "
        "counts. Give it if some images have masks or strokes. Images without a label map learn from their tags. "
        "Option: --labels.",
    )
    classes: Path | None = more(
        None,
        "A text file with one class name per line, in the order of the class ids in the masks, background first. "
        "Option: --classes.",
    )
    splits: dict[str, Path] = more(
        {},
        "A list file for each split, e.g. {train: train.txt, val: val.txt}. A list file names one image per line. "
        "Option: --split.",
    )
    split_column: str | None = more(None, "The column of the tags file that holds the name of the split.")
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = main(
        0.0,
        "The share of the images, from 0 to 1, to hold out as split `val`. They are drawn at random with `seed`, and "
        "nothing is learned from them.",
        when="0.2 if no images are held out to score on",
    )
    separator: str = more(";", "The character between two tags in one cell of the tags file.", min_length=1)
    untagged: Literal["error", "negative"] = main(
        "error",
        "What an image with an empty tag is: an error, or a negative image, which shows none of the classes.",
        when="'negative' if images without a tag show no class",
    )
    drop: Annotated[tuple[Name, ...], BeforeValidator(_listed)] = more(
        (),
        "Classes to leave out, e.g. [unicorn]. Their tags are removed, and images with no other tag are not used. In "
        "masks and label maps their pixels count as 255. Set it if a class has too few images.",
    )
    merge: dict[Name, Name] = more(
        {},
        "Classes to make part of another class in tags, masks and label maps, e.g. {puppy: dog}. Set it if a class has "
        "too few images or the tags are finer than you need.",
    )
    difficult: bool = more(
        False,
        "Whether an object that VOC XML marks as difficult always gives a tag. If not, it gives one only where an "
        "image has no other objects.",
    )
    max_megapixels: Annotated[float, Field(gt=0, le=2000)] = more(
        100.0,
        "The most pixels, in millions, that an image, a mask or a map may have. Larger files are refused before they "
        "are decoded. Raise it for scans and maps, if memory allows: decoding takes up to 15 bytes a pixel.",
    )
    min_images: Annotated[int, Field(ge=0, le=1_000_000)] = more(
        2, "The fewest training images that each class must have. 0 also allows classes that only masks show."
    )

    @property
    def has_images(self) -> bool:
        """Whether a setting says where the images are."""
        return any(path is not None for path in (self.images, self.voc, self.coco))


class BackboneConfig(Section):
    """The feature extractor: any timm model with dense features."""

    name: str = main(
        "tf_efficientnet_lite0",
        "The name of a timm model. The weights of the default are installed; those of others are downloaded once. With "
        "a large backbone, also set backbone.output_stride=8.",
        when="resnet50 if you have a GPU",
    )
    output_stride: Annotated[int, Field(gt=0, le=64)] = more(
        16,
        "The size of a feature cell, in pixels of the image. 8 gives finer masks and takes about four times as long. "
        "For a ViT it is the patch size.",
    )
    weights: str = more(
        "imagenet",
        "The initial weights: 'imagenet' (those of the default backbone are installed, timm downloads others), "
        "'random', or a safetensors file. Give a file if there is no network connection.",
    )
    frozen_stages: Annotated[int, Field(ge=0, le=1000)] | None = paper(
        None,
        "The number of early stages that are not trained. By default the stages up to stride 4, if timm names them and "
        "they are pretrained. The paper: 0.",
    )


class OptimizerConfig(Section):
    """The optimizer and its learning rate."""

    name: Literal["adamw", "sgd"] = paper("adamw", "AdamW, or SGD with momentum 0.9. The paper: sgd.")
    lr: Positive = more(
        1e-4, "The learning rate of the backbone. Lower it if the loss does not fall or becomes infinite."
    )
    new_lr_factor: Positive = more(10.0, "How many times higher the learning rate of the new layers is.")
    weight_decay: NotNegative = more(5e-4, "The weight decay.")
    poly_power: NotNegative = more(
        0.9, "How the learning rate falls: it is multiplied by (1 - progress) ^ power. 0 keeps it constant."
    )
    poly_per_epoch: bool = paper(
        False, "Whether the learning rate falls once per epoch, not per step. The paper: true."
    )
    clip_norm: NotNegative = more(
        0.0,
        "The largest norm of the gradient; a larger one is scaled down to it. 0 = no limit. Try 1 if the loss jumps.",
    )


class AugmentConfig(Section):
    """Random changes of the training images."""

    crop: Annotated[int, Field(gt=0, le=4096)] = more(
        257, "The side of the square crop, in pixels. Lower it if the GPU runs out of memory."
    )
    scales: Scales = more((0.5, 0.75, 1.0, 1.25, 1.5), "Resize factors. One is drawn for each image.")
    mirror: bool = more(True, "Whether half of the images are mirrored. Set false where left and right matter.")
    jitter: Fraction = more(
        0.0, "How strongly brightness, contrast and saturation change at random, from 0 to 1. 0 = not at all."
    )


class ClassifyConfig(Section):
    """The classifier of tags, from which seeds are made."""

    epochs: Passes = more(5, "The number of passes over the training images.")
    min_steps: Steps = more(
        120, "The minimum number of training steps. On a small data set, more epochs are run to reach it."
    )
    batch_size: Batch = more(
        16, "Images per step in each process. Lower it if the GPU runs out of memory, or if there are fewer images."
    )
    optimizer: OptimizerConfig = OptimizerConfig(name="sgd", lr=0.001, new_lr_factor=100)
    augment: AugmentConfig = AugmentConfig(scales=(0.75, 1.0, 1.25, 1.5))


class CrfConfig(Section):
    """The dense CRF, which moves borders to the edges in the image (Krähenbühl & Koltun 2011)."""

    iterations: Iterations = more(5, "The number of mean-field iterations. 0 = no CRF.")
    gaussian: Annotated[tuple[Positive, Positive], Listed] = more(
        (3, 3), "The smoothness kernel: sigma in pixels, weight."
    )
    bilateral: Annotated[tuple[Positive, Positive, Positive], Listed] = paper(
        (80, 5, 10),
        "The appearance kernel: sigma in pixels, sigma in RGB levels, weight. A larger second number ignores weaker "
        "edges. The paper, for predictions: 80,13,10.",
    )


class SeedConfig(Section):
    """Sparse labels, made from class activation maps.

    `seeds.crf` aligns them with the edges in the image. It is not used with a saliency map, which has edges already.
    """

    folder: Path | None = more(
        None, "A folder of your own seed maps ID.png (indexed; 255 = unlabelled), to use instead of making seeds."
    )
    max_side: Annotated[int, Field(ge=64, le=Side)] = more(
        512,
        "The longest side of an image, in pixels, for the classifier and the seeds; larger images are reduced. The "
        "smaller of this and `max_side` counts. Keep it low: a crop must show most of an image, or the tags do not "
        "describe it.",
    )
    scales: Scales = more((1.0, 1.5, 2.0), "The image scales of the class activation maps, which are averaged.")
    mirror: bool = more(True, "Whether the maps of the mirrored image are averaged in.")
    foreground: Positive = main(
        1.25,
        "A pixel can become a seed of a class where the object map is above this multiple of the image's own threshold "
        "(Otsu's). Object maps go from 0 to 1; the multiple is capped at 0.85.",
        when="1.5 makes masks smaller, 1 larger",
    )
    background: str = main(
        "cam",
        "Where background seeds come from: 'cam' (the images alone), a folder of saliency maps ID.png (8-bit grey), or "
        "a saliency network FILE.onnx.",
        when="the path of u2netp.onnx, a saliency network",
    )
    background_below: Fraction = more(
        0.88,
        "A pixel is background where every object map is below this fraction of the foreground threshold. Lower it if "
        "background seeds cover objects. Only with seeds.background=cam.",
    )
    salient_above: Fraction = more(
        0.3, "The value of a saliency map, from 0 to 1, above which a pixel can be a class. Only with saliency maps."
    )
    salient_below: Fraction = more(
        0.06, "The value of a saliency map, from 0 to 1, below which a pixel is background. Only with saliency maps."
    )
    margin: Fraction = more(
        0.1,
        "The lead, from 0 to 1, that the best class of a pixel must have over the next one. Pixels with a smaller lead "
        "are left unlabelled. Raise it if classes are mixed up in the seeds. It does not apply between two classes "
        "that are tagged together more often than apart.",
    )
    crf: CrfConfig = CrfConfig(iterations=10)


class AffinityConfig(Section):
    """The paper's module, which compares images that share a tag."""

    mode: Literal["none", "self", "cross"] = paper(
        "cross",
        "The branches of the module: none (no module), self (within an image), or cross (self and across images).",
    )
    hidden: Annotated[int, Field(gt=0, le=16_384)] = paper(
        128, "The number of channels of query, key and value. The paper: 1024, of 2048 features."
    )
    similarity: Literal["dot", "cosine"] = paper(
        "dot", "How cells are compared: the dot product without 1/sqrt(d), or the cosine."
    )
    merge: Literal["max", "mean"] = paper("max", "How the messages of several reference images are merged.")
    include_self: bool = paper(True, "Whether the image's own message is merged into the cross branch.")
    tied_start: bool = paper(
        True,
        "Whether query and key start with equal weights, so that a cell attends to similar cells from the first step. "
        "The paper: false.",
    )
    pool: bool = paper(True, "Whether keys and values are max-pooled (3×3, stride 2).")


class TrainConfig(Section):
    """Training of the segmentation network.

    Each step takes groups of images that share a tag.
    """

    start: Literal["classifier", "backbone"] = paper(
        "classifier",
        "The initial weights of the backbone: those of the seeds' classifier, if there is one, or `backbone.weights`. "
        "The paper: backbone.",
    )
    epochs: Passes = main(
        12,
        "The number of passes over the training images.",
        when="24 if the loss still falls at the end",
    )
    min_steps: Steps = more(
        180, "The minimum number of training steps. On a small data set, more epochs are run to reach it."
    )
    batch_size: Batch = more(
        16,
        "Images per step in each process, a multiple of `train.group_size`. Lower it if the GPU runs out of memory, or "
        "if there are fewer images.",
    )
    group_size: Batch = paper(2, "Images per group. All images of a group share at least one tag.")
    balanced: Literal["none", "seeds", "all"] = paper(
        "seeds",
        "The loss terms in which foreground and background have the same weight. 'all' includes the completion loss: "
        "masks grow, which helps where seeds cover little of an object. The paper: none.",
    )
    robust: Fraction = paper(
        0.7,
        "How much the loss discounts labels that the network finds unlikely, since seeds contain errors. It is q of "
        "the generalised cross-entropy: 0 = no discount (cross-entropy), 1 = absolute error. The paper: 0.",
    )
    robust_after: Fraction = paper(
        0.5,
        "The share of the training after which `train.robust` begins. Before that, the network finds all labels "
        "unlikely.",
    )
    labelled_share: Annotated[float, Field(ge=0, le=0.9)] = more(
        0.25,
        "The share of images with a label map in each epoch, if only some images have one. They are taken several "
        "times, at most 8, to reach it. The number of steps stays the same.",
    )
    completion: bool = paper(True, "Whether the network also learns from the cross branch's completion target.")
    completion_after: Fraction = paper(
        0.5,
        "The share of the training after which completion begins. Earlier targets are mostly guesses. The paper: 0.",
    )
    tag_filter: bool = paper(
        True, "Whether completion targets hold only classes among the image's tags. The paper: false."
    )
    head_dilation: Annotated[int, Field(gt=0, le=1024)] | None = paper(
        None,
        "The dilation of the head's convolution, in cells. By default 96 px / `backbone.output_stride`. The paper: 12.",
    )
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
    """From a network to masks."""

    scales: Scales = paper(
        (0.75, 1.5),
        "The image scales that are averaged. Their maximum is averaged in as one more. The paper: 0.75,1,1.25.",
    )
    mirror: bool = more(True, "Whether the mirrored image is averaged in. False takes half the time.")
    tile: Annotated[int, Field(ge=128, le=Side)] = more(
        1024,
        "Images with a longer side than this, in pixels, are predicted in overlapping tiles. It matters only with a "
        "larger `max_side`. Lower it if memory runs out.",
    )
    own_threshold: NotNegative = main(
        2.5,
        "How far, in nats, the threshold between objects and background may move towards the image's own (Otsu's). 0 "
        "disables it, as in the paper.",
        when="0 if most new images show no class",
    )
    crf: CrfConfig = section(CrfConfig(), main={"iterations": "0 if masks lose thin parts, or for speed"})
    splits: Annotated[tuple[str, ...] | None, Listed] = more(
        None, "The splits to predict, e.g. train,val. By default all but train, or train if there is no other."
    )


class RelabelConfig(Section):
    """Masks of the training images, to train on again.

    Only with `retrain.enabled`.
    """

    crf_iterations: Iterations = experimental(10, "The number of mean-field iterations of the dense CRF. 0 = no CRF.")
    tag_filter: bool = experimental(True, "Whether a mask shows only classes among the image's tags. The paper: false.")


class RetrainConfig(Section):
    """The paper's last step: training again, on the relabelled masks."""

    enabled: bool = experimental(
        False, "Whether to relabel the training images and train again on them. The paper: true."
    )
    epochs: Passes | None = experimental(
        None, "The number of passes over the training images. By default as `train.epochs`."
    )
    lr_factor: Positive = experimental(
        0.25, "The learning rate as a fraction of that of `train`. A small one keeps what is learned. The paper: 1."
    )


class RuntimeConfig(Section):
    """Device, precision and processes.

    Only `accumulate` changes results beyond rounding.
    """

    device: str = more("auto", "Where to compute: 'auto' (a GPU if there is one), 'cpu' or 'cuda'.")
    precision: Literal["fp32", "bf16", "fp16"] = main(
        "fp32",
        "The number format of training. bf16 and fp16 are mixed precision; fp16 needs a GPU. On a GPU, fp32 is "
        "TensorFloat-32.",
        when="bf16 if you train a large backbone on a GPU",
    )
    accumulate: Annotated[int, Field(gt=0, le=10_000)] = more(
        1,
        "Batches per optimiser step. Raise it, and lower the batch size, if the GPU runs out of memory. Epochs and "
        "min_steps count batches.",
    )
    workers: Annotated[int, Field(ge=0, le=1024)] | None = more(
        None,
        "The number of processes that load images. By default one per two cores, at most 8. 0 = the main "
        "process loads them.",
    )
    checkpoint_seconds: Positive = more(
        60.0, "Seconds between checkpoints. This is the most training time that a killed run loses."
    )
    trackers: Annotated[tuple[Literal["tensorboard", "mlflow", "wandb"], ...], Listed] = more(
        ("tensorboard",),
        "The programs that get the losses of training, besides metrics.jsonl: tensorboard, mlflow and wandb, e.g. "
        "tensorboard,mlflow. Install the last two yourself. They are told where to write by their own environment "
        "variables.",
    )


class Config(Section):
    """All that a run depends on."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = more(
        0, "The seed of every random choice. Change it to see how much results differ by chance."
    )
    max_side: Annotated[int, Field(ge=64, le=Side)] = main(
        512,
        "The longest side of an image, in pixels, while it is worked on; larger images are reduced. Masks still get "
        "the full size.",
        when="2048 if objects are small in large images",
    )
    compare: bool = more(
        False,
        "Whether to train the same network without affinity as well. If there are masks to score with, the better of "
        "the two is shipped.",
    )
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
        """The longest side of an image, in pixels, for the classifier and the seeds."""
        return min(self.max_side, self.seeds.max_side)
