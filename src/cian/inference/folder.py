"""Masks of new images from a trained model: `cian predict`."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate.utils import gather_object
from torch import Tensor

from cian.config import Config, DataConfig, changed, dump_config, flatten, load_config
from cian.crf.dense import check_kernels
from cian.data.images import alone, find_all_images, find_files, image_size, limit_pixels
from cian.data.masks import read_mask
from cian.data.problems import FileError, printable
from cian.data.table import Table
from cian.errors import CianError, DataError, Problem
from cian.files import lock, refuse_within, remove_temporaries
from cian.formats.file_index import skipped
from cian.inference.decide import label_map, probabilities
from cian.inference.found_csv import FOUND, Shares, count_classes, update_found
from cian.inference.logits import segment_logits
from cian.inference.onnx_network import OnnxNetwork
from cian.inference.provenance import (
    check_image,
    check_maker,
    check_tags,
    is_corrected,
    read_origin,
    shows_mask,
    write_overlay,
    write_predicted,
)
from cian.inference.segmenter import Segmenter, load, model_folder, saved_weights
from cian.parallel import cores, map_ahead
from cian.reading.classes import ClassChanges
from cian.reading.read import ADD_ROWS, read_dataset
from cian.runs.each_image import for_each_image
from cian.runs.fingerprints import digest
from cian.terminal import console, note
from cian.training.device import make_accelerator

# The settings of `fast`.
FAST: Mapping[str, Any] = {"predict.scales": [1.0], "predict.mirror": False, "predict.crf.iterations": 2}
_SETTINGS = ("predict", "runtime", "data", "max_side")  # those that have an effect on a trained model


class Predicted(NamedTuple):
    """What `predict_folder` did.

    Attributes:
        masks: number of images that have a mask now.
        written: number of masks written by this call.
        found: the file that lists the classes of each image.
        skipped: files in the folder whose format is not read.
        unreadable: a problem for each image, and each mask of an earlier call, that cannot be read. All other images
            have their masks.
    """

    masks: int
    written: int
    found: Path
    skipped: list[Path]
    unreadable: list[Problem]


class _Target(NamedTuple):
    """An image to predict, its tags if given, and the files of its mask and its overlay."""

    id: str
    image: Path
    tags: list[str] | None
    mask: Path
    overlay: Path


def predict_folder(
    model: str | Path,
    images: Path,
    out: Path,
    tags: Path | None = None,
    overlays: bool = False,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    fast: bool = False,
) -> Predicted:
    """Predicts masks OUT/ID.png of images with a trained model.

    Images that have a mask are skipped, unless their tags have changed. OUT/found.csv has a
    row for each image and class in its mask: image (ID), class, pixels, percent (their share of the image), without
    background. Rows of other images are kept as long as their masks exist.

    Args:
        model: see `cian.load`.
        images: an image, or a folder, searched recursively.
        tags: see `cian.run`; only these classes may appear in an image.
        overlays: also write OUT/overlays/ID.jpg, to look at, for masks that exist as well.
        settings: dotted settings of predict, runtime and data, and max_side, e.g. {"predict.crf.iterations": 0,
            "runtime.device": "cpu", "data.separator": "|"}.
        overwrite: predict all images again, and replace corrected masks.
        fast: one scale, no mirrored image and a short CRF, unless `settings` say otherwise; on a CPU by onnxruntime, if
            `cian export` has written model.onnx beside the model.

    Raises:
        CianError: a file is missing; a tag is not a class of the model; a setting has no effect here; or OUT lies in
            the folder of the images, holds masks of another model, of other images or of something else, or is being
            written by another process.
    """
    overrides = _checked({**(FAST if fast else {}), **flatten(settings or {})})
    given = load_config(None, {k: v for k, v in overrides.items() if k.startswith(("runtime.", "data."))})
    limit_pixels(given.data.max_megapixels)
    accelerator = make_accelerator(given.runtime)
    if fast and accelerator.device.type == "cpu":
        model = _as_onnx(model)
    segmenter = load(model, accelerator.device)
    config = changed(segmenter.config, overrides)
    check_kernels("predict.crf", config.predict.crf, config.max_side)
    root, files, unread = _find_images(images, out)
    if unread and tags is None:  # with tags, reading them says it
        note(Problem(str(images), *skipped(unread)))
    known = {} if tags is None else _tags_by_id(root, tags, given.data, segmenter.config.data, config.seed)
    allowed = {image_id: segmenter.allowed(names) for image_id, names in known.items()}
    targets = _targets(root, files, out, known)
    made_with = _fingerprint(segmenter, config)
    counted: dict[Path, Shares] = {}
    written: list[Path] = []
    unreadable: list[Problem] = []

    def compute(row: int, image: np.ndarray) -> Tensor | None:
        """None where only the overlay is missing."""
        return None if targets[row].mask.exists() else segment_logits(segmenter.network, image, config.predict)

    def finish(row: int, image: np.ndarray, logits: Tensor | None) -> None:
        target = targets[row]
        try:
            if logits is None:
                mask = read_mask(target.mask)
            else:
                size = image_size(target.image)
        except FileError as error:
            unreadable.append(error.problem)
            return
        if logits is not None:
            chosen = allowed.get(_key(target.id))
            result = probabilities(logits, image, chosen, config.predict.own_threshold, config.predict.crf)
            with alone(size[0] * size[1]):
                mask = label_map(result, size)
                write_predicted(target.mask, mask, image, target.image, target.tags, made_with)
            written.append(target.mask)
        counted[target.mask] = count_classes(mask, segmenter.class_names)
        if overlays:
            write_overlay(target.overlay, image, mask)

    ids, masks = [target.id for target in targets], [target.mask for target in targets]
    table = Table.build(segmenter.class_names[1:], ids, files, [None] * len(ids), ["predict"] * len(ids))
    is_main = accelerator.is_main_process
    with lock(out, "writes masks here") if is_main else nullcontext():  # one process locks and prepares it for all
        if is_main:
            _prepare(out, targets, made_with, config.max_side, overwrite, overlays)
        accelerator.wait_for_everyone()
        missing = sum(not mask.exists() for mask in masks)
        accelerator.wait_for_everyone()  # all have counted before one writes
        for_each_image(
            accelerator,
            config.max_side,
            table,
            [target.overlay for target in targets] if overlays else masks,
            "predicting",
            compute,
            finish,
            unreadable=lambda error: unreadable.append(error.problem),
        )
        counts = {mask: shares for part in gather_object([counted]) for mask, shares in part.items()}
        failed = [problem for part in gather_object([unreadable]) for problem in part]
        made = sum(gather_object([len(written)]))
        total = len(ids) - len(failed)
        if is_main:
            total, damaged = update_found(out, counts, masks, segmenter.class_names, made_with)
            failed = list(dict.fromkeys([*failed, *damaged]))
            before = f", {len(ids) - missing} of them from earlier calls" if missing < len(ids) else ""
            count = f"{total} mask{'' if total == 1 else 's'}"
            console.print(f"{count} in {out}/{before}. Their classes are in {out / FOUND}", soft_wrap=True)
    failed.sort(key=lambda problem: problem.file)
    return Predicted(total, made, out / FOUND, unread, failed)


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key.

    Raises:
        CianError: one has no effect on a trained model.
    """
    overrides = flatten(settings)
    for key in overrides:
        if key.split(".")[0] not in _SETTINGS:
            raise CianError(
                f"setting {key}: has no effect on a trained model; only predict.*, runtime.*, data.* and max_side do. "
                "Leave it out, or give it to `cian run`."
            )
    return overrides


def _as_onnx(model: str | Path) -> str | Path:
    """The ONNX file beside a model, if it was made of these weights and onnxruntime is installed; else the model."""
    folder = model_folder(Path(model))
    if folder is None or find_spec("onnxruntime") is None:
        return model
    onnx = folder / "model.onnx"
    weights = saved_weights(folder / "config.json") if onnx.is_file() else None
    if weights is None:
        return model
    try:
        made_of = json.loads(OnnxNetwork(onnx).description)["weights"]
    except (CianError, ValueError, LookupError, TypeError):  # damaged, or of another program
        return model
    return onnx if made_of == weights else model


def _find_images(images: Path, out: Path) -> tuple[Path, list[Path], list[Path]]:
    """The folder that IDs are relative to, the images, and the files whose format is not read.

    Raises:
        CianError: there are no images, or `out` lies among them.
    """
    if images.is_file():
        if out.resolve() == images.parent.resolve():
            raise CianError(
                f"--out {out}: is the folder of the image, where its mask would be taken for an image. Give another "
                "folder."
            )
        return images.parent, [images], []
    files, unread = find_all_images(images)
    if unread and not files:
        note(Problem(str(images), *skipped(unread)))
    if not files:
        raise CianError(f"{images}: no images here. Give an image, or a folder of images.")
    refuse_within(out, images)
    return images, files, unread


def _fingerprint(segmenter: Segmenter, config: Config) -> str:
    """A fingerprint of the model and of the settings that masks depend on."""
    settings = {"predict": dump_config(config)["predict"], "max_side": config.max_side}
    return digest({"weights": segmenter.digest(), **settings})


def _targets(root: Path, files: Sequence[Path], out: Path, tags: Mapping[str, list[str]]) -> list[_Target]:
    """
    Args:
        tags: of each image that has some, by the key of its ID.
    """
    targets = []
    for image_id, file in zip(mask_ids(root, files), files, strict=True):
        given = tags.get(_key(image_id))
        mask, view = out / f"{image_id}.png", out / "overlays" / f"{image_id}.jpg"
        targets.append(_Target(image_id, file, None if given is None else sorted(given), mask, view))
    return targets


def _prepare(
    out: Path, targets: Sequence[_Target], made_with: str, max_side: int, overwrite: bool, overlays: bool
) -> None:
    """Removes from OUT what is to be made again: masks of images whose tags have changed (all masks with `overwrite`),
    overlays without a mask or of another mask, and files that a killed process left half-written.

    Masks that `cian predict` did not write, or that somebody has corrected since, are kept unless `overwrite`.

    Raises:
        CianError: without `overwrite`, masks were made with another model, other settings or from other images; or none
            of the masks were written by `cian predict`.
    """
    for mask in [target.mask for target in targets if target.mask.exists() and not target.mask.stat().st_size]:
        note(Problem(str(mask), "an empty file", "It is made again"))
        mask.unlink()
    existing = [target for target in targets if target.mask.exists()]
    with ThreadPoolExecutor(cores()) as pool:
        origins = list(map_ahead(pool, read_origin, (target.mask for target in existing)))
        if not overwrite:  # masks of images that are not asked for now count as well
            others = sorted(set(find_files(out, (".png",))) - {target.mask for target in targets})
            for mask, origin in zip(others, map_ahead(pool, read_origin, others), strict=True):
                if origin is not None:
                    check_maker(mask, origin, made_with)
    kept = [target.mask for target, origin in zip(existing, origins, strict=True) if origin is None]
    if kept and len(kept) == len(existing) and not (out / FOUND).exists():
        raise CianError(f"{kept[0]}: was not written by `cian predict`. Give a new or an empty folder to --out.")
    again = {target.id for target in existing} if overwrite else set()
    if not overwrite:
        for target, origin in zip(existing, origins, strict=True):
            if origin is None:
                continue
            check_maker(target.mask, origin, made_with)
            check_image(target.mask, origin, target.image, max_side)
            check_tags(target.mask, origin, target.tags)
            if origin.tags == target.tags:
                continue
            try:
                corrected = is_corrected(target.mask, origin)
            except CianError:  # damaged: reported when its classes are counted
                continue
            if corrected:
                kept.append(target.mask)
            else:
                again.add(target.id)
        if kept:
            many = len(kept) > 1
            count = f"{len(kept)} masks" if many else "1 mask"
            names = f"{kept[0].name}, …" if many else kept[0].name
            value = f"{count} corrected or written by another program ({names}) {'are' if many else 'is'} kept"
            note(Problem(str(out), value, f"--overwrite replaces {'them' if many else 'it'}"))
    remove_temporaries(out)
    for target in targets:
        if target.id in again:
            target.mask.unlink()
        if not target.mask.exists():
            target.overlay.unlink(missing_ok=True)
    if overlays:
        drawn = [target for target in targets if target.overlay.exists()]
        with ThreadPoolExecutor(cores()) as pool:
            for target, current in zip(drawn, map_ahead(pool, _shows_mask, drawn), strict=True):
                if not current:
                    target.overlay.unlink()


def _shows_mask(target: _Target) -> bool:
    """Whether the overlay is that of the mask as it is now."""
    try:
        return shows_mask(target.overlay, read_mask(target.mask))
    except CianError:  # reported when its turn comes
        return False


def mask_ids(root: Path, files: Sequence[Path]) -> list[str]:
    """The IDs of images: their paths below `root`, without suffix. A mask is called ID.png.

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
    """An ID in the form that IDs from a file of tags have."""
    return unicodedata.normalize("NFC", image_id)


def _tags_by_id(images: Path, tags: Path, settings: DataConfig, trained: DataConfig, seed: int) -> dict[str, list[str]]:
    """The tags of images, by the key of their IDs.

    Args:
        trained: how the model was trained. Its `drop` and `merge` change these tags as well.

    Raises:
        DataError: the tags cannot be read.
    """
    data = settings.model_copy(update={"images": images, "tags": tags, "untagged": "negative"})
    table, problems = read_dataset(data, seed, training=False)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal or table is None:
        raise DataError(fatal)
    for problem in problems:
        if problem.cure != ADD_ROWS:  # images without tags are predicted as well
            note(problem)
    changes, names = ClassChanges.of(trained), table.class_names
    return {image_id: list(changes.names(names[tag] for tag in table.tags(i))) for i, image_id in enumerate(table.ids)}
