"""Text, JSON and XML, in any encoding that users have.

Python's XML parser knows no encodings of several bytes, such as those of Chinese and Japanese Windows, so the text is
decoded here. Programs also declare UTF-8 and write paths in another encoding: what cannot be decoded becomes U+FFFD,
which no class name may hold.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cian.data.problems import file_error, reason

_DECLARED = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


# Windows-1252 gives every byte a meaning, so text of any other encoding passes as it. Letters outside ASCII tell them
# apart: in Western words they stand alone or in pairs, between other letters.
_LETTERS = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿŠšŽžŒœŸ")
_SIGNS = frozenset("’–—…€£°ºª·«»©®\u00a0")
_WORD = re.compile(r"[A-Za-z]*[^\x00-\x7f](?:[A-Za-z]|[^\x00-\x7f])*")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_NO_TEXT = "is not a text file", "Save it as text in UTF-8 (from a spreadsheet: as CSV)"
_NO_UTF8 = (
    "is not UTF-8, and its encoding cannot be told",
    "Save it as UTF-8: as `CSV UTF-8` in Excel, or with iconv -f ENCODING -t UTF-8 (e.g. SHIFT_JIS, GBK, EUC-KR)",
)


def text_encoding(path: Path) -> str:
    """The encoding of a text file: UTF-8, UTF-16 with a byte order mark (Excel's "Unicode text"), or Windows-1252 if
    its words are Western.

    Raises:
        CianError: the file cannot be read, it is not text, or its encoding is another one.
    """
    try:
        if path.exists() and not path.is_file():
            raise file_error(path, "is not a file", "Give a text file")
        with path.open("rb") as file:
            wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if wide else "utf-8-sig"
        if _decodes(path, encoding):
            return encoding
        with path.open(encoding="cp1252", errors="replace", newline="") as file:
            while not wide and (block := file.read(1 << 20)):
                _check_western(block, path)
    except FileNotFoundError:
        raise file_error(path, "no such file", "Give one that exists") from None
    except (OSError, ValueError) as error:
        raise file_error(path, f"cannot be read ({reason(error)})", "Give a readable text file") from None
    if wide:
        raise file_error(path, *_NO_TEXT)
    return "cp1252"


def _decodes(path: Path, encoding: str) -> bool:
    try:
        with path.open(encoding=encoding, newline="") as file:
            while block := file.read(1 << 20):
                if "\0" in block:
                    return False
    except UnicodeError:
        return False
    return True


def _check_western(text: str, where: Path | str) -> None:
    """
    Raises:
        FileError: bytes that were decoded as Windows-1252 are no text, or of another encoding.
    """
    if _CONTROL.search(text):
        raise file_error(where, *_NO_TEXT)
    if not all(map(_is_western, set(_WORD.findall(text)))):
        raise file_error(where, *_NO_UTF8)


def _is_western(word: str) -> bool:
    """Whether a word with letters outside ASCII is one of a Western language."""
    if len(word) == 1:
        return word in _LETTERS or word in _SIGNS
    word = word[word[0] in _SIGNS and word[1].isascii() :]
    word = word[:-1] if word[-1] in _SIGNS and word[-2:-1].isascii() else word
    others = re.findall(r"[^\x00-\x7f]+", word.replace("’", "'"))
    letters = all(letter in _LETTERS for run in others for letter in run)
    small_first = any(one.islower() and two.isupper() and not two.isascii() for one, two in itertools.pairwise(word))
    return letters and not small_first and all(len(run) < min(3, len(word)) for run in others)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        CianError: the file cannot be read, or it is not text.
    """
    with path.open(encoding=text_encoding(path)) as file:
        return file.read().split("\n")


# Characters without width that change no word: soft hyphens, zero width spaces, byte order marks, marks of direction.
_UNSEEN = {0xAD, 0x34F, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF}
_INVISIBLE = dict.fromkeys(_UNSEEN.union(range(0x202A, 0x202F), range(0x2060, 0x2065), range(0x2066, 0x206A)))
_JOINERS = "\u200c\u200d"  # in Persian, Indian scripts and emojis they change a word; at its ends they do not


def visible(text: str) -> str:
    """The text without characters that nobody sees."""
    return text if text.isascii() else text.translate(_INVISIBLE).strip().strip(_JOINERS)


def clean(text: str) -> str:
    """The text in Unicode normal form C, with single spaces and without characters that nobody sees."""
    return " ".join(unicodedata.normalize("NFC", visible(text)).split())


def decode_text(content: bytes, where: str) -> str:
    """A text of bytes, in the encodings that `text_encoding` tells apart.

    Raises:
        CianError: it is not text.
    """
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    with contextlib.suppress(UnicodeError):
        text = content.decode("utf-16" if wide else "utf-8-sig")
        if "\0" not in text:
            return text
    if wide:
        raise file_error(where, *_NO_TEXT)
    text = content.decode("cp1252", "replace")
    _check_western(text, where)
    return text


class JsonObject(list):
    """A JSON object as its (key, value) pairs, so that doubled keys are not lost."""


def parse_json(path: Path, cure: str, make: Callable[[list[tuple[str, Any]]], JsonObject] = JsonObject) -> Any:
    """The content of a JSON file.

    Args:
        cure: what to do if the file is not JSON.
        make: makes each JSON object from its (key, value) pairs.

    Raises:
        CianError: the file cannot be read, or it is not JSON.
    """
    try:
        text = path.read_text(encoding=text_encoding(path))
    except ValueError as error:
        raise file_error(path, f"is not JSON ({reason(error)})", cure) from None
    return _parse(text, path, cure, make)


def decode_json(content: bytes, where: str, cure: str) -> Any:
    """The content of JSON in bytes, as `parse_json` returns it.

    Raises:
        CianError: it is not JSON.
    """
    return _parse(decode_text(content, where), where, cure, JsonObject)


def _parse(text: str, where: Path | str, cure: str, make: Callable[[list[tuple[str, Any]]], JsonObject]) -> Any:
    try:
        return json.loads(text, object_pairs_hook=make)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":
            return _parse_lines(text, where, cure, make)
        raise file_error(where, f"is not JSON ({reason(error)})", cure) from None


def _parse_lines(text: str, where: Path | str, cure: str, make: Callable[[list[tuple[str, Any]]], JsonObject]) -> Any:
    """The values of JSON lines: one in each line that is not blank."""
    values = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip():
                values.append(json.loads(line, object_pairs_hook=make))
        except (ValueError, RecursionError) as error:
            raise file_error(f"{where}, line {number}", f"is not JSON ({reason(error)})", cure) from None
    return values


def fields(value: Any) -> dict[str, Any]:
    """The keys of a JSON object; none if it is another value."""
    return dict(value) if isinstance(value, JsonObject) else {}


def entries(value: Any) -> list[Any]:
    """The entries of a JSON list; none if it is another value."""
    return value if isinstance(value, list) and not isinstance(value, JsonObject) else []


def decode_xml(content: bytes, where: str, cure: str) -> ElementTree.Element:
    """The root of XML in bytes.

    Raises:
        FileError: it is not XML, or it defines entities, which can grow without bounds.
    """
    try:
        text = _DECLARATION.sub("", _decoded(content), count=1).strip()
        if "<!ENTITY" in text:
            raise file_error(where, "defines entities, which no annotation program does", cure)
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise file_error(where, f"is not XML ({reason(error)})", cure) from None


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    declared = _DECLARED.match(content.lstrip())
    return content.decode(declared[1].decode() if declared else "utf-8", "replace")
