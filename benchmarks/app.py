"""`cian app` on a run of 10,000 images: how fast it opens, snaps to a stroke, and shows where a pixel looks.

    python benchmarks/app.py [--images 10000] [--work DIR]

The images are drawn, 320 × 240 px, and so are the masks; the network is the default one, with random weights.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
from figures import figure
from PIL import Image

import cian
from cian.build import build_network
from cian.config import absolute, changed, dump_config
from cian.data.masks import indexed
from cian.files import copy_file
from cian.inference.segmenter import Segmenter
from cian.pipeline.run import versions
from cian.reading.read import read_dataset
from cian.runs.directory import Run

OPENS, ANSWERS = 2.0, 300.0  # s and ms
CLASSES = [f"class {i}" for i in range(1, 21)]


def draw_run(folder: Path, count: int) -> Path:
    """A run that looks finished, on drawn images."""
    images, run = folder / "images", Run(folder / "run")
    if run.begun:
        return run.path
    images.mkdir(parents=True, exist_ok=True)
    (run.path / "predictions").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["image,tags"]
    for i in range(count):
        kind = i % len(CLASSES)
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(images / f"{i:05d}.jpg")
        mask = np.zeros((240, 320), np.uint8)
        mask[40:200, 60 + i % 90 : 230] = kind + 1
        indexed(mask).save(run.path / "predictions" / f"{i:05d}.png")
        rows.append(f"{i:05d}.jpg,{CLASSES[kind]}")
    (folder / "tags.csv").write_text("\n".join(rows), encoding="utf-8")
    given = {"data.images": str(images), "data.tags": str(folder / "tags.csv")}
    config = absolute(changed(cian.load_config(), given))
    table, problems = read_dataset(config.data, config.seed)
    assert table is not None, problems
    Segmenter(build_network(config, table.num_classes, weights="random"), config, table.class_names).save(run.model)
    copy_file(run.model / "model.safetensors", run.folder("train") / "model.safetensors")
    run.write_config(dump_config(config), versions())
    run.write_table(table)
    run.forget()
    return run.path


def first_answer(run: Path) -> float:
    """Seconds from the command to the first list of all images."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "cian", "app", str(run), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        host, token = address.split("/?token=")
        request = urllib.request.Request(
            f"{host}/api/images", headers={"Cookie": f"cian-{host.split(':')[-1]}={token}"}
        )
        with urllib.request.urlopen(request) as answer:
            answer.read()
        seconds = time.perf_counter() - start
        process.terminate()
    return seconds


def milliseconds(work: Callable[[int], object], count: int) -> list[float]:
    times = []
    for i in range(count):
        start = time.perf_counter()
        work(i)
        times.append(1000 * (time.perf_counter() - start))
    return times


def measure(run: Path) -> None:
    from starlette.testclient import TestClient

    from cian.app.project import Project
    from cian.app.server import build

    client = TestClient(build(Project(run), "token"), base_url="http://localhost", cookies={"cian": "token"})

    def get(url: str) -> bytes:
        response = client.get(url)
        assert response.status_code == 200, response.text
        return response.content

    def snap(i: int, image: int = 0) -> bytes:
        points = [[20 + 3 * i, 20], [60, 40 + 5 * i]]
        strokes = [{"class": i % 4, "size": 9, "kind": "brush", "points": points}]
        return client.post(f"/api/image/{image}/snap", json={"strokes": strokes}).raise_for_status().content

    while client.get("/api/images").json()["pending"]:
        time.sleep(1)
    figure("the list of all images, as JSON", milliseconds(lambda i: get("/api/images"), 5), "ms", digits=0)
    figure("a thumbnail, new", milliseconds(lambda i: get(f"/api/image/{100 + i}/thumb"), 50), "ms", digits=0)
    figure("a thumbnail, kept", milliseconds(lambda i: get(f"/api/image/{100 + i}/thumb"), 50), "ms", digits=0)
    snap(0)
    for i in range(7):  # a person looks at an image before the first stroke
        get(f"/api/image/{1 + i}/label")
        time.sleep(2)
    figure("a mask snaps, first stroke", milliseconds(lambda i: snap(0, 1 + i), 7), "ms", most=ANSWERS, digits=0)
    figure("a mask snaps", milliseconds(lambda i: snap(i), 30), "ms", most=ANSWERS, digits=0)
    get("/api/affinity/0?x=0.5&y=0.5")
    firsts = milliseconds(lambda i: get(f"/api/affinity/{20 * i + 1}?x=0.5&y=0.5"), 10)
    figure("a pixel looks, 6 new images", firsts, "ms", digits=0)
    looks = milliseconds(lambda i: get(f"/api/affinity/1?x={i / 30}&y=0.5"), 30)
    figure("a pixel looks, in 6 images", looks, "ms", most=ANSWERS, digits=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--work", type=Path, help="where to draw the run; it is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = draw_run(options.work or Path(temporary), options.images)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        measure(run)
        figure(f"`cian app` answers, {options.images} images", [first_answer(run) for _ in range(3)], "s", most=OPENS)


if __name__ == "__main__":
    main()
