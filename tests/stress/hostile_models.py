"""Hostile models, and hostile files where `cian predict` writes."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from tests.stress.hostile import CANARY, Input, Make, predicted, trials
from tests.stress.hostile_images import bombs
from tests.stress.mutations import mutated, spoiled
from tests.stress.stand import Stand, Trials

# Values that a model's configuration must not have, by its dotted key; below `config` unless it is `classes`.
CONFIG: tuple[tuple[str, Any], ...] = (
    ("affinity.hidden", 10**9),
    ("affinity.hidden", 10**6),
    ("affinity.hidden", -1),
    ("train.head_dilation", 10**9),
    ("backbone.output_stride", 10**9),
    ("backbone.output_stride", 1),
    ("backbone.frozen_stages", 10**9),
    ("backbone.name", "vit_giant_patch14_224"),
    ("backbone.name", "../../x"),
    ("backbone.name", "hf-hub:somebody/model"),
    ("backbone.name", "local-dir:/tmp"),
    ("backbone.name", ""),
    ("backbone.weights", "/etc/passwd"),
    ("seeds.background", "/etc/passwd"),
    ("max_side", 10**9),
    ("max_side", 0),
    ("predict.scales", [1e9]),
    ("predict.scales", [1e-9]),
    ("predict.scales", [30.0]),
    ("predict.scales", [1.0] * 10_000),
    ("predict.tile", 10**9),
    ("predict.crf.iterations", 10**9),
    ("predict.crf.bilateral", [1e9, 1e9, 1e9]),
    ("predict.crf.bilateral", [1e-9, 1e-9, 1e-9]),
    ("predict.crf.gaussian", [1e-30, 1e30]),
    ("predict.own_threshold", 1e308),
    ("classes", ["background"]),
    ("classes", ["background", "c", "c"]),
    ("classes", ["background", "../../x", "<script>"]),
    ("classes", ["background", "\x1b[2J", "a\0b"]),
    ("classes", ["background", "=1+1", "@x"]),
    ("classes", "abc"),
    ("classes", [1, 2, 3]),
    ("classes", [None] * 3),
    ("classes", [str(i) for i in range(10**6)]),
)
TOPS: tuple[Any, ...] = ([], None, 5, "x", {}, {"format": 1}, {"format": [1]}, {"format": 2})
TOPS += tuple({"format": 1, "classes": classes, "config": {}} for classes in ({}, 5, None, ["a"]))


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "model" / name).write_bytes(content)


def _as_folder(name: str, folder: Path) -> None:
    (folder / "model" / name).unlink()
    (folder / "model" / name).mkdir()


def configurations(stand: Stand, rng: random.Random, share: float) -> Trials:
    """A model's config.json."""
    raw = (stand.model / "config.json").read_bytes()
    sound = json.loads(raw)

    def with_tree(tree: Any) -> Make:
        return predicted(stand.model, _write("config.json", json.dumps(tree).encode()))

    def one(rng: random.Random) -> Input:
        if rng.random() < 0.4:
            return "mutated", predicted(stand.model, _write("config.json", mutated(raw, rng)))
        tree, what = spoiled(sound, rng)
        return what, with_tree(tree)

    crafted: list[Input] = [(f"it is {str(top)[:30]}", with_tree(top)) for top in TOPS]
    for key, value in CONFIG:
        tree = copy.deepcopy(sound)
        *sections, last = key.split(".")
        node = tree["config"] if sections or key == "max_side" else tree
        for section in sections:
            node = node[section]
        node[last] = value
        crafted.append((f"{key} = {str(value)[:30]}", with_tree(tree)))
    crafted.append(("deep", predicted(stand.model, _write("config.json", b"[" * 10**6))))
    crafted.append(("a folder", predicted(stand.model, partial(_as_folder, "config.json"))))
    yield from trials(stand, rng, share, crafted, one, 120)


def weights(stand: Stand, rng: random.Random, share: float) -> Trials:
    """A model's safetensors."""
    raw = (stand.model / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    first = next(name for name in header if name.endswith("weight"))

    def packed(tree: Any, body: bytes = body) -> bytes:
        text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
        return struct.pack("<Q", len(text)) + text + body

    def given(content: bytes) -> Make:
        return predicted(stand.model, _write("model.safetensors", content))

    def one(rng: random.Random) -> Input:
        if rng.random() < 0.5:
            return "mutated", given(mutated(raw, rng, 8 + size))
        tree, what = spoiled(header, rng)
        return what, given(packed(tree))

    def with_first(**values: Any) -> bytes:
        return packed({**header, first: {**header[first], **values}})

    numbers = len(body) // 4
    crafted: dict[str, bytes] = {
        "empty": b"",
        "zeros": bytes(8),
        "a header of 2^63": struct.pack("<Q", 2**63) + raw[8:],
        "a header of 99 MB": struct.pack("<Q", 99 << 20) + raw[8:],
        "no tensors": packed({}, b""),
        "one tensor more": packed({**header, "x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
        "a shape of 2^80": with_first(shape=[2**40, 2**40]),
        "offsets in the wrong order": with_first(data_offsets=header[first]["data_offsets"][::-1]),
        "whole numbers": with_first(dtype="I32"),
        "deep": packed(b"[" * 100_000),
        "a pickle": b"\x80\x04cos\nsystem\n(S'touch " + CANARY.encode() + b"'\ntR.",
        "a zip": b"PK\3\4" + bytes(100),
        "not a number": packed(header, b"\xff" * len(body)),
        "infinite": packed(header, struct.pack("<f", float("inf")) * numbers),
        "1e30": packed(header, struct.pack("<f", 1e30) * numbers),
        "zero": packed(header, bytes(len(body))),
        "a byte more": raw + b"x",
        "1 MB of metadata": packed({**header, "__metadata__": {"a": "b" * 10**6}}),
        "metadata of numbers": packed({**header, "__metadata__": {"a": 1}}),
    }
    inputs: list[Input] = [(what, given(content)) for what, content in crafted.items()]
    inputs.append(("a folder", predicted(stand.model, partial(_as_folder, "model.safetensors"))))
    inputs.append(("missing", predicted(stand.model, lambda folder: (folder / "model/model.safetensors").unlink())))
    yield from trials(stand, rng, share, inputs, one, 60)


NOTES = ("", "x", "[]", "{}", "null", "5", '{"made_with": 1}', "[" * 10**5, '{"a": ' + "9" * 5000 + "}", "\ud7ff")
NOTES += ('{"made_with": "x", "tags": 5, "picture": 1, "file": 1, "mask": 1}',)
NOTES += ('{"made_with": [], "tags": {}, "picture": null, "file": {}, "mask": []}',)
FOUND = {
    "empty": b"",
    "binary": bytes(range(256)) * 10,
    "an open quote": b'image,class,pixels,percent\n"p0,blue',
    "a cell of 200 kB": b"image,class,pixels,percent\n" + b"x" * 200_000 + b",a,1,1\n",
    "a zero byte": b"image\0,class\n",
    "paths that lead out": b"image,class,pixels,percent\n../../x,blue,3,1.0\n/etc/passwd,blue,3,1\n",
    "a name with a zero byte": b"image,class,pixels,percent\na\0b,blue,3,1.0\n",
    "a name of 5,000 letters": b"image,class,pixels,percent\n" + b"n" * 5000 + b",blue,3,1.0\n",
}


def outputs(stand: Stand, rng: random.Random, share: float) -> Trials:
    """The folder that `cian predict` writes to holds masks and tables of others, and odd tags are given."""
    found = b"image,class,pixels,percent\np0,blue,3,1.0\n"
    mask = Image.fromarray(np.zeros((32, 40), np.uint8))

    def into(files: dict[str, bytes], *args: str) -> Make:
        def write(folder: Path) -> None:
            for name, content in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

        return predicted(stand.model, write, *args)

    def noted(note: str) -> bytes:
        info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
        info.add_text("cian", note)
        mask.save(buffer, "PNG", pnginfo=info)
        return buffer.getvalue()

    def one(rng: random.Random) -> Input:
        if rng.random() < 0.5:
            return "a mutated mask", into({"out/p0.png": mutated(noted("{}"), rng), "out/found.csv": found})
        tags = mutated(b"image,tags\np0.png,blue\np1.png,red\np2.png,red\n", rng)
        return "mutated tags", into({"tags.csv": tags}, "--tags", "tags.csv")

    crafted: list[Input] = []
    for name, content in bombs().items():
        if name.endswith(".png"):
            crafted += [(f"{file}: {name}", into({f"out/{file}": content})) for file in ("p0.png", "other.png")]
    crafted += [(f"a mask with the note {note[:20]!r}", into({"out/p0.png": noted(note)})) for note in NOTES]
    crafted += [(f"found.csv: {what}", into({"out/found.csv": content})) for what, content in FOUND.items()]
    yield from trials(stand, rng, share, crafted, one, 50)
