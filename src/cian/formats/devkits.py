"""Where the parts of a data set are: as the settings say, and otherwise as in the devkits of PASCAL VOC and COCO."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cian.config import DataConfig
from cian.data.problems import ProblemList
from cian.data.table import TRAIN
from cian.formats.coco import instance_files
from cian.formats.split_names import TEST, VAL
from cian.formats.text import read_lines

VOC_CLASSES, COCO_CLASSES = (Path(__file__).with_name("names") / f"{name}.txt" for name in ("voc2012", "coco2014"))


@dataclass(frozen=True)
class Lists:
    """List files of a split: its images are in any of `files` and in none of `without`."""

    files: tuple[Path, ...]
    without: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where the parts of a data set are.

    Attributes:
        config: the settings, with the paths that a devkit gives.
        lists: list files by split.
        folders: the sub-folders of `config.images` that hold the images; empty = all.
    """

    config: DataConfig
    lists: dict[str, Lists] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    @property
    def masks(self) -> tuple[Path, ...]:
        """The folders of masks. An image's mask comes from the first folder that has one."""
        return _folders(self.config.masks)

    @property
    def labels(self) -> tuple[Path, ...]:
        """The folders of label maps. An image's label map comes from the first folder that has one."""
        return _folders(self.config.labels)


def _folders(given: Path | tuple[Path, ...] | None) -> tuple[Path, ...]:
    return () if given is None else (given,) if isinstance(given, Path) else given


def find_layout(config: DataConfig, problems: ProblemList) -> Layout | None:
    """The layout of a data set. None, and a problem, if a devkit lacks something that the settings do not give."""
    if config.voc is not None and config.coco is not None:
        problems.add("settings", "data.voc and data.coco are given", "Give one of them")
        return None
    if config.sbd is not None and config.voc is None:
        problems.add("settings", "data.sbd is given without data.voc", "Give both: SBD labels images of PASCAL VOC")
        return None
    explicit = {split: Lists((path,)) for split, path in config.splits.items()}
    if config.voc is not None:
        return _voc(config, config.voc, explicit, problems)
    if config.coco is not None:
        return _coco(config, config.coco, explicit, problems)
    return Layout(config, explicit)


def _fill(config: DataConfig, **paths: Any) -> DataConfig:
    """The settings, with these paths where no path is given."""
    return config.model_copy(update={key: path for key, path in paths.items() if getattr(config, key) is None})


def _existing(*folders: Path) -> tuple[Path, ...] | None:
    return tuple(folder for folder in folders if folder.is_dir()) or None


def _voc(config: DataConfig, root: Path, explicit: dict[str, Lists], problems: ProblemList) -> Layout | None:
    """VOC 2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012) with SBD (Hariharan et al. 2011)."""
    if not root.is_dir():
        problems.add(root, "no such folder", "Give the devkit that holds JPEGImages, e.g. VOCdevkit/VOC2012")
        return None
    masks = [root / "SegmentationClass", root / "SegmentationClassAug"]
    if config.sbd is not None:
        masks.append(config.sbd / "cls")
    config = _fill(
        config,
        images=root / "JPEGImages",
        tags=root / "Annotations",
        masks=_existing(*masks),
        classes=VOC_CLASSES,
    )
    folder = root / "ImageSets" / "Segmentation"
    lists = {VAL: Lists((folder / "val.txt",))}
    if TRAIN not in explicit:
        train = _train_aug(folder, config.sbd, problems)
        if train is None:
            return None
        lists[TRAIN] = train
    if _has_images(folder / "test.txt", config.images):
        lists[TEST] = Lists((folder / "test.txt",))
    return Layout(config, {**lists, **explicit})


def _train_aug(folder: Path, sbd: Path | None, problems: ProblemList) -> Lists | None:
    """The usual 10,582 training images: as listed, or all images that VOC or SBD label, without VOC's val."""
    for name in ("train_aug.txt", "trainaug.txt"):
        if (folder / name).is_file():
            return Lists((folder / name,))
    if sbd is None:
        problems.add(
            folder,
            "has no train_aug.txt, the list of all training images, and data.sbd is not given to compute it from",
            f"Give data.sbd=benchmark_RELEASE/dataset, or a list, e.g. data.splits.train={folder / 'train.txt'}",
        )
        return None
    files, without = (sbd / "train.txt", sbd / "val.txt", folder / "train.txt"), (folder / "val.txt",)
    missing = [file for file in files + without if not file.is_file()]
    for file in missing:
        problems.add(
            file, "no such list", "Give SBD's folder with cls/, train.txt and val.txt, and VOC's with its lists"
        )
    return None if missing else Lists(files, without)


def _has_images(file: Path, images: Path | None) -> bool:
    """Whether the first image of a list exists: the test images are a separate download."""
    if images is None or not file.is_file():
        return False
    name = next((line.split()[0] for line in read_lines(file) if line.strip()), None)
    return name is not None and (images / f"{Path(name).stem}.jpg").is_file()


def _coco(config: DataConfig, root: Path, explicit: dict[str, Lists], problems: ProblemList) -> Layout | None:
    """COCO (https://cocodataset.org). An image has the split of its file of annotations."""
    annotations = root / "annotations"
    files = instance_files(annotations)
    if not files and config.tags is None:
        problems.add(
            annotations,
            "no such folder, or no instances_*.json in it",
            "Give the folder that holds COCO's annotations/ and train2014/, or give the tags as data.tags",
        )
        return None
    years = sorted({match[0] for file in files if (match := re.search(r"\d+$", file.stem))})
    if len(years) > 1 and config.tags is None:
        value = f"holds the instances of {' and '.join(years)}, which label the same images"
        problems.add(annotations, value, "Keep those of one year in this folder")
        return None
    folders = () if config.images is not None else tuple(file.stem.removeprefix("instances_") for file in files)
    masks = _existing(root / "masks")
    return Layout(_fill(config, images=root, tags=annotations, masks=masks, classes=COCO_CLASSES), explicit, folders)
