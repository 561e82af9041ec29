"""Hostile files of tags: CSV, JSON, COCO, XML, lists and class names."""

from __future__ import annotations

import json
import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.stress.hostile import (
    CANARY,
    IMAGES,
    TAGS,
    Input,
    Make,
    check,
    checked,
    csv_rows,
    sound,
    trials,
)
from tests.stress.mutations import ODD, mutated, spoiled
from tests.stress.stand import Stand, Trials

ROWS = list(zip(IMAGES, TAGS, strict=True))
NAMES = ("../../x", "/etc/passwd", "<script>alert(1)</script>", "=1+1", "@SUM(1)", "-1", "\x1b[2J", "a\u2028b", "..")
NAMES += ("\u202efox", "\u00a0\u2003", "{0} %s [red]x[/red] [link=file:///etc]", "e" + "\u0301" * 50_000, "f" * 10**6)


def _with(name: str) -> bytes:
    return csv_rows().replace(b"fox", name.encode())


CSV = {
    "empty": b"",
    "a line break": b"\n",
    "zeros": bytes(1000),
    "binary": bytes(range(256)) * 20,
    "a header alone": b"image,tags\n",
    "a cell of 1 MB": csv_rows() + b"p0.png," + b"a" * 10**6 + b"\n",
    "100,000 columns": b"image," + b",".join(b"c%d" % i for i in range(100_000)) + b"\n",
    "an open quote": csv_rows() + b'"p0.png,fox\n' * 1000,
    "200,000 rows of no image": csv_rows() + b"none.png,fox\n" * 200_000,
    "UTF-32": csv_rows().decode().encode("utf-32"),
    "UTF-16, cut": csv_rows().decode().encode("utf-16")[:-1],
    "paths that lead out": csv_rows() + b"../../x.png,fox\n/etc/passwd,fox\n",
    "300 classes": b"image,tags\np0.png," + b";".join(b"c%d" % i for i in range(300)) + b"\n",
    "commas": b",,,,,,\n" * 100,
    "old Macintosh": csv_rows().replace(b"\n", b"\r"),
    "a million line breaks": csv_rows() + b"\n" * 10**6,
    "a line of 50 MB": csv_rows() + b"x" * (50 << 20),
    **{f"a class {name[:20]!r}": _with(name) for name in NAMES},
}


def csv(stand: Stand, rng: random.Random, share: float) -> Trials:
    """CSV."""
    flags = "".join(f"{name},{int('fox' in tags)},{int('rabbit' in tags)}\n" for name, tags in ROWS)
    wide = "image;tags\r\n" + "".join(f'"{name}";"{";".join(tags)}"\r\n' for name, tags in ROWS)
    forms = [
        csv_rows(),
        b"image,fox,rabbit\n" + flags.encode(),
        b"image,tag\n" + b"".join(f"{name},{tag}\n".encode() for name, tags in ROWS for tag in tags),
        wide.encode("utf-16"),
        b"sep=,\n" + csv_rows(),
    ]

    def one(rng: random.Random) -> Input:
        return "mutated", checked("tags.csv", mutated(rng.choice(forms), rng), "--tags", "tags.csv")

    crafted: list[Input] = [(what, checked("tags.csv", content, "--tags", "tags.csv")) for what, content in CSV.items()]
    crafted += [(f"it is {what}", partial(_special, what)) for what in ("a folder", "a link to itself", "a pipe")]
    crafted += [(path, partial(_special, path)) for path in ("/dev/zero", "/proc/self/mem", "/dev/stdin")]
    yield from trials(stand, rng, share, crafted, one, 100)


def _special(what: str, folder: Path) -> list[str]:
    sound(folder)
    path = folder / "tags"
    if what == "a folder":
        path.mkdir()
    elif what == "a link to itself":
        path.symlink_to("tags")
    elif what == "a pipe":
        os.mkfifo(path)
    return check("--tags", what if what.startswith("/") else "tags")


def json_tags(stand: Stand, rng: random.Random, share: float) -> Trials:
    """JSON."""
    trees: list[Any] = [dict(ROWS), [{"image": name, "tags": tags} for name, tags in ROWS]]

    def file(content: Any) -> Make:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return checked("tags.json", data, "--tags", "tags.json")

    def one(rng: random.Random) -> Input:
        tree = rng.choice(trees)
        if rng.random() < 0.5:
            return "mutated", file(mutated(json.dumps(tree).encode(), rng))
        tree, what = spoiled(tree, rng)
        return what, file(tree)

    crafted: list[Input] = [(f"it is {str(value)[:20]!r}", file(value)) for value in ODD]
    crafted += [(f"an image {str(value)[:20]!r}", file([{"image": value, "tags": ["fox"]}])) for value in ODD]
    crafted += [
        ("deep lists", file(b"[" * 10**6)),
        ("deep maps", file(b'{"a":' * 10**5)),
        ("deep and closed", file(b"[" * 900 + b"]" * 900)),
        ("a number of 1 MB", file(b"[" + b"9" * 10**6 + b"]")),
        ("a large exponent", file(b"[1e" + b"9" * 1000 + b"]")),
        ("200,000 keys", file(b"{" + b",".join(b'"k%d":"fox"' % i for i in range(200_000)) + b"}")),
        ("a key twice", file(b'{"p0.png":"fox","p0.png":"rabbit"}')),
    ]
    yield from trials(stand, rng, share, crafted, one, 100)


def _coco() -> dict[str, Any]:
    shapes: list[Any] = [[[1, 1, 20, 1, 20, 20, 1, 20]], {"size": [32, 40], "counts": [3, 20, 1257]}]
    pairs = [(i, tag) for i, tags in enumerate(TAGS) for tag in tags]
    return {
        "images": [{"id": i, "file_name": name, "width": 40, "height": 32} for i, name in enumerate(IMAGES)],
        "categories": [{"id": 1, "name": "fox"}, {"id": 2, "name": "rabbit"}],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 1 + (tag == "rabbit"), "iscrowd": 0, "segmentation": shapes[k % 2]}
            for k, (i, tag) in enumerate(pairs)
        ],
    }


FILE_NAMES = ("../../x.png", "/tmp/x.png", "..", ".", "/", "a/../../b.png", "a\\..\\..\\b.png", "C:\\x.png", "x\0.png")
FILE_NAMES += ("\ud800.png", "n" * 300 + ".png", "a/" * 200 + "b.png", "-rf", " ", "p0.png/", ".cian-tmp-x.png")
SIZES = ((22_000, 22_000), (10**9, 10**9), (1, 5 * 10**8), (5 * 10**8, 1), (0, 0), (2**63, 1), (-1, -1))
SHAPES: dict[str, Any] = {
    "huge numbers": [[1e308] * 8],
    "not a number": [[float("nan")] * 8],
    "a polygon of 2,000,000,000 px": [[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9]],
    "10,000 polygons": [[0] * 6] * 10_000,
    "text counts that never end": {"size": [32, 40], "counts": "o" * 400},
    "text counts of 100 kB": {"size": [32, 40], "counts": "9" * 10**5},
    "a count of 10^30": {"size": [32, 40], "counts": [10**30]},
    "a size of 10^9": {"size": [10**9, 10**9], "counts": [10**18]},
}


def coco(stand: Stand, rng: random.Random, share: float) -> Trials:
    """COCO, as tags and for `cian coco-masks`."""

    def drawn(content: bytes, folder: Path) -> list[str]:
        (folder / "coco.json").write_bytes(content)
        return ["coco-masks", "--annotations", "coco.json", "--out", "out"]

    def both(what: str, content: Any) -> list[Input]:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        tags = checked("coco.json", data, "--tags", "coco.json")
        return [(what, tags), (f"{what}, coco-masks", partial(drawn, data))]

    def one(rng: random.Random) -> Input:
        if rng.random() < 0.4:
            return rng.choice(both("mutated", mutated(json.dumps(_coco()).encode(), rng)))
        tree, what = spoiled(_coco(), rng)
        return rng.choice(both(what, tree))

    crafted: list[Input] = []
    for name in FILE_NAMES:
        tree = _coco()
        tree["images"][0]["file_name"] = name
        crafted += both(f"file_name {name[:20]!r}", tree)
    for height, width in SIZES:
        tree = _coco()
        tree["images"][0].update(height=height, width=width)
        crafted += both(f"{height} x {width} px", tree)
    for what, shape in SHAPES.items():
        tree = _coco()
        tree["annotations"][0]["segmentation"] = shape
        crafted += both(what, tree)
    yield from trials(stand, rng, share, crafted, one, 120)


def _xml(*names: str) -> bytes:
    objects = "".join(f"<object><name>{name}</name><difficult>0</difficult></object>" for name in names)
    return f"<annotation><filename>x</filename>{objects}</annotation>".encode()


_LAUGHS = "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 12))
_DTD = "<!DOCTYPE annotation [<!ENTITY a0 'fox'>{}]><annotation><object><name>{}</name></object></annotation>"
ENCODINGS = ("x-none", "utf-7", "idna", "rot13", "zlib", "undefined", "unicode_escape", "raw_unicode_escape")
XML = {
    "a billion laughs": _DTD.format(_LAUGHS, "&a11;").encode(),
    "quadratic": _DTD.format(f"<!ENTITY b '{'x' * 100_000}'>", "&b;" * 20_000).encode(),
    "an external entity": _DTD.format("<!ENTITY x SYSTEM 'file:///etc/passwd'>", "&x;").encode(),
    "an external parameter": _DTD.format("<!ENTITY % x SYSTEM 'file:///etc/passwd'> %x;", "fox").encode(),
    "an external DTD": b"<!DOCTYPE annotation SYSTEM 'http://127.0.0.1:9/x.dtd'>" + _xml("fox"),
    "100,000 deep": b"<annotation>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</annotation>",
    "deep and open": b"<annotation>" + b"<a>" * 10**6,
    "100,000 objects": _xml(*["fox"] * 100_000),
    "100,000 attributes": b"<annotation " + b" ".join(b"a%d='1'" % i for i in range(100_000)) + b"/>",
    "UTF-16": _xml("fox").decode().encode("utf-16"),
    "another root": b"<html/>",
    "empty": b"",
    "binary": bytes(range(256)),
    "no objects": b"<annotation/>",
    "a name of 50 MB": _xml("x" * (50 << 20)),
    "a name with escapes": _xml("&#27;[2J"),
    "a name in CDATA": _xml("<![CDATA[<script>]]>"),
    "a name in tags": _xml("<b>fox</b>"),
    **{f"encoding {name}": f"<?xml version='1.0' encoding='{name}'?>".encode() + _xml("fox") for name in ENCODINGS},
}


def xml(stand: Stand, rng: random.Random, share: float) -> Trials:
    """PASCAL VOC XML."""

    def file(content: bytes) -> Make:
        def make(folder: Path) -> list[str]:
            args = checked("xml/p0.xml", content, "--tags", "xml")(folder)
            for name, tags in ROWS[1:]:
                (folder / "xml" / f"{Path(name).stem}.xml").write_bytes(_xml(*tags))
            return args

        return make

    def one(rng: random.Random) -> Input:
        return "mutated", file(mutated(_xml("fox", "rabbit"), rng))

    yield from trials(stand, rng, share, [(what, file(content)) for what, content in XML.items()], one, 60)


LISTS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "200,000 names": b"fox\n" * 200_000,
    "a line of 10 MB": b"f" * (10 << 20),
    "300 names": b"\n".join(b"c%d" % i for i in range(300)),
    "UTF-16": "fox\nrabbit\n".encode("utf-16"),
    "a name twice": b"fox\nfox\nrabbit\n",
    "blank lines": b"fox\n\nrabbit\n",
    **{f"a name {name[:20]!r}": f"fox\nrabbit\n{name}\n".encode() for name in NAMES},
}
SPLITS = ("train", "=", "train=", "=x", "train=a=b", "../../x=tags.csv", "a.b=tags.csv", "train=/dev/null")


def lists(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Class names and lists of splits."""
    classes, listed = b"background\nfox\nrabbit\n", "\n".join(IMAGES).encode()
    given = ("--tags", "tags.csv")

    def both(what: str, content: bytes) -> list[Input]:
        return [
            (f"classes: {what}", checked("names.txt", content, *given, "--classes", "names.txt")),
            (f"list: {what}", checked("names.txt", content, *given, "--split", "train=names.txt")),
        ]

    def one(rng: random.Random) -> Input:
        return rng.choice([both("mutated", mutated(classes, rng))[0], both("mutated", mutated(listed, rng))[1]])

    crafted = [each for what, content in LISTS.items() for each in both(what, content)]
    crafted += [(f"--split {text}", checked("x", b"", *given, "--split", text)) for text in SPLITS]
    yield from trials(stand, rng, share, crafted, one, 60)


SUBMITTED = ("a", "../x", "../masks/a", "/etc/passwd", "n" * 250, "d" * 90 + "/" + "e" * 120, "a\0b", "", "\x80")
SUBMITTED += ("лиса", "a\u2028b", "=1+1", "-rf", CANARY)


def submissions(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Lists for `cian evaluate --submit`."""
    yield from trials(stand, rng, share, [(repr(name[:20]), partial(_submit, name)) for name in SUBMITTED])


def _submit(name: str, folder: Path) -> list[str]:
    for place in ("predictions", "masks"):
        (folder / place).mkdir()
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / place / "a.png")
    (folder / "list.txt").write_text(f"a\n{name}\n", encoding="utf-8")
    return ["evaluate", "--predictions", "predictions", "--list", "list.txt", "--submit", "out/s.tgz"]
