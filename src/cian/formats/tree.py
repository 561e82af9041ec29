"""A file, a folder or a zip archive as one thing: names of files, and their contents.

Archives are read without unpacking. A file in one is refused before it is read if it would become over a hundred times
as large as it is in the archive, or if its path leads out of the archive.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from cian.data.images import KNOWN_SUFFIXES, find_files, refuse_large
from cian.data.problems import FileError, file_error, reason
from cian.errors import CianError
from cian.formats.text import decode_json, decode_text, decode_xml

_MOST_GROWTH = 100
_SMALL = 16 * 2**20  # bytes that a file may have, however small it is in the archive
_CURE = "Export it again"
_SUFFIXES = KNOWN_SUFFIXES | {".json", ".jsonl", ".xml", ".txt", ".yaml", ".yml", ".csv", ".names", ".parquet"}


class Tree:
    """The files that a user gave.

    Attributes:
        path: the file, folder or archive.
        names: of all files in it, "/"-separated and sorted. A single file is its only one. Of a folder or an
            archive, only those that can hold images or labels.

    Raises:
        FileError: the path cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self._json: dict[str, Any] = {}
        self._xml: dict[str, ElementTree.Element] = {}
        try:
            if path.is_dir():
                below = len(str(path / "_")) - 1  # slicing is ten times faster than `relative_to`
                names = [str(file)[below:].replace(os.sep, "/") for file in find_files(path, _SUFFIXES)]
            elif path.exists() and not path.is_file():  # reading a pipe would take its content away
                raise file_error(path, "is not a file", "Give a file, a folder or an archive")
            elif zipfile.is_zipfile(path):
                names = [info.filename for info in self._archive.infolist() if not info.is_dir()]
                for name in names:
                    self._check_path(name)
                names = [name for name in names if _is_wanted(name)]
            elif path.exists():
                names = [path.name]
            else:
                raise file_error(path, "no such file or folder", "Give one that exists")
        except CianError:
            raise
        except Exception as error:  # noqa: BLE001 (of a damaged archive, zipfile raises anything)
            raise file_error(path, f"cannot be read ({reason(error)})", "Give a readable file or folder") from None
        self.names = sorted(names)

    @property
    def is_archive(self) -> bool:
        return "_archive" in self.__dict__

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    def where(self, name: str) -> str:
        """The place of a file, for messages."""
        return str(self.path) if self.path.is_file() and not self.is_archive else f"{self.path}/{name}"

    def file(self, name: str) -> Path | None:
        """The path of a file; None if it lies in an archive."""
        if self.is_archive:
            return None
        return self.path / name if self.path.is_dir() else self.path

    def read(self, name: str) -> bytes:
        """
        Raises:
            FileError: the file cannot be read, or it is far larger than its archive says.
        """
        file = self.file(name)
        if file is not None:
            try:
                return file.read_bytes()
            except OSError as error:
                raise file_error(file, f"cannot be read ({reason(error)})", "Give a readable file") from None
        info = self._archive.getinfo(name)
        most = max(_SMALL, _MOST_GROWTH * info.compress_size)
        if info.file_size > most:
            value = (
                f"would unpack to {info.file_size / 2**20:.0f} MB, over {_MOST_GROWTH} times its size in the archive"
            )
            raise file_error(self.where(name), value, "Unpack the archive if you trust it, and give the folder")
        try:
            with self._archive.open(info) as stream:
                content = stream.read(most + 1)
        except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
            raise file_error(self.where(name), f"cannot be unpacked ({reason(error)})", _CURE) from None
        except Exception as error:  # noqa: BLE001 (decompressors raise errors of their own)
            raise file_error(self.where(name), f"is damaged ({reason(error)})", _CURE) from None
        return content

    def holds(self, name: str, *parts: bytes) -> bool:
        """Whether a file can be read and holds all of these bytes: to parse a large file takes long."""
        try:
            content = self.read(name)
        except FileError:
            return False
        return all(part in content for part in parts)

    def text(self, name: str) -> str:
        """
        Raises:
            FileError: the file cannot be read, or it is not text.
        """
        return decode_text(self.read(name), self.where(name))

    @contextmanager
    def png(self, name: str) -> Iterator[Image.Image]:
        """A PNG file, opened with Pillow.

        Raises:
            FileError: the file cannot be read, or it is no PNG. Also for failures within the block.
        """
        where = self.where(name)
        try:
            with Image.open(io.BytesIO(self.read(name)), formats=("PNG",)) as image:
                refuse_large(where, image.height, image.width)
                yield image
        except CianError:
            raise
        except Exception as error:  # noqa: BLE001 (Pillow's decoders raise anything for a broken file)
            raise file_error(where, f"is no PNG that can be read ({reason(error)})", _CURE) from None

    def json(self, name: str) -> Any:
        """The content of a JSON file, whose objects are `JsonObject`s. It is parsed once.

        Raises:
            FileError: the file cannot be read, or it is not JSON.
        """
        if name not in self._json:
            self._json[name] = decode_json(self.read(name), self.where(name), _CURE)
        return self._json[name]

    def forget(self, name: str) -> None:
        """Frees the memory of a file that was parsed."""
        self._json.pop(name, None)

    def json_or_none(self, name: str) -> Any:
        """The content of a JSON file; None if it is none."""
        try:
            return self.json(name)
        except FileError:
            return None

    def xml(self, name: str) -> ElementTree.Element:
        """The root of an XML file. It is parsed once.

        Raises:
            FileError: the file cannot be read, or it is not XML.
        """
        if name not in self._xml:
            self._xml[name] = decode_xml(self.read(name), self.where(name), _CURE)
        return self._xml[name]

    def ending(self, *suffixes: str) -> list[str]:
        """The names of the files with some suffixes, in lower case with their dots."""
        found = [self._by_suffix[suffix] for suffix in suffixes if suffix in self._by_suffix]
        return found[0] if len(found) == 1 else sorted(chain.from_iterable(found))

    def called(self, last: str) -> list[str]:
        """The names of the files whose last part is this one."""
        alike = self._by_suffix.get("." + last.rpartition(".")[2].lower(), [])
        return [name for name in alike if name.rpartition("/")[2] == last]

    @cached_property
    def _by_suffix(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault("." + name.rpartition(".")[2].lower(), []).append(name)
        return found

    def _check_path(self, name: str) -> None:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if name.startswith(("/", "\\")) or ".." in parts or (parts[:1] and ":" in parts[0]):
            raise file_error(self.path, f"holds a file that leads out of it, {name!r}", "Do not use this archive")


def _is_wanted(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return not hidden and PurePosixPath(name).suffix.lower() in _SUFFIXES
