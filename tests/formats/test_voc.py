"""PASCAL VOC XML as tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cian.config import DataConfig
from cian.reading.read import read_dataset
from tests.formats.devkits import xml
from tests.formats.helpers import fatal, images, only, read, tags_of, write


def read_xml(tmp_path: Path, files: dict[str, Any], names: str = "a b", **config: Any) -> Any:
    for name, content in files.items():
        write(tmp_path / "labels" / f"{name}.xml", content)
    folder = images(tmp_path / "images", names)
    return read_dataset(DataConfig(images=folder, tags=tmp_path / "labels", min_images=1, **config), 0)


def test_xml_of_any_images(tmp_path: Path) -> None:
    files = {"a": xml(["dog", "cat", "dog"], filename="b.jpg"), "x/b": xml([" red  fox "])}
    table, problems = read_xml(tmp_path, files, "a.png deep/b.jpg")
    assert not problems
    assert tags_of(table) == {"a": ("cat", "dog"), "deep/b": ("red fox",)}


def test_xml_beside_the_images(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "a x/a")
    write(folder / "a.xml", xml(["dog"]))
    write(folder / "x" / "a.xml", xml(["cat"]))
    table, problems = read_dataset(DataConfig(images=folder, tags=folder, min_images=1), 0)
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "x/a": ("cat",)}


def test_difficult_objects(tmp_path: Path) -> None:
    files = {"a": xml(["dog", "cat"], difficult=["cat"]), "b": xml(["cat", "dog"], difficult=["cat", "dog"])}
    table, _ = read_xml(tmp_path, files)
    assert tags_of(table) == {"a": ("dog",), "b": ("cat", "dog")}
    table, _ = read_xml(tmp_path, files, difficult=True)
    assert tags_of(table) == {"a": ("cat", "dog"), "b": ("cat", "dog")}


def test_an_image_without_objects(tmp_path: Path) -> None:
    files = {"a": xml(["dog"]), "b": xml([])}
    _, problems = read_xml(tmp_path, files)
    assert f"{tmp_path / 'labels'}: no tag for 1 image (b.jpg). Tag or remove it" in only(problems)
    table, problems = read_xml(tmp_path, files, untagged="negative")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "c.xml: is not XML (no element found: line 1, column 0). Export it again as PASCAL VOC XML, or remove it"),
        ("<annotation>", "c.xml: is not XML ("),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "c.xml: is not XML ("),
        ("<html/>", "c.xml: is XML of a kind that is not read (its root is 'html'). Export"),
        (
            '<annotations><image name="c.jpg"/></annotations>',
            "c.xml: is CVAT's own XML, in a folder of other files. Give this file itself",
        ),
        (
            b'<?xml version="1.0" encoding="utf-8"?>' + xml(["\u72d7"]).encode("gbk"),
            "is not in the encoding that the file",
        ),
        ("<annotation><object><pose/></object></annotation>", "c.xml: an object has no name. Export"),
        (xml(["background"]), "c.xml: the name 'background' is reserved for class id 0. Remove"),
    ],
)
def test_broken_xml(tmp_path: Path, content: str, message: str) -> None:
    _, problems = read_xml(tmp_path, {"a": xml(["dog"]), "c": content}, "a c")
    assert message in "\n".join(fatal(problems))


@pytest.mark.parametrize(
    "encoding", ["gb2312", "gbk", "gb18030", "big5", "shift_jis", "euc-kr", "iso-8859-1", "utf-16"]
)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    name = {"euc-kr": "\uac1c", "iso-8859-1": "b\xe9lier", "shift_jis": "\u72ac"}.get(encoding, "\u8c93")
    name = "\u732b" if encoding == "gb2312" else name
    text = f'<?xml version="1.0" encoding="{encoding}"?>{xml([name])}'
    table, problems = read_xml(tmp_path, {"a": text.encode(encoding), "b": b"\xef\xbb\xbf" + xml([name]).encode()})
    assert not problems
    assert tags_of(table) == {"a": (name,), "b": (name,)}


def test_a_path_in_another_encoding_does_not_matter(tmp_path: Path) -> None:
    """Programs declare UTF-8 and write the path of the image as Windows does."""
    text = "<annotation><path>C:\\\u72d7\\a.jpg</path><object><name>dog</name></object></annotation>".encode("gbk")
    table, problems = read_xml(tmp_path, {"a": text}, "a")
    assert not problems
    assert tags_of(table) == {"a": ("dog",)}


def test_other_programs(tmp_path: Path) -> None:
    """The root in upper case or with a namespace, and files called a.jpg.xml."""
    files = {
        "a.jpg": "<Annotation><Object><Name>dog</Name></Object></Annotation>",
        "b": '<annotation xmlns="http://example.org"><object><name>cat</name><difficult>False</difficult></object>'
        "</annotation>",
    }
    table, problems = read_xml(tmp_path, files)
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ("cat",)}


def test_the_file_name_in_the_xml_counts_where_the_xml_is_called_otherwise(tmp_path: Path) -> None:
    files = {"a": xml(["dog"], filename="b c.jpg"), "0001": xml(["cat"], filename="b c.jpg")}
    table, problems = read_xml(tmp_path, files, ["a", "b c.jpg"])
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b c": ("cat",)}


def test_a_single_file(tmp_path: Path) -> None:
    _, problems = read(tmp_path, xml(["dog"]), file="tags.xml")
    assert (
        f"tags.xml: is PASCAL VOC XML, which describes one image. Give the folder of all these files: {tmp_path}"
        in (only(problems))
    )


def test_xml_without_its_image(tmp_path: Path) -> None:
    files = {"a": xml(["dog"]), "gone": xml(["dog"]), "x/a": xml(["dog"]), "twice": xml(["dog"])}
    _, problems = read_xml(tmp_path, files, "a p/twice q/twice")
    text = "\n".join(fatal(problems))
    assert "gone.xml: there is no image 'gone'. Add its image, or remove the file" in text
    assert f"x/a.xml: belongs to a.jpg, as {tmp_path / 'labels' / 'a.xml'} does. Keep one of them" in text
    assert "twice.xml: several images are called 'twice'. Move it beside its image" in text


def test_folders_of_no_annotations(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    _, problems = read_xml(tmp_path, {})
    assert "labels: holds no tags in a format that cian reads. Give one of these: " in only(problems)
    _, problems = read_xml(tmp_path, {"a": xml(["dog"])}, split_column="fold")
    assert "labels: is XML, so it has no column 'fold'. Remove data.split_column; give list files" in only(problems)
