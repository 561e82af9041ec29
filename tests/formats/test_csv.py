"""CSV in any layout becomes the same rows, and everything that is wrong is reported with its line."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from cian.config import DataConfig
from cian.data.table import TRAIN
from cian.files import write_csv
from cian.formats.columns import split_tags
from cian.reading.read import read_dataset
from tests.formats.helpers import PETS, PETS_CSV, fatal, images, only, read, splits_of, tags_of, write


@pytest.mark.parametrize(
    "content",
    [
        PETS_CSV,
        PETS_CSV.replace(",", "\t"),
        PETS_CSV.replace(",", ";"),
        PETS_CSV.replace("\n", "\r\n"),
        PETS_CSV.replace("\n", "\r"),
        PETS_CSV.encode("utf-8-sig"),
        PETS_CSV.encode("utf-16"),
        PETS_CSV.replace(".jpg", ""),
        PETS_CSV.replace(".jpg,", ".jpg , "),
        PETS_CSV.removeprefix("image,tags\n"),
        "\n\n" + PETS_CSV.replace("\n", "\n\n"),
        ";;\n" + PETS_CSV.replace(",", ";"),
        "sep=;\n" + PETS_CSV.replace(",", ";"),
        "sep=,\r\n" + PETS_CSV.removeprefix("image,tags\n").replace("\n", "\r\n"),
        'IMAGE,"Labels"\n"a.jpg","dog"\n"b.jpg","cat"\n"c.jpg","dog;cat"\n"d.jpg","; cat;;dog;cat "\n',
        "tags;when;filename\ndog;1;a.jpg\ncat;2;b.jpg\n'dog';3;c.jpg\ncat;4;d.jpg\n".replace(
            "'dog'", '"dog;cat"'
        ).replace("cat;4", '"cat;dog";4'),
        ",image,tags\n0,a.jpg,dog\n1,b.jpg,cat\n2,c.jpg,dog;cat\n3,d.jpg,dog;cat\n",
        "photo,animals\na.jpg,dog\nb.jpg,cat\nc.jpg,dog;cat\nd.jpg,dog;cat\n",
        "image,cat,dog\na.jpg,0,1\nb.jpg,1,0\nc.jpg,1,1\nd.jpg,1,1\n",
        "image;cat;dog\na.jpg;no;yes\nb.jpg;TRUE;False\nc.jpg;x;X\nd.jpg;1.0;1\n",
        "cat,dog,id\n,x,a\nx,,b\nx,x,c\nx,x,d\n",
        "image,cat,,dog\na.jpg,0,junk,1\nb.jpg,1,,0\nc.jpg,1,,1\nd.jpg,1,,1\n",
        "image,tag\na.jpg,dog\nb.jpg,cat\nc.jpg,dog\nd.jpg,dog\nd.jpg,cat\nc.jpg,cat\nc.jpg,cat\n",
        "a.jpg,dog\nb.jpg,cat\nc.jpg,dog\nc.jpg,cat\nd.jpg,dog\nd.jpg,cat\n",
    ],
)
def test_csv(tmp_path: Path, content: str | bytes) -> None:
    table, problems = read(tmp_path, content)
    if "when" in str(content):
        assert "these columns are not used: 'when'" in only(problems, is_fatal=False) and not fatal(problems)
    else:
        assert not problems
    assert tags_of(table) == PETS
    assert table is not None
    assert table.classes == ("cat", "dog")
    assert set(table.splits) == {TRAIN}
    assert table.images[0] == tmp_path / "images" / "a.jpg"


def test_one_class_of_flags(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,dog\na,1\nb,0\nc,1\nd,1\n", untagged="negative")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": (), "c": ("dog",), "d": ("dog",)}


@pytest.mark.parametrize("separator", [",", "|", " ", " and "])
def test_separator(tmp_path: Path, separator: str) -> None:
    table, _ = read(tmp_path, f'image,tags\na,"dog{separator}cat"\n', "a", separator=separator)
    assert tags_of(table) == {"a": ("cat", "dog")}


@pytest.mark.parametrize(("on_disk", "in_file"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_any_language(tmp_path: Path, on_disk: str, in_file: str) -> None:
    names = [unicodedata.normalize(on_disk, name) for name in ("été", "犬", "x/Ödland")]
    rows = unicodedata.normalize(in_file, "image,tags\nété.jpg,chien écossais\n犬.jpg,柴犬\nÖdland,سگ\n")
    table, problems = read(tmp_path, rows, names)
    assert not problems
    assert tags_of(table) == {"été": ("chien écossais",), "犬": ("柴犬",), "x/Ödland": ("سگ",)}


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("label,photo\nfox,1.jpg\nyak,2.jpg\nfox,0.jpg\n", None),
        ("fox,1.jpg\nyak,2.jpg\nfox,0.jpg\n", None),
        ("fox,4,5,60,70,1.jpg,128,96\nyak,4,5,60,70,2.jpg,128,96\nfox,4,5,60,70,0.jpg,128,96\n", None),
        ("image,tag\n1,fox\n2,yak\n0,fox\n", None),
        ("photo,fox,yak\n1,1,0\n2,0,1\n0,1,0\n", None),
        ("n,photo,label\nI,1,fox\nII,2,yak\nIII,0,fox\n", "these columns are not used: 'n'"),
        (
            ",photo,label\n0,1.jpg,fox\n1,2.jpg,yak\n2,0.jpg,fox\n",
            "columns 1 and 'photo' are names of images",
        ),
        ("id,photo,label\n0,1.jpg,fox\n1,2.jpg,yak\n2,0.jpg,fox\n", "columns 'id' and 'photo' are names of images"),
        ("image_id,file_name,fox,yak\n0,1.jpg,1,0\n1,2.jpg,0,1\n2,0.jpg,1,0\n", "column 'file_name' is used"),
        ("photo,image,label\n0.jpg,1,fox\n1.jpg,2,yak\n2.jpg,0,fox\n", "column 'image' is used. If it is the wrong"),
        ("1.jpg;fox\n2.jpg;yak\n0.jpg;fox;fox\n", None),
    ],
)
def test_the_column_of_images_is_found_by_its_cells(tmp_path: Path, content: str, note: str | None) -> None:
    """Images are called 0, 1 and 2, as row numbers and flags are. 0 and 1 show a fox, 2 shows a yak."""
    table, problems = read(tmp_path, content, "0 1 2")
    assert tags_of(table) == {"0": ("fox",), "1": ("fox",), "2": ("yak",)}
    assert not fatal(problems)
    assert note in "\n".join(map(str, problems)) if note else not problems


def test_several_tags_in_rows_without_a_header(tmp_path: Path) -> None:
    table, _ = read(tmp_path, "a.jpg;dog;cat\nb.jpg;dog\n", "a b")
    assert tags_of(table) == {"a": ("cat", "dog"), "b": ("dog",)}
    for content in ("a.jpg,dog,cat\n", "TRAIN,gs://bucket/a.jpg,dog\n"):
        _, problems = read(tmp_path, content, "a")
        assert "has no header, and its first line" in only(problems)
        assert "has 3 columns. Add a header line that calls the columns of images and tags" in only(problems)


def test_a_guessed_column_of_images_is_named(tmp_path: Path) -> None:
    _, problems = read(tmp_path, "species,where\nfox,x\nyak,y\n", "a b")
    text = "\n".join(map(str, problems))
    assert "no column names images that exist; column 'species' is read as the images. Call" in text
    assert "line 2: there is no image 'fox'" in text


def test_windows_1252(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,tags\na,écureuil\n".encode("cp1252"), "a")
    assert tags_of(table) == {"a": ("écureuil",)}
    assert "tags.csv: is not UTF-8, read as Windows-1252. Save it as UTF-8" in only(problems, is_fatal=False)


@pytest.mark.parametrize("encoding", ["shift_jis", "gbk", "euc-kr", "big5", "cp1251", "cp1253", "cp1250", "cp437"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    """Windows-1252 decodes them as well, to other names."""
    words = {"shift_jis": "猫 自転車", "gbk": "自行车 天", "euc-kr": "고양이 개", "big5": "貓 狗", "cp1251": "кот ёж"}
    words |= {"cp1253": "γάτα", "cp1250": "łoś żaba", "cp437": "Café écureuil"}
    rows = "image,tags\n" + "".join(f"{i}.jpg,{word}\n" for i, word in enumerate(words[encoding].split()))
    for file in ("tags.csv", "tags.json"):
        _, problems = read(tmp_path, rows.encode(encoding), "0 1", file)
        message = f"{file}: is not UTF-8, and its encoding cannot be told. Save it as UTF-8: as `CSV UTF-8` in Excel"
        assert message in only(problems)


def test_western_words_in_windows_1252(tmp_path: Path) -> None:
    words = [
        "chien écossais",
        "Grüße",
        "créée",
        "n°1",
        "l’été",
        "São Paulo",
        "MÜLLER",
        "Zoë",
        "Île",
        "à",
        "Foto – Kopie",
    ]
    rows = "image,tags\n" + "".join(f"{i}.jpg,{word}\n" for i, word in enumerate(words))
    table, problems = read(tmp_path, rows.encode("cp1252"), [str(i) for i in range(len(words))])
    assert tags_of(table) == {str(i): (word,) for i, word in enumerate(words)} and not fatal(problems)


def test_our_own_tables_are_read_back(tmp_path: Path) -> None:
    """`write_csv` puts an apostrophe before what a spreadsheet takes for a formula."""
    names = images(tmp_path / "images", ["-1.jpg", "b.jpg"])
    write_csv(tmp_path / "tags.csv", [("image", "class"), ("-1.jpg", "=cmd"), ("b.jpg", "'=x")])
    table, problems = read_dataset(DataConfig(images=names, tags=tmp_path / "tags.csv", min_images=1), seed=0)
    assert not problems
    assert tags_of(table) == {"-1": ("=cmd",), "b": ("'=x",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "tags.csv: is empty. Start it with the line `image,tags`"),
        (" \n\n", "tags.csv: is empty"),
        (",,,\n;;;", "tags.csv: its first line ';;;' has only one column"),
        (",,,\n\t\t", "tags.csv: is empty"),
        ("image,tags\n", "tags.csv: holds no rows. Start it"),
        ("image\na.jpg\n", "tags.csv: its first line 'image' has only one column. Start"),
        ("a.jpg dog\n", "has only one column"),
        (b"image,tags\na.jpg,d\0g\n", "tags.csv: is not a text file. Save it as text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is not a text file"),
        (b"\xff\xfea", "is not a text file"),
        ("image,tags\na.jpg,dog,cat\n", "line 2: has 3 cells, but the first line has 2. Separate tags by ';'"),
        ("x" * 200_000, "tags.csv, line 1: is not CSV (field larger"),
        ("image,cat,dog\na.jpg,1\n", "line 2: has 2 cells, but the first line has 3"),
        (
            "image,cat,dog\na.jpg,1,maybe\n",
            "line 2: column 'dog' holds 'maybe', neither 0 nor 1. If each column",
        ),
        ("image,cat,cat\na.jpg,1,1\n", "column 'cat' occurs twice. Remove"),
        ("image,cat,dog\na,1,0\nb,-1,1\n", "line 3: the columns of classes hold 0 and -1, so it is not clear what"),
        ("image,cat,dog\na,.9,.1\n", "line 2: column 'cat' holds '.9', neither 0 nor 1"),
        ("image,class0,class1\na,.9,.1\n", "line 2: column 'class0' holds '.9', neither 0 nor 1"),
        (
            "image,split,dog\na,train,1\nb,val,0\n",
            "column 'split' says which images are held out. Set data",
        ),
        (
            "ImageID,LabelName,Confidence\na,dog,0.8\n",
            "line 2: the column of confidences holds '0.8', which",
        ),
        ("image,\na.jpg,\n", "its header 'image, ' has no column of tags"),
        ("image,tags\n,dog\n", "line 2: names no image. Add"),
        (
            'image,tags\na.jpg,"' + "x" * 200_000,
            "is not CSV (field larger than field limit (131072)). Look for a quote",
        ),
    ],
)
def test_bad_csv(tmp_path: Path, content: str | bytes, message: str) -> None:
    _, problems = read(tmp_path, content)
    assert any(message in text for text in fatal(problems)), problems


def test_split_column(tmp_path: Path) -> None:
    rows = "image,Fold,tags\na,train,dog\nb, train ,cat\nc,held out,dog\nd,held out,\n"
    table, problems = read(tmp_path, rows, split_column="fold")
    assert not problems
    assert splits_of(table) == {"a": "train", "b": "train", "c": "held out", "d": "held out"}
    assert tags_of(table)["d"] is None
    table, problems = read(
        tmp_path, "image,fold,dog\na,train,1\nb,val,0\n", "a b", split_column="fold", untagged="negative"
    )
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ()}
    rows_json = [{"image": "a", "tags": "dog", "fold": "train"}, {"image": "b", "tags": "dog", "fold": "val"}]
    table, problems = read(tmp_path, rows_json, "a b", "tags.json", split_column="fold")
    assert splits_of(table) == {"a": "train", "b": "val"}


def test_problems_of_the_split_column(tmp_path: Path) -> None:
    _, problems = read(tmp_path, PETS_CSV, split_column="fold")
    assert "tags.csv: has no column 'fold' (its columns: 'image, tags'). Correct data.split_column" in only(problems)
    _, problems = read(tmp_path, PETS_CSV.removeprefix("image,tags\n"), split_column="fold")
    assert "tags.csv: has no header, so no column 'fold'. Add" in only(problems)
    rows = "image,tag,fold\na,dog,train\na,cat,val\nb,dog,\n"
    _, problems = read(tmp_path, rows, "a b", split_column="fold")
    text = "\n".join(fatal(problems))
    assert "line 3: 'a' is also in split 'train'. Keep" in text
    assert "line 4: 'b' has no split. Write" in text
    _, problems = read(tmp_path, {"a": "dog"}, "a", "tags.json", split_column="fold")
    assert "is a map, so it has no column 'fold'" in only(problems)
    _, problems = read(tmp_path, [{"image": "a", "tags": "dog"}], "a", "tags.json", split_column="fold")
    assert "entry 1: 'a' has no 'fold'" in fatal(problems)[0]


def test_unused_columns_are_noted(tmp_path: Path) -> None:
    for name, content in (
        ("tags.csv", "image,tags,split\na,dog,train\nb,cat,val\n"),
        (
            "tags.json",
            '[{"image": "a", "tags": ["dog"], "split": "train"}, {"image": "b", "tags": ["cat"], "split": "val"}]',
        ),
    ):
        folder = images(tmp_path / "images", "a b")
        _, problems = read_dataset(
            DataConfig(images=folder, tags=write(tmp_path / name, content), min_images=1), seed=0
        )
        (note,) = [str(problem) for problem in problems]
        assert f"{name}: these columns are not used: 'split'. If one of them says which images are held out" in note


@pytest.mark.parametrize(
    "content",
    [
        "image;dog;cat\na.jpg;1,0;0,0\nb.jpg;0,0;1,0\n",
        "image,dog,cat\na.jpg,Y,n\nb.jpg,N,y\n",
        "image|tags\na.jpg|dog\nb.jpg|cat\n",
        'image,id,choice,annotator\na.jpg,1,dog,7\nb.jpg,2,"{""choices"": [""cat""]}",7\n',
        'image,label\na.jpg,"[{""x"": 1, ""rectanglelabels"": [""dog""]}]"\nb.jpg,"[{""brushlabels"": [""cat""]}]"\n',
        "image_id,dog,cat\na.jpg,1,-1\nb.jpg,-1,1\n",
        "image,dog,cat\na.jpg,✓,-\nb.jpg,nan,✔\n",
        "image,dog,cat,,\na.jpg,1,0\nb.jpg,0,1,,,\n",
        "ImageID,Source,LabelName,Confidence\na,verification,dog,1\na,crowd,cat,0\nb,verification,cat,1\n",
        "image,label,class_name\na.jpg,0,dog\nb.jpg,1,cat\n",
        "image,tag1,tag2,tag3\na.jpg,dog,,\nb.jpg,cat,cat,\n",
        "Image Name,Label #1,Label #2\na.jpg,dog,\nb.jpg,cat,cat\n",
        "id,labels/0,labels/1\na.jpg,dog,\nb.jpg,,cat\n",
        "image,tag,tag\na.jpg,dog,\nb.jpg,cat,\n",
        "Export of 1 December\n\n,,animals,\nimage,,dog,cat\na.jpg,1,1,0\nb.jpg,2,0,1\n",
        '"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",1,2,3,4,"dog"\n"b.jpg",1,2,3,4,"cat"\n',
    ],
)
def test_csv_of_programs(tmp_path: Path, content: str) -> None:
    """Excel where the comma is the decimal sign, questionnaires, bars, Label Studio, CelebA, Open Images, titles above
    the header, and VoTT."""
    table, problems = read(tmp_path, content, "a b")
    assert not fatal(problems)
    assert tags_of(table) == {"a": ("dog",), "b": ("cat",)}


def test_spaces_before_quotes(tmp_path: Path) -> None:
    table, problems = read(tmp_path, 'image, tags\n"a.jpg", "dog"\n"b.jpg", "cat;dog"\n', "a b")
    assert tags_of(table) == {"a": ("dog",), "b": ("cat", "dog")} and not problems


def test_names_that_are_hardly_classes_are_noted(tmp_path: Path) -> None:
    _, problems = read(tmp_path, "image,tags\na,147 616\nb,3\nc,Unlabeled\n", "a b c")
    text = "\n".join(map(str, problems))
    assert "line 2: the tag '147 616' holds ' '. If these are several tags, set data.separator=' '" in text
    assert "the class 'Unlabeled' sounds like images without tags. If it is none, leave it out (data.drop" in text


def test_rows_above_the_header_are_noted(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "Export of 1 December\nimage,tags\na,dog\n", "a")
    assert tags_of(table) == {"a": ("dog",)}
    assert "tags.csv: 1 row above the header is left out ('Export of 1 December'). Write" in only(problems, False)


@pytest.mark.parametrize(
    "cell",
    [
        "array(['cat', 'dog'], dtype=object)",
        "np.array(['cat' 'dog'])",
        "frozenset({'cat', 'dog'})",
        "Index(['cat', 'dog'])",
    ],
)
def test_lists_as_python_shows_them(cell: str) -> None:
    assert split_tags(cell, ";") == ("cat", "dog")
    assert split_tags("cat (large); dog", ";") == ("cat (large)", "dog")
