"""Random changes to bytes and to trees of JSON, as damage and as malice make them."""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Iterator
from typing import Any

TOKENS = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"'", b";", b",", b"\t", b"-1", b"1e999", b"NaN")
TOKENS += (b"null", b"9" * 40, b"../../x", b"/etc/passwd", b"\xc3\x28", b"\xed\xa0\x80", b"\x1b[31m", b"{", b"}", b"[")
TOKENS += (b"]", b"<", b">", b"&", b"%s%n", b"{{7*7}}", b"A" * 5000, b"background", b"*a", b"&a", b"!!python/name:os")
TOKENS += (b"<!ENTITY x 'y'>", b"&x;", b"\\ud800", b"=cmd|' /C calc'!A0", "\u202e".encode(), "\u2028".encode())
NUMBERS = (0, 1, 65535, 10**6, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

# Values that a field of JSON should not have.
ODD: tuple[Any, ...] = (None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 10**30, 10**9, "", "x", "1", [], {})
ODD += ([1], [[]], {"a": 1}, "a\0b", "\ud800", "../../x", "/etc/x", "..", "/", "A" * 3000, "=1+1", "\x1b[2J")


def mutated(content: bytes, rng: random.Random, within: int | None = None) -> bytes:
    """The content with one to six changes, all in its first `within` bytes if that is given."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        if not data:
            break
        at = rng.randrange(min(len(data), within or len(data)))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice([0, 1, 127, 128, 255])
            case 2:
                del data[at : at + rng.choice([1, 2, 4, 30])]
            case 3:
                data[at:at] = data[at : at + rng.choice([1, 8, 60])] * rng.choice([1, 2, 50])
            case 4:
                del data[at:]
            case 5:
                data[at : at + rng.choice([0, 1, 4])] = rng.choice(TOKENS)
            case 6:
                data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(NUMBERS))
    return bytes(data)


def spoiled(tree: Any, rng: random.Random) -> tuple[Any, str]:
    """A tree of maps and lists in which one value is replaced or removed, and what was done to it."""
    changed = copy.deepcopy(tree)
    *parents, last = rng.choice([place for place in _places(tree) if place])
    node = changed
    for key in parents:
        node = node[key]
    where = ".".join(map(str, (*parents, last)))
    if rng.random() < 0.2:
        del node[last]
        return changed, f"without {where}"
    node[last] = rng.choice(ODD)
    return changed, f"{where} = {str(node[last])[:20]!r}"


def _places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield from _places(tree[key], (*path, key))
