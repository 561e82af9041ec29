"""Which images to correct first: those whose label maps teach the seeds of all other images most.

Classes take turns, so that a few corrections reach all of them: the next image is one of the class that has the fewest
label maps. Of its images, it is the one whose seeds call least of the image background: there, objects are large, or
the seeds take the usual background of the class for the object.

Images in doubt, or unlike each other, teach no more than random ones: see docs/what-we-tried.md.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cian.data.images import image_size
from cian.data.masks import count_ids, read_mask, resize_mask
from cian.data.table import IGNORE, TRAIN, Table
from cian.errors import CianError
from cian.files import read_json, write_json
from cian.formats.annotations import Drawn, Item, Target
from cian.formats.convert import check_target, writer
from cian.parallel import cores, map_ahead
from cian.reading.run import open_run, read_run
from cian.runs.directory import Run
from cian.terminal import Ticker

_SEEDS, _FINAL, _LABELS = "seeds", "predictions", "labels"


class Suggestion(NamedTuple):
    """An image to correct.

    Attributes:
        rank: 1 is the first to correct.
        id: of the image.
        image: its file.
        reason: why it has this rank, in words.
    """

    rank: int
    id: str
    image: Path
    reason: str


@dataclass
class _Seen:
    """What the seeds of an image say.

    Attributes:
        stamp: changes with the seed map.
        objects: the share of the image that they do not call background, 0 … 1.
    """

    stamp: str
    objects: float


def suggest(run: str | Path | Run, count: int | None = None, table: Table | None = None) -> list[Suggestion]:
    """The images of a run whose correction teaches most, the first one first.

    They are training images with tags and without a label map. What was found in their seeds is kept in the run
    (suggest.json), so that only seeds that have changed are read the next time.

    Args:
        run: the run directory, after `cian seed` or `cian run`.
        count: how many images. Default: all of them.
        table: the images of the run, if they have been read already.

    Raises:
        CianError: there is no run with seeds here, or its data cannot be read.
    """
    run = open_run(run)
    table = read_run(run)[1] if table is None else table
    labelled = np.array([_has_labels(run, table, row) for row in range(len(table))], bool)
    training = np.array([split == TRAIN for split in table.splits], bool)
    tagged = np.diff(table.tag_offsets) > 0
    before = table.select(np.flatnonzero(training & labelled))
    table = table.select(np.flatnonzero(training & tagged & ~labelled))
    objects = _object_shares(run, table)
    names = table.class_names
    label_maps = np.bincount(before.tag_ids, minlength=table.num_classes)
    return [
        Suggestion(
            rank,
            table.ids[row],
            table.images[row],
            f"{names[class_id]} has {_counted(number)}; objects may cover {objects[row]:.0%} of this image",
        )
        for rank, (row, class_id, number) in enumerate(_order(table, objects, label_maps)[:count], start=1)
    ]


def write_suggested(
    run: str | Path | Run, suggestions: Sequence[Suggestion], to: str, out: Path, prefix: str = ""
) -> list[str]:
    """Writes the masks of suggested images in the format of another program, to correct them there.

    They are the final masks of the run. Where it has none, its model predicts them now. Without a model, they are the
    seeds, and unlabelled pixels become background.

    Args:
        to: the name of the format, as for `cian.formats.convert.convert`.
        out: a file or a folder that does not exist.
        prefix: what stands before the names of images, in formats that hold addresses.

    Returns:
        What the format cannot hold, in words.

    Raises:
        CianError: there is no such format, `out` exists, or an image or a mask cannot be read.
    """
    run = open_run(run)
    form = writer(to)
    check_target(form, out)
    _, table = read_run(run)
    rows = {image_id: row for row, image_id in enumerate(table.ids)}
    table = table.select([rows[each.id] for each in suggestions])
    assert form.write is not None
    with Ticker(f"writing {out.name}", len(table)) as ticker:
        return form.write(_items(run, table, ticker), Target(out, table.classes, prefix=prefix))


def _has_labels(run: Run, table: Table, row: int) -> bool:
    """Whether people have labelled an image: before the run, or in it."""
    return table.labels[row] is not None or run.mask(_LABELS, table.ids[row]).is_file()


# The order.


def _order(table: Table, objects: np.ndarray, label_maps: np.ndarray) -> list[tuple[int, int, int]]:
    """The rows of a table in the order in which to correct them, each with the class whose turn it is and the number of
    label maps of the class then.

    Args:
        objects: (N,), the share of each image that objects may cover.
        label_maps: (K,), of each class before.
    """
    by_share = np.argsort(-objects, kind="stable")  # (N,)
    hot = table.multi_hot() > 0  # (N, K - 1)
    left = [iter(by_share[hot[by_share, i]].tolist()) for i in range(hot.shape[1])]
    counts = label_maps.copy()
    turns = [(int(counts[class_id]), class_id) for class_id in range(1, table.num_classes)]
    heapq.heapify(turns)
    chosen: dict[int, tuple[int, int, int]] = {}
    while turns:
        number, class_id = heapq.heappop(turns)
        if number < counts[class_id]:  # an image of several classes has counted for it since
            heapq.heappush(turns, (int(counts[class_id]), class_id))
            continue
        row = next((row for row in left[class_id - 1] if row not in chosen), None)
        if row is None:
            continue
        chosen[row] = row, class_id, number
        counts[table.tags(row)] += 1
        heapq.heappush(turns, (int(counts[class_id]), class_id))
    return list(chosen.values())


def _counted(number: int) -> str:
    return "no label map yet" if number == 0 else f"{number} label map{'s' * (number > 1)}"


# The seeds, and the masks to correct.


def _object_shares(run: Run, table: Table) -> np.ndarray:
    """(N,) the share of each image that its seeds do not call background, 0 … 1.

    Raises:
        CianError: an image has no seeds yet, or they cannot be read.
    """
    file = run.path / "suggest.json"
    try:
        earlier: dict[str, _Seen] = read_json(file, dict[str, _Seen])
    except CianError:  # nothing but time depends on it
        earlier = {}

    files = [_existing(run, image_id, _SEEDS) for image_id in table.ids]
    stamps = [f"{status.st_size}:{status.st_mtime_ns}" for status in (file.stat() for file in files)]
    seen = [earlier.get(image_id, _Seen("", 0.0)) for image_id in table.ids]
    changed = [row for row, stamp in enumerate(stamps) if seen[row].stamp != stamp]
    if changed:
        with Ticker("seeds", len(changed)) as ticker, ThreadPoolExecutor(cores()) as pool:
            shares = map_ahead(pool, _object_share, (files[row] for row in changed))
            for row, share in zip(changed, shares, strict=True):
                seen[row] = _Seen(stamps[row], share)
                ticker.advance()
    now = dict(zip(table.ids, seen, strict=True))
    if now != earlier:
        with contextlib.suppress(OSError):  # a run that can only be read
            write_json(file, {image_id: vars(each) for image_id, each in now.items()})
    return np.array([each.objects for each in seen])


def _existing(run: Run, image_id: str, *folders: str) -> Path:
    """The mask of an image in the first folder that has one.

    Raises:
        CianError: none has one.
    """
    files = [run.mask(folder, image_id) for folder in folders]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise CianError(f"{files[-1]}: no seeds yet. Run `cian seed --out {run.path}` first.")
    return found


def _object_share(seeds: Path) -> float:
    counts = count_ids(read_mask(seeds))
    return 1 - float(counts[0] / counts.sum())


def _items(run: Run, table: Table, ticker: Ticker) -> Iterator[Item]:
    """The images with their masks, as writers of formats get them."""
    names = table.class_names
    for row, mask in enumerate(_masks(run, table)):
        held = [class_id for class_id in np.unique(mask).tolist() if 0 < class_id < table.num_classes]
        places = np.zeros(256, np.int32)
        places[held] = range(1, len(held) + 1)
        drawn = Drawn(places[mask], tuple(names[class_id] for class_id in held))
        image, tags = table.images[row], tuple(names[tag] for tag in table.tags(row))
        yield Item(f"{table.ids[row]}{image.suffix}", image, mask.shape, table.splits[row], tags, drawn)
        ticker.advance()


def _masks(run: Run, table: Table) -> Iterator[np.ndarray]:
    """(H, W) of each image, at its full size."""
    segmenter = None
    for row, image_id in enumerate(table.ids):
        file, size = _existing(run, image_id, _FINAL, _SEEDS), image_size(table.images[row])
        if file == run.mask(_SEEDS, image_id) and (run.model / "config.json").is_file():
            if segmenter is None:
                from cian.inference.segmenter import load

                segmenter = load(run.model)
                if segmenter.class_names != table.class_names:
                    raise CianError(f"{run.path}: its model has other classes than its data. Run `cian run` again.")
            tags = [table.class_names[tag] for tag in table.tags(row)]
            yield segmenter.predict(table.images[row], tags).mask
            continue
        mask = resize_mask(read_mask(file), size)
        yield np.where(mask == IGNORE, 0, mask)
