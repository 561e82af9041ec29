"""README and docs: every command and every Python block is run, every link leads somewhere, every setting exists.

A block that cannot be run here has the line `<!-- not run: REASON -->` above it. Its `cian` commands are still parsed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import cian
from cian.cli import app
from cian.config import all_settings, load_config, parse_assignment
from cian.config.earlier_names import FORMER
from cian.config.listing import markdown
from cian.reading.read import read_dataset
from tests.helpers import TINY, here
from tests.workspace import ROOT, draw, make_workspace, save

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")]
PAGES += sorted(ROOT.glob("docs/*.md"))
TEXTS = [*PAGES, ROOT / "CHANGELOG.md"]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
FILE_SUFFIXES = ("py", "csv", "yaml", "json")  # `train.py` is no setting
LANGUAGES = ("bash", "python", "csv", "json", "xml", "yaml", "text")  # of code blocks
RETIRED = re.compile(
    r"\b(anew|(goes|go|went|going) on|pictures?|what is there|of its|so[- ]called)\b|, too\b", re.IGNORECASE
)

# Makes every run tiny; `retrain` stays as the command has it.
SMALL = {key: value for key, value in TINY.items() if key != "retrain.enabled"} | {
    "affinity.hidden": 8,
    "backbone.output_stride": 16,
    "classify.augment.scales": [1.0],
    "seeds.scales": [1.0],
    "seeds.crf.iterations": 1,
    "train.augment.scales": [1.0],
    "predict.mirror": False,
}


@dataclass(frozen=True)
class Block:
    """A code block of a page; `line` is where it begins."""

    page: Path
    line: int
    language: str
    text: str
    is_run: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """The code blocks of a page; only those in some languages, if these are given."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
        else:
            marked = start > 0 and NOT_RUN.fullmatch(lines[start - 1])
            text = "\n".join(lines[start + 1 : number])
            found.append(Block(page, start + 1, lines[start][3:].strip(), text, not marked))
            start = None
    assert start is None, f"{page}, line {start}: this block is not closed"
    return [block for block in found if not languages or block.language in languages]


def commands(text: str) -> list[list[str]]:
    """The words of each command in shell text, without comments and without `&` at its end."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line.removesuffix(" &"), comments=True))]


def cian_arguments(words: list[str]) -> list[str] | None:
    """What `cian` gets in a command that calls it, by itself or through torchrun; None in others."""
    if words[0] == "cian":
        return words[1:]
    place = next((i for i in range(len(words) - 1) if words[i : i + 2] == ["-m", "cian"]), None)
    return None if place is None else words[place + 2 :]


def parse(arguments: list[str]) -> None:
    """Checks the options of a command of `cian` and its settings, and runs nothing."""
    group: Any = typer.main.get_command(app)
    name, *rest = arguments
    try:
        group.commands[name].make_context(name, rest)
    except Exception as error:  # noqa: BLE001 - typer may bring its own click, whose errors have no public name
        pytest.fail(f"cian {shlex.join(arguments)}: {error!r}")
    given = [rest[i + 1] for i, word in enumerate(rest) if word == "--set"]
    load_config(None, dict(parse_assignment(text) for text in given))


def small(arguments: list[str]) -> list[str]:
    """The same command with a tiny network and few steps."""
    name = arguments[0]
    if name in ("evaluate", "coco-masks", "convert", "export", "settings", "suggest"):
        return arguments
    keys = [key for key in SMALL if name != "predict" or key.startswith(("predict.", "runtime."))]
    extra = ["--repeat", "1"] if name == "ablate" else []
    return [*arguments, *extra, *(word for key in keys for word in ("--set", f"{key}={SMALL[key]}"))]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all pages are run, with the run and the masks that README makes."""
    folder = tmp_path_factory.mktemp("workspace")
    make_workspace(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks(ROOT / "README.md", "bash"):
            run_shell(block, patch)
    return folder


def run_shell(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(block.text) if block.is_run else ():
        where = f"{block}: {shlex.join(words)}"
        arguments = cian_arguments(words)
        if arguments is not None and words[0] == "cian":
            target = Path(os.devnull)
            if arguments[-2:-1] == [">"]:
                *arguments, _, name = arguments
                target = Path(name)
            parse(arguments)
            with target.open("w", encoding="utf-8") as stream, redirect_stdout(stream):
                code = here(monkeypatch, *small(arguments))
            assert code == 0, where
            if "--json" in arguments and target.is_file():
                json.loads(target.read_text(encoding="utf-8"))
        elif words[0] == "python" and (ROOT / words[1]).is_file():
            done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{where}\n{done.stderr}"
        else:
            pytest.fail(f"{where}: cannot be run by this test. Put <!-- not run: REASON --> above the block")


def run_python(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cian.run

    def tiny_run(*args: Any, **options: Any) -> Any:
        return real(*args, **{**options, **SMALL})

    monkeypatch.setattr(cian, "run", tiny_run, raising=False)
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


def of_each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


RUN: dict[str, Callable[[Block, pytest.MonkeyPatch], None]] = {"bash": run_shell, "python": run_python}


@of_each(PAGES)
def test_commands_and_python_of_a_page_run(page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    for block in blocks(page, *RUN):
        if block.is_run:
            RUN[block.language](block, monkeypatch)


@of_each(PAGES)
def test_commands_that_are_not_run_have_valid_options(page: Path) -> None:
    for block in blocks(page, "bash"):
        for words in commands(block.text) if not block.is_run else ():
            if (arguments := cian_arguments(words)) is not None:
                parse(arguments)


def test_a_wrong_command_is_found(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    for text in (
        "cian check --images nowhere",
        "cian check --imagse photos",
        "cian check --set data.tag=x",
        "make demo",
    ):
        block = Block(ROOT / "README.md", 1, "bash", text, True)
        with pytest.raises((AssertionError, cian.CianError, pytest.fail.Exception)):
            run_shell(block, monkeypatch)


def test_every_file_of_a_run_is_explained(workspace: Path) -> None:
    page = (ROOT / "docs" / "what-comes-out.md").read_text(encoding="utf-8")
    found = [path.name for path in (workspace / "runs" / "first").iterdir() if not path.name.startswith(".")]
    assert found and not [name for name in found if f"`{name}" not in page]


def test_the_examples_of_tags_are_read(tmp_path: Path) -> None:
    """Each example in `Your images and tags` gives IMG_0001 a fox."""
    page = ROOT / "docs" / "your-images-and-tags.md"
    for name in ("IMG_0001", "IMG_0002", "IMG_0003"):
        save(tmp_path / "photos" / f"{name}.jpg", draw(("fox",), 0)[0])
    examples = blocks(page, "csv", "json", "xml")
    assert {block.language for block in examples} == {"csv", "json", "xml"}
    for number, block in enumerate(examples):
        tags = file = tmp_path / f"{number}.{block.language}"
        if block.language == "xml":
            tags, file = tmp_path / "annotations", tmp_path / "annotations" / "IMG_0001.xml"
            tags.mkdir()
        file.write_text(block.text, encoding="utf-8")
        given = {"data.images": str(tmp_path / "photos"), "data.tags": str(tags), "data.min_images": 1}
        config = load_config(None, {**given, "data.untagged": "negative"})
        table, problems = read_dataset(config.data, 0)
        assert table is not None and not [problem for problem in problems if problem.fatal], (str(block), problems)
        names = [table.class_names[tag] for tag in table.tags(table.ids.index("IMG_0001"))]
        assert "fox" in names, str(block)


@of_each(PAGES)
def test_code_blocks_say_their_language(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block
        if block.language == "yaml":
            list(yaml.safe_load_all(block.text))


@of_each(TEXTS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def prose(page: Path) -> str:
    """A page without its code blocks and comments."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


@of_each(TEXTS)
def test_no_retired_words(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", prose(page))
    assert not [match[0] for match in RETIRED.finditer(text)]


@of_each(TEXTS)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = [setting.key for setting in all_settings()]
    if page.name == "CHANGELOG.md":
        known += FORMER
    sections = {key.split(".")[0] for key in known}
    for text in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)(?:=[^`]*)?`", prose(page)):
        first, _, last = text.partition(".")
        if first in sections and last and last not in FILE_SUFFIXES:
            assert text in known or any(key.startswith(f"{text}.") for key in known), f"{page.name}: {text}"


def test_messages_that_are_explained_exist() -> None:
    page = ROOT / "docs" / "when-something-goes-wrong.md"
    said = list(messages())
    rows = re.findall(r"^\| (`.*?`) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 20
    quoted = [text for row in rows for text in re.findall(r"`([^`]*)`", row)]
    patterns = {text: ".*".join(re.escape(part) for part in text.split("…")) for text in quoted}
    assert not [text for text, found in patterns.items() if not any(re.search(found, each, re.DOTALL) for each in said)]


def messages() -> Iterator[str]:
    """Every text in the source; what is filled in is `…`."""
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_page_of_settings_is_up_to_date() -> None:
    page = ROOT / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == markdown(), "run: cian settings --markdown > docs/settings.md"


def test_contributing_maps_every_module_and_package() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "cian").iterdir():
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            name = f"{path.name}/" if path.is_dir() else path.name
            assert name.startswith("_") or f"`{name}`" in page, name


def test_every_benchmark_is_listed() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = {file.name for file in (ROOT / "benchmarks").glob("*.py")} - {"figures.py"}  # which the others import
    assert not [name for name in scripts if f"| `{name}` |" not in page]


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120 and len(text.split()) <= 900


def test_what_we_tried_is_short() -> None:
    text = (ROOT / "docs" / "what-we-tried.md").read_text(encoding="utf-8")
    assert len([word for word in text.split() if re.search(r"\w", word)]) <= 1500  # bars of tables are no words


def test_readme_leads_to_the_index_and_that_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert "(docs/index.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_configurations_load_and_their_commands_are_valid(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    load_config(file)
    found = list(comment_commands(file))
    assert any(str(file.relative_to(ROOT)) in words for words in found)
    for words in found:
        parse(words[1:])


def comment_commands(file: Path) -> Iterator[list[str]]:
    """The commands in the comments of a file: the lines that start with `cian`."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comments = "\n".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    for line in comments.replace("\\\n", " ").splitlines():
        if line.startswith("cian "):
            yield shlex.split(line, comments=True)
