"""Masks of new images from a trained model: `cian predict`."""

from __future__ import annotations

import csv
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor

from cian.config import DataConfig, changed, dump_config, flatten, load_config
from cian.crf.dense import check_kernels
from cian.data.images import find_files, find_pictures, image_size, read_image
from cian.data.masks import overlay, read_mask, read_note, resize_mask, write_mask
from cian.data.problems import printable
from cian.data.read import ADD_ROWS, read_dataset
from cian.data.table import Table
from cian.errors import CianError, DataError, Problem
from cian.files import atomic, lock, refuse_within, remove_temporaries
from cian.formats.file_index import skipped
from cian.inference.decide import label_map, probabilities
from cian.inference.logits import segment_logits
from cian.inference.segmenter import load
from cian.parallel import cores, map_ahead
from cian.runs.each_image import for_each_image
from cian.runs.fingerprints import digest
from cian.terminal import Ticker, console, note
from cian.training.device import make_accelerator


def predict_folder(
    model: str | Path,
    images: Path,
    out: Path,
    tags: Path | None = None,
    overlays: bool = False,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> int:
    """Masks OUT/ID.png of new images from a trained model; images that have one already are skipped, unless other tags
    are given for them now.

    OUT/found.csv has a row for each image and class found in it: image (ID), class, pixels, percent (their share of the
    picture); background is left out. Rows of other images stay as long as their masks do.

    Args:
        model: see `cian.load`.
        images: an image, or a folder, searched recursively.
        tags: see `cian.run`; then only these classes may appear in an image.
        overlays: also write OUT/overlays/ID.jpg, to look at; of a mask that is there already, too.
        settings: dotted settings of predict, runtime and data, and max_side, e.g. {"predict.crf.iterations": 0,
            "runtime.device": "cpu", "data.separator": "|"}.
        overwrite: predict all images anew.

    Returns:
        The number of masks written.

    Raises:
        CianError: a file is missing, a tag is no class of the model, a setting has no effect here, or OUT lies among
            the images, holds masks of another model, of other pictures or of something else, or is being written by
            another process.
        DataError: images cannot be read; all others have their masks then.
    """
    overrides = flatten(settings or {})
    for key in overrides:
        if key.split(".")[0] not in ("predict", "runtime", "data", "max_side"):
            raise CianError(
                f"setting {key}: has no effect on a trained model. Here only predict.*, runtime.*, data.* and max_side "
                "do: leave it out, or give it to `cian run`."
            )
    given = load_config(None, {k: v for k, v in overrides.items() if k.startswith(("runtime.", "data."))})
    accelerator = make_accelerator(given.runtime)
    segmenter = load(model, accelerator.device)
    config = changed(segmenter.config, overrides)
    check_kernels("predict.crf", config.predict.crf, config.max_side)
    files, unread = ([images], []) if images.is_file() else find_pictures(images)
    if unread and tags is None:  # else it is said where the tags are read
        note(Problem(str(images), *skipped(unread)))
    if not files:
        raise CianError(f"{images}: no images here. Give an image, or a folder of images.")
    root = images.parent if images.is_file() else images
    if images.is_dir():
        refuse_within(out, images)
    elif out.resolve() == root.resolve():
        raise CianError(
            f"--out {out}: the folder of the image, where its mask would pass for one. Give another folder."
        )
    ids = mask_ids(root, files)
    masks = [out / f"{image_id}.png" for image_id in ids]
    views = [out / "overlays" / f"{image_id}.jpg" for image_id in ids]
    known = _tags_by_id(root, tags, given.data, config.seed) if tags is not None else {}
    allowed = {image_id: segmenter.allowed(names) for image_id, names in known.items()}
    table = Table.build(segmenter.class_names[1:], ids, files, [None] * len(ids), ["predict"] * len(ids))
    settings_now = {"predict": dump_config(config)["predict"], "max_side": config.max_side}
    made_with = digest({"weights": segmenter.digest(), **settings_now})
    given_tags = [sorted(known[key]) if (key := _key(image_id)) in known else None for image_id in ids]
    found: dict[int, list[list[str]]] = {}
    unreadable: list[Problem] = []

    def compute(row: int, image: np.ndarray) -> Tensor | None:
        """None where only the overlay is missing."""
        return None if masks[row].exists() else segment_logits(segmenter.network, image, config.predict)

    def finish(row: int, image: np.ndarray, logits: Tensor | None) -> None:
        if logits is None:
            mask = read_mask(masks[row])
        else:
            chosen = allowed.get(_key(ids[row]))
            result = probabilities(logits, image, chosen, config.predict.own_threshold, config.predict.crf)
            mask = label_map(result, image_size(files[row]))
            origin = Origin(made_with, given_tags[row], _pixels(image), _stamp(files[row]), _pixels(mask))
            write_mask(masks[row], mask, json.dumps(asdict(origin)))
        found[row] = _found(ids[row], mask, segmenter.class_names)
        if overlays:
            with atomic(views[row]) as temporary:
                Image.fromarray(overlay(image, resize_mask(mask, image.shape[:2]))).save(temporary, quality=90)

    is_main = accelerator.is_main_process
    with lock(out, "writes masks here") if is_main else nullcontext():  # one process locks and prepares it for all
        if is_main:
            _prepare(out, files, masks, views, given_tags, made_with, config.max_side, overwrite)
        accelerator.wait_for_everyone()
        missing = sum(not mask.exists() for mask in masks)
        accelerator.wait_for_everyone()  # all have counted before one writes
        targets = views if overlays else masks
        for_each_image(
            accelerator, config.max_side, table, targets, "predicting", compute, finish,
            unreadable=lambda error: unreadable.append(error.problem),
        )  # fmt: skip
        found = {row: lines for part in gather_object([found]) for row, lines in part.items()}
        failed = [problem for part in gather_object([unreadable]) for problem in part]
        if is_main:
            lines = {ids[row]: lines for row, lines in found.items()}
            rows = _read_found(out / "found.csv")
            todo = {i: mask for i, mask in zip(ids, masks, strict=True) if i not in lines}
            lines |= _found_before(out, rows, todo, segmenter.class_names)
            _write_found(out, rows, lines)
            count = f"{len(lines)} mask{'' if len(lines) == 1 else 's'}"
            done = f" ({len(ids) - missing} done before)" if missing < len(ids) else ""
            console.print(f"{count} in {out}/{done}; what they show: {out / 'found.csv'}", soft_wrap=True)
    if failed:
        raise DataError(sorted(failed, key=lambda problem: problem.file), shown=len(failed))
    return missing


@dataclass(frozen=True)
class Origin:
    """What a mask was predicted from; kept as a note in its file.

    Attributes:
        made_with: fingerprint of the model and the settings.
        tags: of the picture; None where none were given.
        picture: fingerprint of its pixels.
        file: size and time of its file: where they are the same, so are the pixels.
        mask: fingerprint of the mask's own pixels, which somebody may have corrected since.
    """

    made_with: str
    tags: list[str] | None
    picture: str
    file: list[int]
    mask: str


def _origin(mask: Path) -> Origin | None:
    """None where `cian predict` did not write the mask, or another program or version has."""
    text = read_note(mask)
    try:
        return None if text is None else Origin(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _pixels(pixels: np.ndarray) -> str:
    """A short fingerprint."""
    hashed = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=8)
    hashed.update(pixels.tobytes())
    return hashed.hexdigest()


def _stamp(file: Path) -> list[int]:
    """Size in bytes and time of change in ns; empty if the file is gone."""
    try:
        status = file.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _prepare(
    out: Path,
    files: Sequence[Path],
    masks: Sequence[Path],
    views: Sequence[Path],
    tags: Sequence[list[str] | None],
    made_with: str,
    max_side: int,
    anew: bool,
) -> None:
    """Removes what a killed process left half-written, masks of images that have other tags now, overlays without their
    mask or older than it, and, if `anew`, all of these masks. Masks that `cian predict` did not write, or that somebody
    has corrected since, stay otherwise.

    Args:
        files, masks, views, tags: of each image.
        made_with, max_side: of the model and the settings.

    Raises:
        CianError: masks there were made with something else or of other pictures, and are not to be made anew; or none
            of them by `cian predict`.
    """
    there = [row for row, mask in enumerate(masks) if mask.exists()]
    unasked = [] if anew else sorted(set(find_files(out, (".png",))) - set(masks))
    with ThreadPoolExecutor(cores()) as pool:
        origins = dict(zip(there, map_ahead(pool, _origin, (masks[row] for row in there)), strict=True))
        for mask, origin in zip(unasked, map_ahead(pool, _origin, unasked), strict=True):
            if origin is not None:
                _check_maker(origin, mask, made_with)
    others = [masks[row] for row, origin in origins.items() if origin is None]
    if others and len(others) == len(there) and not (out / "found.csv").exists():
        raise CianError(f"{others[0]}: was not written by `cian predict`. Give a new or an empty folder to --out.")
    again = set(there) if anew else set()
    if not anew:
        for row, origin in origins.items():
            if origin is None:
                continue
            _check(origin, files[row], masks[row], tags[row], made_with, max_side)
            if origin.tags != tags[row]:
                if _pixels(read_mask(masks[row])) == origin.mask:
                    again.add(row)
                else:
                    others.append(masks[row])
        if others:
            count = f"{len(others)} mask{'s' * (len(others) > 1)}"
            value = f"{count} ({others[0].name}{', …' * (len(others) > 1)}) not as `cian predict` writes them"
            note(Problem(str(out), value, "They stay as they are; --overwrite would replace them"))
    remove_temporaries(out)
    for row, (mask, view) in enumerate(zip(masks, views, strict=True)):
        if row in again:
            mask.unlink()
        if not mask.exists() or _time(mask) > _time(view):
            view.unlink(missing_ok=True)


def _check_maker(origin: Origin, mask: Path, made_with: str) -> None:
    if origin.made_with != made_with:
        raise CianError(f"{mask}: was made with another model or other settings. Give another --out, or --overwrite.")


def _check(origin: Origin, file: Path, mask: Path, tags: list[str] | None, made_with: str, max_side: int) -> None:
    _check_maker(origin, mask, made_with)
    if origin.file != _stamp(file):
        picture = origin.picture
        with suppress(CianError):  # what cannot be read is said when its turn comes
            picture = _pixels(read_image(file, max_side))
        if picture != origin.picture:
            raise CianError(
                f"{mask}: is of another picture than {file}. Remove this mask, or give another --out, or --overwrite."
            )
    if tags is None and origin.tags is not None:
        raise CianError(f"{mask}: was made with tags. Give them again, another --out, or --overwrite.")


def _time(file: Path) -> int:
    """When a file was written, in ns; 0 if it is not there."""
    return file.stat().st_mtime_ns if file.exists() else 0


def _found(image_id: str, mask: np.ndarray, class_names: Sequence[str]) -> list[list[str]]:
    """Rows of found.csv of one image: its id, a class, the pixels and their share in %."""
    counts = Image.fromarray(mask).histogram()  # of 256 values; np.bincount takes eight times the memory
    classes = list(zip(class_names, counts, strict=False))[1:]
    return [[image_id, name, str(n), f"{100 * n / mask.size:.2f}"] for name, n in classes if n]


def _found_before(
    out: Path, rows: Mapping[str, list[list[str]]], masks: Mapping[str, Path], class_names: Sequence[str]
) -> dict[str, list[list[str]]]:
    """The rows of found.csv of images whose masks were there already, by ID. A mask is read where found.csv, which is
    written after all masks, is older: one that a killed process left, or that somebody has corrected since.

    Args:
        rows: what found.csv holds, by ID.
    """
    counted = _time(out / "found.csv")
    there = {image_id: time for image_id, mask in masks.items() if (time := _time(mask))}
    known = {image_id: rows.get(image_id, []) for image_id, time in there.items() if time < counted}
    todo = [image_id for image_id in there if image_id not in known]

    def read(image_id: str) -> list[list[str]]:
        return _found(image_id, read_mask(masks[image_id]), class_names)

    if todo:
        with Ticker("counting", len(todo), unit="masks") as ticker, ThreadPoolExecutor(cores()) as pool:
            for image_id, lines in zip(todo, map_ahead(pool, read, todo), strict=True):
                known[image_id] = lines
                ticker.advance()
    return known


def _read_found(path: Path) -> dict[str, list[list[str]]]:
    """The rows of found.csv, by ID."""
    rows: dict[str, list[list[str]]] = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in list(csv.reader(file))[1:]:
                if len(row) == 4:
                    rows.setdefault(row[0], []).append(row)
    return rows


def _write_found(out: Path, before: Mapping[str, list[list[str]]], lines: Mapping[str, list[list[str]]]) -> None:
    """found.csv with new rows of some images, by ID; those of others before stay as long as their mask does."""
    rows = [
        row
        for image_id in before.keys() - lines.keys()
        if (out / f"{image_id}.png").is_file()
        for row in before[image_id]
    ]
    rows += [row for found in lines.values() for row in found]
    with atomic(out / "found.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "class", "pixels", "percent"], *sorted(rows)])


def mask_ids(root: Path, files: Sequence[Path]) -> list[str]:
    """What the masks of images are called: their path below `root`, without suffix.

    Raises:
        CianError: two images would share one mask, or a name is not valid text.
    """
    ids = [file.relative_to(root).with_suffix("").as_posix() for file in files]
    strange = next((i for i, image_id in enumerate(ids) if printable(image_id) != image_id), None)
    if strange is not None:
        raise CianError(f"{printable(str(files[strange]))}: the file name is not valid text. Rename it.")
    twice = next((image_id for image_id, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise CianError(f"{root / twice}: two images of this name would share one mask. Rename one of them.")
    return ids


def _key(image_id: str) -> str:
    """An ID as tags files are read."""
    return unicodedata.normalize("NFC", image_id)


def _tags_by_id(images: Path, tags: Path, settings: DataConfig, seed: int) -> dict[str, list[str]]:
    data = settings.model_copy(update={"images": images, "tags": tags, "untagged": "negative"})
    table, problems = read_dataset(data, seed, training=False)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal or table is None:
        raise DataError(fatal)
    for problem in problems:
        if problem.cure != ADD_ROWS:  # without tags they are predicted all the same
            note(problem)
    return {image_id: [table.class_names[tag] for tag in table.tags(i)] for i, image_id in enumerate(table.ids)}
