from __future__ import annotations

import io

import pytest
from rich.console import Console

from cian import terminal
from cian.errors import Problem
from cian.terminal import Ticker, duration, note, speak, ticking


@pytest.fixture
def shown(monkeypatch) -> io.StringIO:
    """What is written to a stderr that is no terminal."""
    file = io.StringIO()
    monkeypatch.setattr(
        terminal, "console", Console(file=file, width=40, soft_wrap=True, highlight=False, markup=False)
    )
    return file


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "under 1 s"), (8.4, "8 s"), (59.6, "1:00 min"), (200, "3:20 min"), (7500, "2:05 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


PROBLEM = Problem("tags.csv:12", "the class [fox] has only 2 images", "Add images of it, or leave it out")


def test_a_note_is_one_line_in_a_file(shown):
    note(PROBLEM)
    assert shown.getvalue() == f"note: {PROBLEM}\n"


def test_a_note_is_wrapped_between_words_on_a_terminal(monkeypatch):
    file = io.StringIO()
    console = Console(file=file, width=40, soft_wrap=True, force_terminal=True, color_system=None, markup=False)
    monkeypatch.setattr(terminal, "console", console)
    note(PROBLEM)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40 and all(line.startswith("      ") for line in lines[1:])
    assert " ".join(file.getvalue().split()) == f"note: {PROBLEM}"


def test_a_long_line_is_wrapped_and_indented_on_a_terminal_alone(monkeypatch):
    text = "  - photos/a.jpg: damaged. Replace it by an intact copy, or remove it"
    assert terminal.wrapped(text, "      ") == text
    monkeypatch.setattr(terminal, "console", Console(force_terminal=True, width=40))
    lines = terminal.wrapped(text, "      ").split("\n")
    assert [len(line) <= 40 for line in lines] == [True, True]
    assert lines[0].startswith("  - photos/a.jpg") and lines[1].startswith("      ")


def test_progress_in_a_file_is_a_line_now_and_then_and_one_at_the_end(shown, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Ticker("training", 10, done=2) as ticker:
        for _ in range(4):
            now[0] += 15
            ticker.advance(2, "loss 0.5")
    assert shown.getvalue().splitlines() == [
        "training: 6/10 · loss 0.5 · 0.133 images/s · 30 s left",
        "training: 10/10 · loss 0.5 · 0.133 images/s",
        "training: 10 images in 1:00 min",
    ]


def test_nothing_is_said_of_work_that_failed(shown):
    with pytest.raises(ValueError), Ticker("training", 10) as ticker:
        ticker.advance()
        raise ValueError
    with pytest.raises(ValueError), ticking("checking") as progress:
        progress(1, 2)
        raise ValueError
    assert shown.getvalue() == ""


def test_work_that_counts_itself(shown):
    with ticking("checking", "files") as progress:
        progress(1, 3)
        progress(3, 3)
    assert shown.getvalue() == "checking: 3 files in under 1 s\n"


def test_only_the_first_process_speaks(shown, monkeypatch):
    for aloud, rank, said in ((True, "0", True), (True, "1", False), (False, "0", False)):
        monkeypatch.setenv("RANK", rank)
        speak(aloud)
        note(PROBLEM)
        assert bool(shown.getvalue()) == said
        shown.truncate(0)
        shown.seek(0)
