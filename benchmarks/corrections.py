"""What ten corrections in the page bring: a run on photographs from tags, ten corrected images, and what it learns.

    python benchmarks/corrections.py --data VOC [--classes boat train …] [--images 10] [--seeds 0]
        [--out runs/corrections] [--set KEY=VALUE …]

VOC is the folder that voc.py describes. The photographs are those of `train-small` with one of the classes, held out
are those of `tune`. A script does what a person would do in the page, in a real browser: it opens the images that the
page puts first, draws up to three strokes on each, one where the mask is most wrong (it knows the true mask), lets the
mask snap, approves it, and at the end presses "Learn". Screenshots of each step go to OUT.

Prints mIoU on the held-out photographs before and after, and the minutes of each step.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from drawn import middle, parts
from PIL import Image
from playwright.sync_api import APIResponse, Page, Response, ViewportSize, sync_playwright
from screenshots import served

from cian.config import Config, changed, parse_assignment
from cian.data.masks import read_mask, resize_mask
from cian.data.table import IGNORE, TRAIN
from cian.files import read_json, write_csv
from cian.pipeline.run import run_config
from cian.runs.directory import Run

STROKES = 3  # at most, on an image
WORTH = 0.01  # share of the image that is wrong in one place, from which a person draws a stroke
POINTS = 12  # of a stroke
SIZE = ViewportSize(width=1440, height=900)


def photographs(folder: Path, classes: list[str], out: Path) -> Config:
    """A user's data: images and tags of some classes, and masks of the held-out ones alone."""
    out.mkdir(parents=True, exist_ok=True)
    with (folder / "tags.csv").open(encoding="utf-8", newline="") as file:
        tags = {Path(row["image"]).stem: row["tags"].split(";") for row in csv.DictReader(file)}
    rows, held_out = [], []
    names = (folder / "classes.txt").read_text(encoding="utf-8").split()
    (out / "masks").mkdir(exist_ok=True)
    for name in ("train-small", "tune"):
        for image_id in (folder / "ImageSets" / f"{name}.txt").read_text(encoding="utf-8").split():
            if not (shown := [tag for tag in tags[image_id] if tag in classes]):
                continue
            rows.append((f"{image_id}.jpg", ";".join(shown), "train" if name == "train-small" else "val"))
            if name == "tune":
                held_out.append(image_id)
                Image.fromarray(of_classes(folder, image_id, names, classes)).save(out / "masks" / f"{image_id}.png")
    write_csv(out / "tags.csv", [("image", "tags", "split"), *rows])
    (out / "classes.txt").write_text("\n".join(["background", *classes, ""]), encoding="utf-8")
    return changed(
        Config(),
        {
            "data.images": str(folder / "JPEGImages"),
            "data.tags": str(out / "tags.csv"),
            "data.split_column": "split",
            "data.masks": str(out / "masks"),
            "data.classes": str(out / "classes.txt"),
        },
    )


def of_classes(folder: Path, image_id: str, names: list[str], classes: list[str]) -> np.ndarray:
    """The true mask with the ids of `classes`; what belongs to other classes is ignored."""
    table = np.full(256, IGNORE, np.uint8)
    table[0] = 0
    for i, name in enumerate(classes):
        table[names.index(name)] = i + 1
    return table[read_mask(folder / "SegmentationClass" / f"{image_id}.png")]


def wrong_place(shown: np.ndarray, truth: np.ndarray) -> tuple[int, np.ndarray] | None:
    """The largest connected region that has a wrong class, and its true class; None if it is not worth a stroke."""
    found = []
    for class_id in np.unique(truth[truth != IGNORE]):
        wrong = (truth == class_id) & (shown != class_id)
        found += [(int(class_id), part) for part in (parts(wrong, most=1) if wrong.any() else [])]
    class_id, region = max(found, key=lambda each: each[1].sum(), default=(0, np.zeros((1, 1), bool)))
    return (class_id, region) if region.mean() >= WORTH else None


def draw(page: Page, path: list[tuple[int, int]], shape: tuple[int, ...]) -> None:
    """A stroke along (row, column) of an image that fills the view."""
    box = page.locator("canvas.stage").bounding_box()
    assert box is not None
    scale = min(box["width"] / shape[1], box["height"] / shape[0])
    x = box["x"] + (box["width"] - shape[1] * scale) / 2
    y = box["y"] + (box["height"] - shape[0] * scale) / 2
    some = [path[i] for i in np.linspace(0, len(path) - 1, min(POINTS, len(path))).astype(int)]
    for i, (row, column) in enumerate(some):
        page.mouse.move(x + (column + 0.5) * scale, y + (row + 0.5) * scale, steps=2)
        if i == 0:
            page.mouse.down()
    page.mouse.move(x + (some[-1][1] + 0.5) * scale + 1, y + (some[-1][0] + 0.5) * scale)
    page.mouse.up()


def correct(page: Page, i: int, truth: np.ndarray, shown: np.ndarray, classes: list[str], picture: Path) -> int:
    """Corrects an image as a person would, and approves it; returns the number of strokes."""
    page.evaluate("i => { location.hash = `/correct/${i}` }", i)
    page.locator(".canvas .empty").wait_for(state="attached")
    page.locator(".canvas .empty").wait_for(state="hidden")
    count = 0
    while count < STROKES and (place := wrong_place(shown, truth)):
        count += 1
        page.get_by_role("radio", name=["background", *classes][place[0]]).click()

        def is_answer(response: Response, count: int = count) -> bool:
            sent = response.request.post_data_json if response.url.endswith("/snap") else None
            return sent is not None and len(sent["strokes"]) == count

        with page.expect_response(is_answer) as snapped:
            draw(page, middle(place[1], min(truth.shape)), truth.shape)
        page.locator(".saving", has_text="Saved").wait_for()
        shown = resize_mask(grey(snapped.value), truth.shape)
    page.screenshot(path=picture)
    name = page.locator(".head .name").inner_text()
    page.get_by_role("button", name="Approve").click()
    page.wait_for_function("name => document.querySelector('.head .name')?.textContent !== name", arg=name)
    return count


def grey(answer: Response | APIResponse) -> np.ndarray:
    """The class ids (H, W) of a mask that the page is sent."""
    return np.asarray(Image.open(io.BytesIO(answer.body())))


def corrections(run: Run, folder: Path, classes: list[str], number: int, out: Path) -> None:
    """Corrects images in the page on a run, and learns."""
    names = (folder / "classes.txt").read_text(encoding="utf-8").split()
    with served(run.path) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(120_000)
        origin = address.split("/?")[0]
        page.goto(f"{address}#/images")
        page.locator(".tile").first.wait_for()
        answer: dict[str, Any] = {"images": [], "pending": 1}
        while answer["pending"]:
            time.sleep(1)
            answer = page.evaluate("fetch('/api/images').then((answer) => answer.json())")
        rows = answer["images"]
        if all(row["rank"] is None for row in rows):
            raise SystemExit(f"{run.path}: `cian suggest` finds no order. Finish the run with `cian run` first.")
        page.screenshot(path=out / "1-images.png")
        first = sorted((row for row in rows if row["rank"] and row["split"] == TRAIN), key=lambda row: row["rank"])
        start = time.monotonic()
        counts, before, after = [], [], []
        for row in first[:number]:
            truth = of_classes(folder, row["id"], names, classes)
            shown = resize_mask(grey(page.request.get(f"{origin}/api/image/{row['i']}/mask/prediction")), truth.shape)
            counts.append(correct(page, row["i"], truth, shown, classes, out / f"2-correct-{row['id']}.png"))
            page.wait_for_timeout(1000)
            label = resize_mask(read_mask(run.path / "labels" / f"{row['id']}.png"), truth.shape)
            known = truth != IGNORE
            before.append(100 * (shown == truth)[known].mean())
            after.append(100 * (label == truth)[known].mean())
        print(f"corrected {len(counts)} images with {sum(counts)} strokes: {minutes(start)}; of their pixels right: ")
        print(f"  {np.mean(before):.1f} % before, {np.mean(after):.1f} % after", flush=True)
        start = time.monotonic()
        page.evaluate("location.hash = '/learn'")
        page.get_by_role("button", name="Learn from all labels").click()
        state = {"running": True}
        while state["running"]:
            time.sleep(2)
            state = page.evaluate("fetch('/api/learn').then((answer) => answer.json())")
        if state["error"]:
            raise SystemExit(state["error"])
        page.wait_for_timeout(3000)
        page.screenshot(path=out / "3-learned.png")
        print(f"learned in the page: {minutes(start)}")
        browser.close()


def minutes(start: float) -> str:
    return f"{(time.monotonic() - start) / 60:.1f} min"


def scores(run: Run) -> dict[str, float]:
    """mIoU on the held-out photographs of the networks, with and without CRF."""
    stages = read_json(run.metrics_file)["stages"]
    return {title: splits["val"]["miou"] for title, splits in stages.items() if "val" in splits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--classes", nargs="+", default=["aeroplane", "boat", "train", "tvmonitor"])
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/corrections"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    config = photographs(options.data, options.classes, options.out / "data")
    table = []
    for seed in options.seeds:
        run = Run(options.out / f"seed-{seed}")
        own = dict(parse_assignment(text) for text in options.settings)
        start = time.monotonic()
        run_config(changed(config, {"seed": seed, **own}), run)
        print(f"run from tags: {minutes(start)}", flush=True)
        before = scores(run)
        print(f"from tags: {json.dumps(before)}", flush=True)
        corrections(run, options.data, options.classes, options.images, options.out)
        after = scores(run)
        table.append({title: (before[title], after[title]) for title in before if title in after})
        print(json.dumps(table[-1]), flush=True)
    for title in table[0]:
        pairs = np.array([row[title] for row in table if title in row])
        gain = pairs[:, 1] - pairs[:, 0]
        print(f"{title}: {pairs[:, 0].mean():.2f} → {pairs[:, 1].mean():.2f} ({', '.join(f'{x:+.2f}' for x in gain)})")


if __name__ == "__main__":
    main()
