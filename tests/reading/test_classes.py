"""Class names: from a file, from tags, and what the settings make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cian.config import dump_config, flatten, load_config, parse_assignment
from cian.data.table import IGNORE, MAX_CLASSES
from cian.errors import CianError
from cian.formats.class_names import class_names
from tests.formats.helpers import PETS_CSV, fatal, only, read, tags_of, write


def test_class_names(tmp_path: Path) -> None:
    assert class_names(write(tmp_path / "a", "background\n dog \ncat\n\n")) == ["dog", "cat"]
    assert class_names(write(tmp_path / "b", "dog\r\nhot  dog")) == ["dog", "hot dog"]
    for content, message in {
        "": "holds no class name. Write",
        "background": "holds no class name",
        "dog\n\ncat": "b, line 2: an empty line, but each line is a class id",
        "dog\nbackground": "b, line 2: the name 'background' is reserved",
        "dog\ndog": "b, line 2: class 'dog' occurs twice",
        b"\0": "is not a text file",
    }.items():
        with pytest.raises(CianError) as caught:
            class_names(write(tmp_path / "b", content))
        assert message in str(caught.value)


def test_long_names(tmp_path: Path) -> None:
    """The time to read a line of 10 MB is not to grow with its square."""
    with pytest.raises(CianError, match="line 2: has 10,000,000 letters"):
        class_names(write(tmp_path / "classes.txt", "dog\n" + "c" * 10**7))
    _, problems = read(tmp_path, "image,tags\na.jpg,dog\nb.jpg," + "c" * 300)
    assert "has 300 letters, and the name of a class has at most 200" in fatal(problems)[0]


@pytest.mark.parametrize(
    "content",
    [
        "0 background\n1 cat\n2 hot dog\n",
        "0: background\n1: cat\n2: hot dog\n",
        "2: hot dog\n1: cat\n0: Background\n",
        "1. cat\n2. hot dog\n",
        "1\tcat\n2\thot dog\n",
        "Pixel Value, Class\n0, background\n1, cat\n2, hot dog\n",
        "name,id\nbackground,0\ncat,1\nhot dog,2\n",
        "cat=1\nhot dog=2\n",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:48,112,32::\nhot dog:176,112,32::\n",
        "__ignore__\n_background_\ncat\nhot dog\n",
        "cat\u200b\n\ufeffhot\u00ad dog\n",
    ],
)
def test_class_files_of_other_tools(tmp_path: Path, content: str) -> None:
    """Background is id 0, wherever its line is, and numbers are ids."""
    assert class_names(write(tmp_path / "classes.txt", content)) == ["cat", "hot dog"]


def test_names_that_begin_with_a_number(tmp_path: Path) -> None:
    for names in (
        ["2 wheels", "4 wheels"],
        ["1 euro", "2 euro"],
        ["background", "1 cat", "2 dog"],
        ["1 cat"],
        ["7", "8"],
    ):
        expected = names[1:] if names[0] == "background" else names
        assert class_names(write(tmp_path / "classes.txt", "\n".join(names))) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 cat\n1 dog\n", "line 1: class 'cat' has the id 0, which is that of background. Number classes from 1"),
        ("0 cat\n1 dog\n2 background\n", "line 1: class 'cat' has the id 0"),
        ("cat\ndog\nbackground\n", "line 3: the name 'background' is reserved for class id 0"),
        ("0 background\n1 cat\n5 dog\n", "names background and numbers, but the numbers are not 0, 1, 2, …"),
        ("# my classes\ncat\ndog\n", "line 1: '# my classes' looks like a comment, but each line"),
        ("class\ncat\ndog\n", "line 1: 'class' looks like a header, but each line is a class id. Remove"),
        ('{"names": ["cat"]}', "is not a list of class names. Write one"),
        ("names:\n- cat\n", "is not a list of class names"),
        ("cat\nNone\n", "line 2: the name 'None' is that of a missing value"),
        ("background:0,0,0::\ncat:0,128,0::\ndog:128,0,0::\n", "gives 'cat' the colour of id 2 in PASCAL VOC's masks"),
    ],
)
def test_class_files_that_would_shift_ids(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(CianError) as caught:
        class_names(write(tmp_path / "classes.txt", content))
    assert message in str(caught.value)


def test_characters_that_nobody_sees_make_no_classes(tmp_path: Path) -> None:
    rows = "image,tags\na,cat\nb,cat\u200b\n\u200ec,\ufeffcat;c\u00adat\nd,\u2066cat\u2069\n"
    table, problems = read(tmp_path, rows)
    assert not problems and tags_of(table) == dict.fromkeys("abcd", ("cat",))
    joined = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # Persian: without the joiner it is another word
    table, problems = read(tmp_path, f"image,tags\na,{joined}\nb,{joined}\u200c\n", "a b")
    assert not problems and tags_of(table) == {"a": (joined,), "b": (joined,)}


@pytest.mark.parametrize("word", ["nan", "None", "N/A", "NA", "NULL", "<NA>", "-"])
def test_words_for_missing_values_are_no_classes(tmp_path: Path, word: str) -> None:
    for content, file in ((f"image,tags\na,cat\nb,{word}\n", "tags.csv"), ({"a": "cat", "b": word}, "tags.json")):
        _, problems = read(tmp_path, content, "a b", file)
        assert "no tag for 1 image (b.jpg)" in "\n".join(fatal(problems))
        table, problems = read(tmp_path, content, "a b", file, untagged="negative")
        assert tags_of(table) == {"a": ("cat",), "b": ()}
        assert f"{word!r} is read as no tag. Give it another name" in only(problems, is_fatal=False)
    _, problems = read(tmp_path, {"a": ["cat"], "b": [word]}, "a b", "tags.json")
    assert f"entry 2: the name {word!r} is that of a missing value. Leave the tag empty" in "\n".join(fatal(problems))


def test_classes_file_sets_the_order(tmp_path: Path) -> None:
    classes = write(tmp_path / "classes.txt", "background\ndog\ncat\n")
    table, problems = read(tmp_path, PETS_CSV, classes=classes)
    assert not problems
    assert table is not None
    assert table.class_names == ("background", "dog", "cat")
    assert table.tags(0).tolist() == [1]


def test_tags_outside_the_classes(tmp_path: Path) -> None:
    classes = write(tmp_path / "classes.txt", "dog\ncat\n")
    table, problems = read(
        tmp_path, PETS_CSV + "a,cta\nb,DOG\nb,yak\n".replace("a,", "e,"), "a b c d e", classes=classes
    )
    text = "\n".join(fatal(problems))
    assert f"tags.csv, line 6: tag 'cta' is not in {classes} (did you mean 'cat'?). Correct the tag, or add" in text
    table, problems = read(tmp_path, PETS_CSV + "e,DOG\nf,yak\nf,Background\n", "a b c d e f", classes=classes)
    text = "\n".join(fatal(problems))
    assert "(did you mean 'dog'?)" in text
    assert f"line 7: tag 'yak' is not in {classes}. Correct" in text
    assert "line 8: 'f' had other tags before ('yak', now 'Background')" in text
    assert table is not None
    assert table.classes == ("dog", "cat")
    _, problems = read(tmp_path, PETS_CSV + "e,Background\n", "a b c d e", classes=classes)
    assert "line 6: the name 'Background' is reserved for class id 0" in only(problems)


def test_too_many_classes(tmp_path: Path) -> None:
    names = [f"{i:03}" for i in range(255)]
    table, problems = read(tmp_path, "image,tags\n" + "".join(f"{name},c{name}\n" for name in names), names)
    assert table is None
    assert "255 classes, but masks hold at most 254. Merge" in only(problems)
    table, problems = read(tmp_path, "image,tags\n" + "".join(f"{name},c{name}\n" for name in names[:254]), names)
    assert table is not None
    assert table.num_classes == 255


def test_warnings_about_tags(tmp_path: Path) -> None:
    _, problems = read(tmp_path, 'image,tags\na,Dog\nb,dog\nc,"cat, dog"\n', "a b c")
    assert not fatal(problems)
    text = "\n".join(map(str, problems))
    assert "line 3: classes 'Dog' and 'dog' differ only in case. If they are one class, write them alike" in text
    assert "or set data.merge={Dog: dog}" in text
    assert "line 4: the tag 'cat, dog' holds ','. If these are several tags, set data.separator=','" in text


@pytest.mark.parametrize(
    ("tags", "sign", "joined"),
    [
        (["cat", "dog", "cat/dog"], "/", "cat/dog"),
        (["cat", "dog", "dog + cat"], "+", "dog + cat"),
        (["cat", "dog", "cat & dog"], "&", "cat & dog"),
        (["cat", "dog", "cat and dog"], " and ", "cat and dog"),
        (["cat", "dog", "cat_dog"], "_", "cat_dog"),
        (["cat、dog", "dog"], "、", "cat、dog"),
        (["clear primary", "clear primary water", "haze primary", "cloudy"], " ", "clear primary"),
        (["cat dog", "dog cat"], " ", "cat dog"),
    ],
)
def test_tags_that_look_like_several(tmp_path: Path, tags: list[str], sign: str, joined: str) -> None:
    rows = "image,tags\n" + "".join(f"{i},{tag}\n" for i, tag in enumerate(tags))
    table, problems = read(tmp_path, rows, [str(i) for i in range(len(tags))])
    text = f"the tag {joined!r} holds {sign!r}. If these are several tags, set data.separator='{sign}'"
    assert text in only(problems, is_fatal=False)
    table, problems = read(tmp_path, rows, [str(i) for i in range(len(tags))], separator=sign)
    assert table is not None and not problems
    assert not any(sign in name for name in table.classes)


def test_names_of_several_words_are_no_several_tags(tmp_path: Path) -> None:
    names = ["hot dog", "dog", "bald eagle", "golden eagle", "golden retriever", "black-and-white cat", "his/hers"]
    table, problems = read(tmp_path, {str(i): [name] for i, name in enumerate(names)}, "0 1 2 3 4 5 6", "tags.json")
    assert table is not None and table.classes == tuple(sorted(names)) and not problems


@pytest.mark.parametrize(
    "cell",
    [
        "['dog', 'hot \\'cat']", '["dog", "hot \'cat"]', '[ "dog",\n"hot \'cat" ]', "['dog' \"hot 'cat\"]",
        "{dog,hot 'cat}", "[dog, hot 'cat]", "[dog;hot 'cat]", "('dog', \"hot 'cat\")",
        "dog\nhot 'cat", "dog\r\nhot 'cat\r\n",
        "[\"\\u0064og\", \"hot 'cat\"]",
    ],
)  # fmt: skip
def test_lists_in_a_cell(tmp_path: Path, cell: str) -> None:
    quoted = cell.replace('"', '""')
    table, problems = read(tmp_path, f'image,tags\na,"{quoted}"\nb,[]\n', "a b", untagged="negative")
    assert tags_of(table) == {"a": ("dog", "hot 'cat"), "b": ()}
    assert not fatal(problems)


def test_lists_of_something_else_are_no_classes(tmp_path: Path) -> None:
    _, problems = read(tmp_path, 'image,tags\na,"[{""label"": ""cat""}, 3"\n', "a")
    assert "looks like part of a list, not like a class name. Write several tags as" in "\n".join(fatal(problems))


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    _, problems = read(tmp_path, {"a": ["do\x07g"], "b": ["\ud800"], "c": ["cat"]}, "a b c", "tags.json")
    text = "\n".join(map(str, problems))
    assert "entry 1: 'do\\x07g' is not a class name" in text
    assert "entry 2: '\\ud800' is not a class name" in text
    text.encode()


def test_a_class_that_no_training_image_shows(tmp_path: Path) -> None:
    classes = write(tmp_path / "classes.txt", "cat\ndog\nyak\n")
    _, problems = read(tmp_path, PETS_CSV, classes=classes)
    assert "class 'yak' has 0 training images, fewer than 1" in only(problems)
    table, problems = read(tmp_path, PETS_CSV, classes=classes, min_images=0)
    assert table is not None and table.classes == ("cat", "dog", "yak") and not fatal(problems)


def test_rare_classes(tmp_path: Path) -> None:
    _, problems = read(tmp_path, PETS_CSV + "e,bird\n", "a b c d e", min_images=3)
    assert "tags.csv, line 6: class 'bird' has 1 training image, fewer than 3. Add images" in only(problems)
    _, problems = read(tmp_path, PETS_CSV, min_images=4)
    assert len(fatal(problems)) == 2


ROWS = "image,tags\na,dog\nb,dog;cat\nc,puppy\nd,unicorn\ne,cat;unicorn\n"


def test_dropped_classes(tmp_path: Path) -> None:
    """Their tags go, and with them the images that show nothing else."""
    table, problems = read(tmp_path, ROWS, "a b c d e", drop=("unicorn", " puppy "))
    assert tags_of(table) == {"a": ("dog",), "b": ("cat", "dog"), "e": ("cat",)}
    assert table is not None and table.classes == ("cat", "dog")
    note = "settings: data.drop leaves 2 images (c.jpg, d.jpg) without a tag, which will not be used. Add another tag"
    assert note in only(problems, is_fatal=False)


def test_merged_classes(tmp_path: Path) -> None:
    table, problems = read(tmp_path, ROWS, "a b c d e", merge={"puppy": "dog", "unicorn": "horse"})
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ("cat", "dog"), "c": ("dog",), "d": ("horse",), "e": ("cat", "horse")}
    table, problems = read(tmp_path, ROWS, "a b c d e", merge={"cat": "dog", "puppy": "dog"}, drop="unicorn")
    assert tags_of(table) == {"a": ("dog",), "b": ("dog",), "c": ("dog",), "e": ("dog",)}


def test_dropping_is_the_cure_of_a_rare_class(tmp_path: Path) -> None:
    _, problems = read(tmp_path, ROWS, "a b c d e", min_images=2)
    (text,) = fatal(problems)
    assert (
        "class 'puppy' has 1 training image, fewer than 2. Add images, leave the class out (data.drop=[puppy]), make"
        in text
    )
    assert "make it part of another class (data.merge={puppy: OTHER}), or lower data.min_images" in text
    for cure in ({"drop": ["puppy"]}, {"merge": {"puppy": "dog"}}):
        table, problems = read(tmp_path, ROWS, "a b c d e", min_images=2, **cure)
        assert table is not None and not fatal(problems)


def test_classes_of_a_file_are_dropped_and_merged(tmp_path: Path) -> None:
    """The ids in masks stay those of the file; what they stand for changes."""
    classes = write(tmp_path / "classes.txt", "background\nunicorn\npuppy\ncat\ndog\n")
    table, problems = read(tmp_path, ROWS, "a b c d e", classes=classes, drop=["unicorn"], merge={"puppy": "dog"})
    assert not fatal(problems)
    assert table is not None and table.classes == ("dog", "cat")  # puppy has become dog, at its place
    assert table.mask_ids is not None
    assert table.mask_ids[[0, 1, 2, 3, 4, IGNORE]].tolist() == [0, IGNORE, 1, 2, 1, IGNORE]
    assert set(table.mask_ids[5:IGNORE].tolist()) == {MAX_CLASSES}  # no class: still to be found out
    rows = ROWS.replace("dog", "hound")  # a tag that the file does not have, merged into one that it has
    table, problems = read(tmp_path, rows, "a b c d e", classes=classes, merge={"hound": "dog"})
    assert table is not None and not fatal(problems)
    assert tags_of(table)["a"] == ("dog",)
    assert read(tmp_path, ROWS, "a b c d e", classes=classes)[0].mask_ids is None  # type: ignore[union-attr]


def test_mask_ids_without_a_file_of_classes(tmp_path: Path) -> None:
    """Then masks hold the ids of all tags in alphabetical order, as without the settings."""
    table, _ = read(tmp_path, ROWS, "a b c d e", drop=["cat"], merge={"unicorn": "animal"})
    assert table is not None and table.classes == ("animal", "dog", "puppy") and table.mask_ids is not None
    assert table.mask_ids[:5].tolist() == [0, IGNORE, 2, 3, 1]  # cat, dog, puppy, unicorn
    assert table.select([0]).mask_classes == table.mask_classes == (None, "dog", "puppy", "animal")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"drop": ["unicron"]},
            "data.drop names 'unicron', which is no class of the data (did you mean 'unicorn'?). Corr",
        ),
        ({"merge": {"pupy": "dog"}}, "data.merge names 'pupy', which is no class of the data (did you mean 'puppy'?)"),
        ({"drop": ["dog"], "merge": {"puppy": "dog"}}, "class 'dog' is in data.drop and in data.merge. Name it in one"),
        ({"drop": ["dog"], "merge": {"dog": "cat"}}, "class 'dog' is in data.drop and in data.merge"),
        (
            {"merge": {"puppy": "dog", "dog": "cat"}},
            "data.merge merges 'puppy' into 'dog', which is itself merged into",
        ),
        ({"merge": {"puppy": "background"}}, "data.merge: the name 'background' is reserved for class id 0"),
        ({"drop": ["dog", "cat", "puppy", "unicorn"]}, "names no image that exists"),
    ],
)
def test_problems_of_dropping_and_merging(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    _, problems = read(tmp_path, ROWS, "a b c d e", **settings)
    assert any(message in text for text in fatal(problems)), problems


def test_a_new_class_that_looks_like_a_typing_error_is_noted(tmp_path: Path) -> None:
    table, problems = read(tmp_path, ROWS, "a b c d e", merge={"puppy": "dgo"})
    assert table is not None and "dgo" in table.classes
    assert "data.merge makes a new class 'dgo' (did you mean 'dog'?). Correct" in only(problems, is_fatal=False)


def test_names_of_classes_may_be_numbers(tmp_path: Path) -> None:
    config = load_config(None, {"data.drop": 3, "data.merge": {1: 2}})
    assert (config.data.drop, config.data.merge) == (("3",), {"1": "2"})
    assert load_config(write(tmp_path / "config.yaml", yaml.safe_dump(dump_config(config)))) == config
    assert parse_assignment("data.merge={puppy: dog}") == ("data.merge", {"puppy": "dog"})
    assert flatten(dump_config(config))["data.merge"] == {"1": "2"}
