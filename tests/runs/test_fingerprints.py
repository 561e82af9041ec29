from __future__ import annotations

import hashlib

from cian.data.known_files import KnownFiles, fingerprint
from cian.data.table import Table
from cian.files import files_in, remove_temporaries
from cian.runs.fingerprints import files_digest, table_digest


def test_a_folder_has_the_digest_of_its_names_and_contents(tmp_path):
    """Runs of earlier versions have recorded this digest."""
    names = ["b/a.png", "b.png", "a/c/d.png"]
    for name in names:
        file = tmp_path / "maps" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    hashed = hashlib.sha256()
    for file in sorted(file for file in (tmp_path / "maps").rglob("*") if file.is_file()):
        hashed.update(repr((file.relative_to(tmp_path / "maps").as_posix(), fingerprint(file))).encode())
    assert files_digest(tmp_path / "maps", KnownFiles()) == hashed.hexdigest()[:16]
    (tmp_path / "maps" / "b.png").rename(tmp_path / "maps" / "c.png")
    assert files_digest(tmp_path / "maps", KnownFiles()) != hashed.hexdigest()[:16]


def test_a_table_has_the_digest_of_images_tags_and_splits(tmp_path):
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for file in files:
        file.write_text(file.name)

    def table(tags: list[list[int] | None], splits: tuple[str, str] = ("train", "val")) -> Table:
        return Table.build(["cat", "dog"], ["a", "b"], files, tags, splits)

    first = table_digest(table([[2, 1], None]))
    assert table_digest(table([[1, 2], None])) == first
    assert table_digest(Table.build(["dog", "cat"], ["a", "b"], files, [[1, 2], None], ["train", "val"])) == first
    others = [table([[1], None]), table([[1, 2], []]), table([[1, 2], None], ("train", "test"))]
    files[1].write_text("other")
    others.append(table([[1, 2], None]))
    assert len({first, *map(table_digest, others)}) == 5


def test_files_in_a_folder(tmp_path):
    for name in ("a.png", "b/c.png", "b/d/.cian-tmp-e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert sorted(files_in(tmp_path)) == ["a.png", "b/c.png", "b/d/.cian-tmp-e.png"]
    remove_temporaries(tmp_path)
    assert sorted(files_in(tmp_path)) == ["a.png", "b/c.png"]
