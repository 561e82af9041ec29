"""Scores any folder of indexed PNGs against true masks, ours or another tool's, or packs it for a test server.

Imports no torch.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cian.config import DataConfig
from cian.data.images import KNOWN_SUFFIXES, find_files, image_size
from cian.data.masks import indexed, only_ignored, proportional, read_mask, resize_mask
from cian.data.palette import VOC_COLOURS
from cian.data.problems import ProblemList, file_error, quoted
from cian.data.table import BACKGROUND, IGNORE
from cian.errors import CianError, DataError, Problem
from cian.evaluation.metrics import Confusion
from cian.files import atomic, remove_temporaries
from cian.formats.annotations import Annotations
from cian.formats.class_names import class_names
from cian.formats.devkits import VOC_CLASSES
from cian.formats.file_index import FileIndex, find_image, index_images
from cian.formats.label_sources import find_label_maps, open_label_sources
from cian.formats.text import read_lines
from cian.parallel import cores, map_ahead
from cian.reading.classes import class_changes
from cian.terminal import Ticker, note


def object_iou(mask: np.ndarray, truth: np.ndarray) -> float | None:
    """How well the objects of one image are found, in percent: of all pixels that show an object in the mask or in the
    truth, the share with the right class. None where the truth shows no object.

    A mean over classes would mislead here: a few wrong pixels of a class that an image does not show would halve it.

    Shape:
        mask: (h, w), brought to the size of the truth; truth: (H, W), 255 = ignore.
    """
    if mask.shape != truth.shape:  # the truth may be larger
        mask = resize_mask(mask, truth.shape)
    known = truth != IGNORE
    objects = known & (truth > 0)
    if not objects.any():
        return None
    either = objects | (known & (mask > 0) & (mask != IGNORE))
    return 100 * float((objects & (mask == truth)).sum() / either.sum())


def score_pairs(
    pairs: Iterable[tuple[Path, Path]],
    num_classes: int,
    ticker: Ticker | None = None,
    truth_ids: np.ndarray | None = None,
) -> Confusion:
    """One confusion matrix of (prediction, truth) files. Predictions are brought to the size of the truth.

    Args:
        ticker: counts the masks.
        truth_ids: see `read_mask`; for the truth alone.

    Raises:
        CianError: a prediction is missing, of other proportions, or holds ids that are no classes.
    """
    confusion = Confusion(num_classes)

    def count(pair: tuple[Path, Path]) -> Confusion:
        file, truth_file = pair
        prediction, truth = read_mask(file), read_mask(truth_file, truth_ids)
        if prediction.shape != truth.shape:
            if not proportional(prediction.shape, truth.shape):
                raise CianError(
                    f"{file}: {prediction.shape[1]}×{prediction.shape[0]} px, but {truth_file} has "
                    f"{truth.shape[1]}×{truth.shape[0]}: other proportions. Check that both belong to the same image."
                )
            prediction = resize_mask(prediction, truth.shape)
        image = Confusion(num_classes)
        try:
            image.add(prediction, truth)
        except ValueError as error:
            raise CianError(
                f"{file} against {truth_file}: {error}. Check that the list of classes is complete."
            ) from None
        return image

    with ThreadPoolExecutor(cores()) as pool:
        for image in map_ahead(pool, count, pairs):
            confusion.counts += image.counts
            confusion.ignored += image.ignored
            if ticker is not None:
                ticker.advance()
    return confusion


def evaluate_folders(
    predictions: Path,
    masks: Path,
    classes: Path,
    names_file: Path | None = None,
    background: bool = True,
    config: DataConfig | None = None,
) -> dict[str, Any]:
    """Scores any folder of indexed PNGs, ours or another tool's.

    Args:
        predictions: a folder of ID.png, searched recursively.
        masks: another one, or shapes and label maps in any format that `--labels` takes.
        classes: one class name a line, background first: the ids in the masks.
        names_file: the ids to score, one a line, each counted once; default: every mask.
        background: whether id 0 is background; otherwise it is the first class.
        config: its `drop` and `merge` change the classes of the masks. Predictions have the ids of the classes that are
            left, as those of a run with the same settings.

    Returns:
        The scores as `Scores.as_dict` gives them, with "images".

    Raises:
        CianError: a folder or a prediction is missing, the masks hold 255 but no class, or what `score_pairs` raises.
    """
    if not predictions.is_dir():
        raise CianError(f"{predictions}: no such folder. Give the folder that holds the PNG files.")
    if not masks.exists():
        raise CianError(f"{masks}: no such file or folder. Give the folder that holds the PNG files, or annotations.")
    problems = ProblemList()
    given = class_names(classes, background)
    index = FileIndex(predictions, find_files(predictions, (".png",)))
    sources = open_label_sources([masks], index, given if background else None, problems)
    drawn = sorted({name for found in sources.values() for image in found.images for name in image.classes()})
    if drawn and not background:
        raise CianError(f"{masks}: these masks name their classes. Leave --no-background out.")
    changes = class_changes(config or DataConfig(), [*given, *drawn], problems)
    held = [*given, *(name for name in drawn if name not in given)]  # by the masks
    scored = changes.names(given)
    for name in held:
        if (now := changes.name(name)) is not None and now not in scored:
            cure = "Add it to the classes, or leave it out with --set data.drop"
            problems.add(masks, f"class {quoted(name)} is not in {classes}", cure)
    _stop_at(problems)
    ids: np.ndarray | None = None
    if changes or held != given:
        ids = np.arange(256, dtype=np.uint8)
        ids[background : background + len(held)] = [_new_id(changes.name(name), scored, background) for name in held]
    names = [BACKGROUND] * background + list(scored)
    if sources:
        pairs = _pairs_of_shapes(masks, sources, held, index, names_file, problems)
    else:
        there = _by_id(masks)
        listed = list(there) if names_file is None else _listed(names_file, there)
        files = _files(predictions, _by_id(predictions), listed, "prediction")
        pairs = list(zip(files, _files(masks, there, listed, "mask"), strict=True))
    if not pairs:
        raise CianError(f"{names_file or masks}: nothing to score. Give a folder of PNG masks, or a list with ids.")
    with Ticker("scores", len(pairs), unit="masks") as ticker:
        confusion = score_pairs(pairs, len(names), ticker, ids)
    if background and confusion.ignored and not confusion.counts[1:].any():
        raise only_ignored(masks)
    if background and len(names) > 2 and not confusion.counts[-1].any() and not confusion.counts[:, -2].any():
        _note_background(classes, names)
    return {"images": len(pairs), **confusion.scores().as_dict(tuple(names))}


def _new_id(name: str | None, scored: Sequence[str], background: bool) -> int:
    return IGNORE if name is None else background + scored.index(name)


def _stop_at(problems: ProblemList) -> None:
    """Shows notes.

    Raises:
        DataError: there are other problems.
    """
    found = problems.all()
    if any(problem.fatal for problem in found):
        raise DataError([problem for problem in found if problem.fatal])
    for problem in found:
        note(problem)


def _pairs_of_shapes(
    masks: Path,
    sources: Mapping[Path, Annotations],
    names: Sequence[str],
    index: FileIndex,
    names_file: Path | None,
    problems: ProblemList,
) -> list[tuple[Path, Path]]:
    """(prediction, truth) of the images that are labelled in a file that is no folder of masks.

    Args:
        names: the classes by id, from id 1.
        index: the predictions.

    Raises:
        CianError: a prediction is missing, or shapes cannot be drawn.
    """
    found = sources[masks]
    plain = [replace(image, image=_without_suffix(image.image)) for image in found.images]  # predictions are PNG files
    images = [image.image for image in plain if image.shapes]
    if names_file is not None:
        images = [line.strip() for line in read_lines(names_file) if line.strip()]
    rows = dict.fromkeys(map(index.find, images))
    missing = [name for name in images if index.find(name) < 0]
    if missing:
        raise CianError(
            f"{index.root}: no prediction for {quoted(missing[0])}; {len(missing)} of {len(images)} are missing. "
            "Add them, or leave the images out with --list."
        )
    truths = find_label_maps([masks], {masks: replace(found, images=plain)}, names, index, list(rows), problems)
    _stop_at(problems)
    if None in truths:
        row = list(rows)[truths.index(None)]
        raise CianError(f"{masks}: has no mask of {quoted(index.paths[row])}. Leave it out with --list.")
    return [(index.files[row], truth) for row, truth in zip(rows, truths, strict=True) if truth is not None]


def _note_background(classes: Path, names: Sequence[str]) -> None:
    """Notes how ids are read where the last class occurs nowhere: perhaps the first class has id 0."""
    if not any(BACKGROUND in line.casefold() for line in read_lines(classes)):
        value = f"no mask holds {quoted(names[-1])}; id 0 is read as background, 1 as {quoted(names[1])}"
        note(Problem(str(classes), value, f"If 0 is {quoted(names[1])}, give --no-background"))


def write_submission(
    predictions: Path,
    names_file: Path,
    target: Path,
    *,
    classes: Path = VOC_CLASSES,
    images: Path | None = None,
    competition: str = "comp6",
) -> int:
    """Packs predictions into the archive that PASCAL VOC's test server takes. The same predictions make the same bytes.

    Args:
        predictions: folder of indexed PNGs ID.png.
        names_file: the ids of the test images, one a line.
        target: the .tgz to write.
        classes: one class name a line, background first.
        images: folder of the test images, to compare the sizes with.
        competition: "comp6" (trained on any data), or "comp5" (on VOC's alone).

    Returns:
        The number of images.

    Raises:
        CianError: a prediction is missing, holds ids that are no classes (255 is none) or is not of its image's size,
            all of them at once; or another file, or an option, cannot be used.
    """
    if competition not in ("comp5", "comp6"):
        raise CianError(f"competition {competition}: PASCAL VOC has comp5 (its own data alone) and comp6 (any data).")
    if not predictions.is_dir():
        raise CianError(f"{predictions}: no such folder. Give the folder that holds the PNG files.")
    there = _by_id(predictions)
    ids = _listed(names_file, there)
    if not ids:
        raise CianError(f"{names_file}: names no image. Give the list of the test images.")
    files = _files(predictions, there, ids, "prediction")
    num_classes = 1 + len(class_names(classes))
    index = index_images(images) if images is not None else None
    problems = ProblemList()
    remove_temporaries(target.parent, deep=False)
    folder = f"results/VOC2012/Segmentation/{competition}_test_cls"
    with Ticker("packing", len(ids)) as ticker, atomic(target) as temporary:
        with (
            temporary.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for image_id, path in zip(ids, files, strict=True):
                with problems.collecting():
                    mask = read_mask(path)
                    if mask.max() >= num_classes:
                        value = f"holds the value {mask.max()}, but class ids are 0 to {num_classes - 1}"
                        raise file_error(
                            path, value, "Give each pixel a class. The server does not accept ignored pixels"
                        )
                    row = None if index is None else find_image(image_id, index, str(names_file), problems)
                    if index is not None and row is not None and image_size(index.files[row]) != mask.shape:
                        height, width = image_size(index.files[row])
                        value = f"{mask.shape[1]}×{mask.shape[0]} px, but {index.files[row]} has {width}×{height}"
                        raise file_error(path, value, "Predict at the size of the image")
                    content = io.BytesIO()
                    indexed(mask, VOC_COLOURS).save(content, format="PNG")
                    entry = tarfile.TarInfo(f"{folder}/{image_id}.png")
                    entry.size = content.tell()
                    content.seek(0)
                    archive.addfile(entry, content)
                ticker.advance()
        if found := problems.all():
            raise DataError(found, shown=len(found))
    return len(ids)


def _listed(names_file: Path, there: Container[str]) -> list[str]:
    """The ids of a list, each once. A line may also be the file name of an image, with its suffix."""
    lines = (_normal(line.strip()) for line in read_lines(names_file))
    return list(dict.fromkeys(line if line in there else _without_suffix(line) for line in lines if line))


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in KNOWN_SUFFIXES else name


def _by_id(folder: Path) -> dict[str, Path]:
    """The PNG files of a folder by their path in it, without the suffix."""
    files = find_files(folder, (".png",))
    return {_normal(path.relative_to(folder).with_suffix("").as_posix()): path for path in files}


def _normal(name: str) -> str:
    """In Unicode normal form C: file systems and lists differ in it."""
    return unicodedata.normalize("NFC", name)


def _files(folder: Path, there: Mapping[str, Path], ids: list[str], what: str) -> list[Path]:
    """The file FOLDER/ID.png of each id.

    Args:
        there: the files of the folder, see `_by_id`.

    Raises:
        CianError: a file is missing.
    """
    missing = [image_id for image_id in ids if image_id not in there]  # a name such as ../a leads nowhere
    if missing:
        raise CianError(
            f"{folder / missing[0]}.png: no such {what}; {len(missing)} of {len(ids)} are missing. "
            "Add them, or leave the images out with --list."
        )
    return [there[image_id] for image_id in ids]
