"""Screenshots of the page for the documentation: `python benchmarks/screenshots.py runs/demo`.

It draws on an image of the demo, and takes that back at the end.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).resolve().parents[1] / "docs"
MOST = 150_000  # bytes of a file
CORRECTED, LOOKS = 208, 203  # images of the demo
DESK, PHONE = (1280, 800), (390, 844)


def images(page: Page) -> None:
    page.get_by_label("Sort").select_option("name")
    page.get_by_role("button", name="Truth", exact=True).click()
    page.locator(".scroller").evaluate("box => { box.scrollTop = box.scrollHeight * 0.85 }")
    page.wait_for_timeout(500)
    while page.locator('.tile canvas[width="1"]').count():  # a mask that has not come yet
        page.wait_for_timeout(500)


def correct(page: Page) -> None:
    page.locator(".canvas .empty").wait_for(state="hidden")
    if page.get_by_role("button", name="Undo").is_disabled():
        page.keyboard.press("4")
        page.mouse.move(390, 400)
        page.mouse.down()
        page.mouse.move(450, 403, steps=6)
        page.mouse.up()
    page.get_by_text("Saved", exact=True).wait_for()
    page.mouse.move(2, 2)
    page.wait_for_timeout(500)


def affinity(page: Page) -> None:
    page.locator(".rest .lit").nth(2).wait_for()
    page.wait_for_timeout(2000)


def runs(page: Page) -> None:
    page.locator(".plot polyline").first.wait_for()


# The name of the file, the view, the size, whether it is dark, and what is done before the screenshot.
SHOTS = [
    ("page-images", "images", DESK, False, images),
    ("page-correct", f"correct/{CORRECTED}", DESK, False, correct),
    ("page-affinity", f"affinity/{LOOKS}", DESK, True, affinity),
    ("page-runs", "runs", DESK, False, runs),
    ("page-phone", f"correct/{CORRECTED}", PHONE, True, correct),
]


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of the page on a run, while it is served."""
    command = [sys.executable, "-m", "cian", "app", str(run), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def save(png: bytes, file: Path) -> None:
    """As WebP, with the best quality that fits."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (90, 80, 70, 60, 50, 40):
        picture.save(file, quality=quality, method=6)
        if file.stat().st_size <= MOST:
            return
    raise SystemExit(f"{file}: has more than {MOST} bytes.")


def main(run: Path) -> None:
    with served(run) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for name, view, (width, height), dark, ready in SHOTS:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            page.goto(f"{address}#/{view}")
            ready(page)
            save(page.screenshot(), DOCS / f"{name}.webp")
            if name == SHOTS[-1][0]:
                page.get_by_role("button", name="Clear").click()
                page.get_by_text("Saved", exact=True).wait_for(state="hidden")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
