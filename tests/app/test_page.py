"""The page in a real browser: each view, at the size of a desk, a tablet and a phone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="needs `pip install playwright`")

from playwright.sync_api import Browser, Page, Request, Route, expect, sync_playwright

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
if CHROMIUM is None:
    pytest.skip("needs chromium", allow_module_level=True)

SIZES = {"desk": (1440, 900), "tablet": (1024, 768), "phone": (390, 844)}
PATIENCE = 30_000  # ms: the tests share their cores

expect.set_options(timeout=PATIENCE)
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("page") / "run"))


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "cian", "app", str(run), "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Opens the page at a view. At the end of the test, the browser must not have complained."""
    complaints: list[str] = []
    contexts = []

    def opened(view: str, size: str = "desk", answers: dict[str, Any] | None = None) -> Page:
        """
        Args:
            answers: for paths of the server, what it answers instead.
        """
        width, height = SIZES[size]
        touch = size != "desk"
        context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch, is_mobile=touch)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if _leaves(request, address) else None)
        for path, answer in (answers or {}).items():
            page.route(f"**{path}", partial(_answer, answer))
        page.goto(f"{address}#/{view}")
        return page

    yield opened
    for context in contexts:
        context.close()
    answered = re.compile("status of (409|412|422)")  # by the server, and said in the page
    assert [text for text in complaints if not answered.search(text)] == []


def _leaves(request: Request, address: str) -> bool:
    return not request.url.startswith((address.split("?")[0], "data:", "blob:"))


def _answer(answer: Any, route: Route) -> None:
    if route.request.method == "GET":
        route.fulfill(json=answer)
    else:
        route.continue_()


def _index(run: Path, name: str) -> int:
    lines = (run / "data.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split(",")[0] for line in lines].index(name)


def _draw(page: Page, *, to: float = 0.6) -> None:
    """A stroke through the middle of the image."""
    box = page.locator("canvas.stage").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.45, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * to, y, steps=5)
    page.mouse.up()


def _ready(page: Page) -> None:
    """Until the image is shown: the note over it is there from the start, and hidden then."""
    expect(page.locator(".canvas .empty")).to_have_count(1)
    expect(page.locator(".canvas .empty")).to_be_hidden()


@pytest.mark.parametrize("size", SIZES)
def test_images(open_page: Open, size: str) -> None:
    page = open_page("images", size)
    expect(page.locator(".tile")).to_have_count(12)
    expect(page.locator(".tile").first.locator('canvas:not([width="1"])')).to_be_visible()  # a mask over the image
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    rows = page.evaluate("fetch('/api/images').then((answer) => answer.json())")["images"]
    worth = min((row for row in rows if row["rank"]), key=lambda row: row["rank"])
    expect(page.locator(".tile").first).to_have_attribute("data-i", str(worth["i"]))  # the first to correct
    assert "token" not in page.url
    if size == "phone":
        page.get_by_role("button", name="Filter").click()
    page.get_by_label("Part of the name").fill("01")
    expect(page.locator(".tile")).to_have_count(3)  # 001, 010, 011
    page.get_by_role("button", name="Seed").click()
    expect(page.locator(".tile").first.locator("canvas")).to_have_count(2)
    page.get_by_label("Part of the name").fill("no such name")
    expect(page.get_by_text("No image fits these filters.")).to_be_visible()


@pytest.mark.parametrize(("size", "name"), [("desk", "010"), ("tablet", "009"), ("phone", "000")])
def test_correct(open_page: Open, run: Path, size: str, name: str) -> None:
    i = _index(run, name)
    page = open_page(f"correct/{i}", size)
    _ready(page)
    label = run / "labels" / f"{name}.png"
    page.locator("body").press("1")
    _draw(page)
    expect(page.locator(".saving")).to_have_text("Saved")
    drawn = np.array(Image.open(label))
    assert set(np.unique(drawn)) == {1, 255}, "only what was drawn is a label"
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    page.get_by_role("button", name="Redo").click()
    page.get_by_role("button", name="Approve").click()
    expect(page.locator(".head .name")).not_to_have_text(name)  # the next image
    page.go_back()
    expect(page.get_by_role("button", name="Approved")).to_be_visible()
    expect(page.locator(".saving")).to_have_text("Saved")  # is shown as approved before it is saved
    approved = np.array(Image.open(label))
    assert approved.shape == drawn.shape
    assert (approved[drawn == 1] == 1).mean() > 0.9, "the mask follows the stroke"
    assert 255 not in approved
    page.get_by_role("button", name="Approved").click()  # takes it back
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".saving")).to_have_text("")
    assert not label.exists()


@pytest.mark.parametrize("size", SIZES)
def test_learn(open_page: Open, size: str) -> None:
    about = {"running": False, "kind": "run", "stage": None, "fraction": None, "seconds_left": None, "line": None}
    learning = {**about, "running": True, "stage": "training", "fraction": 0.25, "seconds_left": 90, "error": None}
    changes = [{"i": i, "changed": 0.5 / (i + 1), "before": 40.0, "after": 60.0} for i in range(12)]
    answers = {
        "/api/learn": {**learning, "line": "loss 0.5", "round": 1},
        "/api/changes": {
            "scores": {"before": {"miou": 40.0}, "after": {"miou": 45.5}},
            "images": changes,
            "pending": 0,
        },
    }
    page = open_page("learn", size)
    expect(page.get_by_role("button", name="Learn from all labels")).to_be_visible()
    about = page.evaluate("fetch('/api/run').then((answer) => answer.json())")
    page = open_page("learn", size, {**answers, "/api/run": {**about, "rounds": 1}})
    expect(page.get_by_text("about 1 min 30 s left")).to_be_visible()
    expect(page.get_by_role("button", name="Learn from all labels")).to_be_hidden()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.locator(".figures")).to_contain_text("+5.5")
    expect(page.locator(".changes .tile")).to_have_count(12)
    expect(page.locator(".changes .tile").first).to_contain_text("50.0 % changed")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_learning_starts_and_stops(open_page: Open, run: Path) -> None:
    page = open_page(f"correct/{_index(run, '005')}")
    _ready(page)
    _draw(page)
    expect(page.locator(".saving")).to_have_text("Saved")
    page.get_by_role("link", name="Learn").click()
    page.get_by_role("button", name="Preview the seeds").click()
    expect(page.locator("progress")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Preview the seeds")).to_be_enabled()
    assert (run / "labels" / "005.png").exists()


@pytest.mark.parametrize("size", SIZES)
def test_affinity(open_page: Open, run: Path, size: str) -> None:
    page = open_page(f"affinity/{_index(run, '004')}", size)
    own = page.locator(".own .lit")
    expect(own).to_have_count(1)
    expect(page.locator(".rest .lit").first).to_be_visible()
    expect(own.locator(".ring")).to_be_visible()
    box = own.bounding_box()
    assert box is not None
    press = page.mouse.click if size == "desk" else page.touchscreen.tap
    with page.expect_response(lambda answer: "/api/affinity/" in answer.url and "x=0.1" in answer.url) as asked:
        press(box["x"] + 0.105 * box["width"], box["y"] + 0.1 * box["height"])
    assert asked.value.ok
    expect(own.locator(".ring")).to_have_attribute("style", re.compile(r"left: 1\d(\.\d+)?%; top: (9|1\d)(\.\d+)?%"))
    expect(page.locator(".own .stack i").first).to_be_attached()
    page.get_by_role("button", name="Both").click()
    expect(page.locator(".own .lit")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", SIZES)
def test_try(open_page: Open, tmp_path: Path, size: str) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(photo)
    page = open_page("try", size)
    page.locator("input[type=file]").first.set_input_files(photo)
    expect(page.get_by_role("img", name="Its mask")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Mask as label map").click()
    assert download.value.suggested_filename == "photo-mask.png"
    assert Image.open(download.value.path()).size == (80, 60)
    expect(page.get_by_role("button", name="Take a photo")).to_be_visible(visible=size != "desk")
    photo.write_bytes(b"no image")
    page.locator("input[type=file]").first.set_input_files(photo)
    expect(page.locator(".note.error")).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
def test_runs(open_page: Open, size: str) -> None:
    page = open_page("runs", size)
    expect(page.get_by_role("row").nth(1)).to_contain_text("run")
    lines = page.locator(".plot polyline")
    expect(lines).not_to_have_count(0)
    page.get_by_role("checkbox").first.uncheck()
    expect(lines).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_keys(open_page: Open, run: Path) -> None:
    name = "008"
    i = _index(run, name)
    page = open_page(f"correct/{i}")
    _ready(page)
    body = page.locator("body")
    body.press("0")
    expect(page.get_by_role("radio", name="background")).to_have_attribute("aria-checked", "true")
    body.press("u")
    expect(page.get_by_role("radio", name="not sure")).to_have_attribute("aria-checked", "true")
    size = page.get_by_label("Size of the brush")
    before = float(size.input_value())
    body.press("]")
    assert float(size.input_value()) > before
    body.press("e")
    expect(page.get_by_role("button", name="Erase")).to_have_attribute("aria-pressed", "true")
    body.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("approve and go to the next image")
    body.press("Escape")
    body.press("ArrowLeft")
    expect(page.locator(".head .name")).not_to_have_text(name)
    body.press("ArrowRight")
    expect(page.locator(".head .name")).to_have_text(name)
    _ready(page)
    body.press("p")
    box = page.locator("canvas.stage").bounding_box()
    assert box is not None
    for x, y in ((0.4, 0.4), (0.6, 0.4), (0.5, 0.6)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    body.press("Enter")  # closes the polygon, and approves nothing
    expect(page.locator(".saving")).to_have_text("Saved")
    stored = json.loads(page.evaluate("i => fetch(`/api/image/${i}/label`).then((answer) => answer.text())", i))
    assert [(each["kind"], each["class"], len(each["points"])) for each in stored["strokes"]] == [("polygon", 255, 3)]
    body.press("z")
    expect(page.locator(".saving")).to_have_text("")


def test_two_windows_do_not_lose_each_others_strokes(open_page: Open, run: Path) -> None:
    i = _index(run, "007")
    one, two = open_page(f"correct/{i}"), open_page(f"correct/{i}")
    for page in (one, two):
        _ready(page)
    _draw(one)
    expect(one.locator(".saving")).to_have_text("Saved")
    _draw(two, to=0.8)
    expect(two.get_by_text("Another window has changed this image")).to_be_visible()
    expect(two.get_by_role("button", name="Redo")).to_be_enabled()
    two.get_by_role("button", name="Redo").click()
    expect(two.locator(".saving")).to_have_text("Saved")
    strokes = two.evaluate("i => fetch(`/api/image/${i}/label`).then((answer) => answer.json())", i)["strokes"]
    assert len(strokes) == 2
    two.get_by_role("button", name="Clear").click()
    expect(two.locator(".saving")).to_have_text("")


def test_strokes_that_cannot_be_saved_stay(open_page: Open, run: Path) -> None:
    i = _index(run, "009")
    page = open_page(f"correct/{i}")
    _ready(page)
    address = f"**/api/image/{i}/label"
    page.route(address, lambda route: route.fulfill(status=409, json={"error": "The run cannot be used (disk full)."}))
    _draw(page)
    expect(page.get_by_text("disk full")).to_be_visible()
    expect(page.locator(".saving")).to_have_text("Not saved")
    page.unroute(address)
    _draw(page, to=0.8)
    expect(page.locator(".saving")).to_have_text("Saved")
    stored = json.loads((run / "app" / "strokes" / "009.json").read_text())
    assert len(stored["strokes"]) == 2
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".saving")).to_have_text("")


def test_ten_thousand_images_of_which_few_are_in_the_page(open_page: Open) -> None:
    row = {"width": 300, "height": 200, "tags": [], "found": [], "score": None, "state": "none"}
    rows = [{**row, "i": i, "id": f"{i:05d}", "rank": i, "split": "train"} for i in range(10_000)]
    page = open_page("images", answers={"/api/images": {"images": rows, "pending": 0}, "/api/image/**": {}})
    expect(page.locator('.tile[data-i="0"]')).to_be_visible()
    for end in (False, True):
        page.evaluate("end => { const box = document.querySelector('.scroller'); box.scrollTop = end ? 1e9 : 0 }", end)
        expect(page.locator(f'.tile[data-i="{9999 if end else 0}"]')).to_be_visible()
        assert page.locator(".tile").count() < 150


def test_a_name_is_only_a_text(open_page: Open, run: Path) -> None:
    hostile = "<img src=x onerror=document.title='hacked'>"
    page = open_page("images")
    answer = page.evaluate("fetch('/api/run').then((answer) => answer.json())")
    answer["name"] = hostile
    for each in answer["classes"]:
        each["name"] = hostile
    page = open_page(f"correct/{_index(run, '006')}", answers={"/api/run": answer})
    _ready(page)
    expect(page.get_by_role("radio").first).to_contain_text(hostile)
    assert "hacked" not in page.title().replace(hostile, "")
