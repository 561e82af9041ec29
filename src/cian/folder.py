"""Masks of new images from a trained model: `cian predict`."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor

from cian.config import DataConfig, dump_config, flatten, load_config
from cian.cores import ahead, cores
from cian.crf import check_kernels
from cian.data.images import find_pictures, image_size
from cian.data.lookup import skipped
from cian.data.masks import overlay, read_mask, resize_mask, write_mask
from cian.data.problems import printable
from cian.data.readers import ADD_ROWS, read_dataset
from cian.data.table import Table
from cian.errors import CianError, DataError, Problem
from cian.inference import label_map, load, probabilities, segment_logits
from cian.progress import Ticker, console, note
from cian.runs import atomic, content, digest, hold, read_json, refuse_within, remove_temporaries, write_json
from cian.stages.context import for_each_image
from cian.training import make_accelerator


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
    tree = dump_config(segmenter.config)
    config = load_config(None, {**flatten(tree), **overrides})
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
    made_with = {
        "weights": segmenter.digest(),
        "predict": dump_config(config)["predict"],
        "max_side": config.max_side,
    }
    given_tags = [sorted(known[key]) if (key := _key(image_id)) in known else None for image_id in ids]
    found: dict[int, list[list[str]]] = {}
    written: dict[str, int] = {}
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
            write_mask(masks[row], mask)
            written[ids[row]] = _time(masks[row])
        found[row] = _found(ids[row], mask, segmenter.class_names)
        if overlays:
            with atomic(views[row]) as temporary:
                Image.fromarray(overlay(image, resize_mask(mask, image.shape[:2]))).save(temporary, quality=90)

    is_main = accelerator.is_main_process
    with hold(out, "writes masks here") if is_main else nullcontext():  # one process locks and prepares it for all
        history = _History(out, segmenter.class_names) if is_main else None
        if history is not None:
            with ThreadPoolExecutor(cores()) as pool:
                each = zip(ids, ahead(pool, _fingerprint, files), given_tags, strict=True)
                wanted = {image_id: Entry(digest(made_with), image, names) for image_id, image, names in each}
            history.prepare(wanted, files, views, overwrite)
        accelerator.wait_for_everyone()
        missing = sum(not mask.exists() for mask in masks)
        accelerator.wait_for_everyone()  # all have counted before one writes
        targets = views if overlays else masks
        try:
            for_each_image(
                accelerator, config.max_side, table, targets, "predicting", compute, finish,
                unreadable=lambda error: unreadable.append(error.problem),
            )  # fmt: skip
        except BaseException:
            if history is not None:
                history.add(written)
            raise
        written = {image_id: time for part in gather_object([written]) for image_id, time in part.items()}
        found = {row: lines for part in gather_object([found]) for row, lines in part.items()}
        failed = [problem for part in gather_object([unreadable]) for problem in part]
        if history is not None:
            history.add(written)
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
class Entry:
    """What is known of a mask that was written here, in OUT/predict.json.

    Attributes:
        made_with: fingerprint of the model and the settings.
        image: fingerprint of its picture; None if that could not be read.
        tags: of the picture; None where none were given.
        written: when, in ns; None where the process that wrote it, or would have, came to no end; 0 where somebody else
            did.
    """

    made_with: str
    image: str | None
    tags: list[str] | None
    written: int | None = None


class _History:
    """OUT/predict.json: what is known of the masks there."""

    def __init__(self, out: Path, classes: Sequence[str]):
        self.out, self.classes = out, list(classes)
        self.file = out / "predict.json"
        tree = read_json(self.file) if self.file.exists() else None
        self.entries = None if tree is None else {i: Entry(**entry) for i, entry in tree.get("images", {}).items()}

    def prepare(self, wanted: Mapping[str, Entry], files: Sequence[Path], views: Sequence[Path], anew: bool) -> None:
        """Removes what a killed process left half-written, masks of images that have other tags now, overlays without
        their mask or older than it, and, if `anew`, all of these masks.

        Args:
            wanted: by ID, what the masks are to be made with; files: their images, views: their overlays.

        Raises:
            CianError: the masks there were made with something else or of other pictures, and are not to be made anew,
                or not by `cian predict`; or one that somebody has corrected would be replaced.
        """
        masks = {image_id: self.out / f"{image_id}.png" for image_id in wanted}
        if self.entries is None and (strange := next((mask for mask in masks.values() if mask.exists()), None)):
            raise CianError(f"{strange}: was not written by `cian predict`. Give a new or an empty folder to --out.")
        before = {i: entry for i, entry in (self.entries or {}).items() if (self.out / f"{i}.png").exists()}
        for (image_id, entry), file in zip(wanted.items(), files, strict=True):
            if image_id not in before and masks[image_id].exists():  # drawn by somebody, not predicted
                before[image_id] = replace(entry, written=0)
            if image_id in before and not anew:
                self._check(masks[image_id], file, before[image_id], entry)
        made_with = {entry.made_with for entry in wanted.values()}
        if not anew and any(entry.made_with not in made_with for entry in before.values()):
            raise CianError(
                f"{self.out}: holds masks of another model or other settings. Give another --out, or --overwrite."
            )
        remove_temporaries(self.out)
        for (image_id, entry), view in zip(wanted.items(), views, strict=True):
            mask = masks[image_id]
            if anew or (image_id in before and before[image_id].tags != entry.tags):
                mask.unlink(missing_ok=True)
                before.pop(image_id, None)
            if not mask.exists() or _time(mask) > _time(view):
                view.unlink(missing_ok=True)
        self.entries = {**wanted, **before}
        self._write()

    def _check(self, mask: Path, file: Path, before: Entry, now: Entry) -> None:
        if before.image is not None and now.image is not None and before.image != now.image:
            raise CianError(f"{mask}: is of another picture than {file}. Give another --out, or --overwrite.")
        if before.tags == now.tags:
            return
        if now.tags is None:
            raise CianError(f"{mask}: was made with tags. Give them again, another --out, or --overwrite.")
        if before.written != _time(mask):
            raise CianError(
                f"{mask}: was changed after it had been written, and would be replaced, as its tags are others now. "
                "Move it elsewhere, or give another --out, or --overwrite."
            )

    def add(self, written: Mapping[str, int]) -> None:
        """When masks were written, in ns, by ID."""
        assert self.entries is not None
        for image_id, time in written.items():
            self.entries[image_id] = replace(self.entries[image_id], written=time)
        self._write()

    def _write(self) -> None:
        entries = {image_id: asdict(entry) for image_id, entry in (self.entries or {}).items()}
        write_json(self.file, {"classes": self.classes, "images": entries})


def _fingerprint(file: Path) -> str | None:
    """Of what is in a file; None if it cannot be read, which is said when its turn comes."""
    try:
        return content(file)
    except OSError:
        return None


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
            for image_id, lines in zip(todo, ahead(pool, read, todo), strict=True):
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
