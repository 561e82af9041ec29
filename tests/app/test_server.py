"""Every route on a tiny run."""

from __future__ import annotations

import base64
import io
import queue
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from cian.app.network import Network
from cian.app.project import Project
from cian.app.server import build
from cian.data.masks import read_mask, write_mask
from cian.pipeline.suggest import suggest
from tests.app.conftest import HOST, TOKEN, client_of

SIZE = (40, 56)
STROKE = {"class": 2, "size": 6, "points": [[10, 10], [30, 12]], "kind": "brush"}


def mask_of(response: Any) -> np.ndarray:
    assert response.status_code == 200, response.text
    with Image.open(io.BytesIO(response.content)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.array(image)


def encoded(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_run(looking: TestClient):
    run = looking.get("/api/run").json()
    assert [each["name"] for each in run["classes"]] == ["background", "blue", "red"]
    assert run["classes"][1]["color"] == "#fc3c00"
    assert (run["images"], run["rounds"], run["saved"]) == (12, 0, {"strokes": 0, "approved": 0})
    assert run["has_truth"] and run["has_affinity"] and run["has_model"]
    assert all(stage["done"] for stage in run["stages"]) and run["stages"][0]["name"] == "classify"


def test_images(looking: TestClient):
    while (answer := looking.get("/api/images").json())["pending"]:
        pass
    rows = answer["images"]
    assert [row["i"] for row in rows] == list(range(12))
    assert rows[3] | {"found": [], "score": 0, "rank": 0} == {  # these three may be looked for still
        "i": 3, "id": "003", "width": 56, "height": 40, "tags": [2], "found": [], "score": 0,
        "state": "none", "rank": 0, "split": "train",
    }  # fmt: skip
    assert rows[11]["split"] == "val" and rows[11]["score"] is not None  # predicted by the run
    assert rows[3]["score"] is None  # not predicted yet


def test_images_have_the_order_of_suggest(client: TestClient, run: Path):
    def ranks() -> dict[str, int]:
        end = time.monotonic() + 60
        while True:
            rows = client.get("/api/images").json()["images"]
            if found := {row["id"]: row["rank"] for row in rows if row["rank"] is not None}:
                return found
            assert time.monotonic() < end

    assert ranks() == {each.id: each.rank for each in suggest(run)}
    assert "010" not in ranks()  # held out


def test_what_was_found_is_kept(run: Path):
    first = client_of(run)
    while first.get("/api/images").json()["pending"]:
        pass
    (run / "predictions" / "010.png").unlink()
    rows = client_of(run).get("/api/images").json()["images"]
    assert rows[11]["score"] is not None  # known at once


@pytest.mark.parametrize("place", ["thumb?w=160", "thumb?w=320", "photo?side=32", "photo"])
def test_an_image_is_a_jpeg(looking: TestClient, place: str):
    for _ in range(2):  # the second thumbnail is the kept one
        response = looking.get(f"/api/image/4/{place}")
        assert response.headers["content-type"] == "image/jpeg"
        image = Image.open(io.BytesIO(response.content))
        assert image.size == ((32, 23) if "32" in place and "photo" in place else (56, 40))


def test_masks(looking: TestClient, tiny_run: Path):
    assert (mask_of(looking.get("/api/image/11/mask/prediction")) == read_mask(tiny_run / "predictions/011.png")).all()
    assert (mask_of(looking.get("/api/image/3/mask/seed")) == read_mask(tiny_run / "seeds/003.png")).all()
    truth = mask_of(looking.get("/api/image/3/mask/truth"))
    assert truth.shape == SIZE and set(np.unique(truth)) == {0, 2}
    assert mask_of(looking.get("/api/image/3/mask/truth?w=28")).shape == (20, 28)
    for kind in ("label", "before"):
        response = looking.get(f"/api/image/3/mask/{kind}")
        assert (response.status_code, response.content) == (204, b"")


def test_an_image_that_the_run_does_not_predict_is_predicted(client: TestClient, run: Path):
    mask = mask_of(client.get("/api/image/3/mask/prediction"))
    assert mask.shape == SIZE and set(np.unique(mask)) <= {0, 2}  # its tag alone
    (kept,) = (run / "app" / "predictions").rglob("003.png")
    assert (read_mask(kept) == mask).all()


def test_snap(looking: TestClient):
    before = mask_of(looking.post("/api/image/3/snap", json={"strokes": []}))
    strokes = [STROKE, {**STROKE, "class": 255, "points": [[50, 30]]}, {**STROKE, "class": 1, "points": [[5, 35]]}]
    mask = mask_of(looking.post("/api/image/3/snap", json={"strokes": strokes, "base": "prediction"}))
    assert mask.shape == before.shape == SIZE
    assert mask[11, 20] == 2 and mask[30, 50] == 255
    assert mask[35, 5] == 1  # not a tag of the image, but drawn


def test_a_mask_follows_strokes_to_the_edges(looking: TestClient):
    """The network of two steps knows nothing: what the strokes say, spreads to the edge of the blob."""
    blob = mask_of(looking.get("/api/image/3/mask/truth")) == 2
    y, x = np.nonzero(blob)
    across = [[int(x.min()) + 5, int(y.mean())], [int(x.max()) - 5, int(y.mean())]]
    inside = {**STROKE, "class": 1, "size": 2, "points": across}
    beside = [{**inside, "class": 0, "points": [[2, line], [54, line]]} for line in (2, 38)]
    mask = mask_of(looking.post("/api/image/3/snap", json={"strokes": [inside, *beside]}))
    assert (mask[blob] == 1).mean() > 0.95 and (mask[~blob] == 1).mean() < 0.05


def test_erase_takes_back(looking: TestClient):
    erase = {**STROKE, "kind": "erase", "size": 60}
    masks = [
        mask_of(looking.post("/api/image/3/snap", json={"strokes": strokes}))
        for strokes in ([], [{**STROKE, "class": 1}, erase], [{**STROKE, "class": 1}])
    ]
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()


def test_a_fill_takes_a_part_of_the_mask(looking: TestClient):
    square = {**STROKE, "kind": "polygon", "class": 1, "points": [[10, 10], [30, 10], [30, 30], [10, 30]]}
    fill = {**STROKE, "kind": "fill", "class": 255, "points": [[20, 20]]}
    before = mask_of(looking.post("/api/image/3/snap", json={"strokes": [square]}))
    mask = mask_of(looking.post("/api/image/3/snap", json={"strokes": [square, fill]}))
    assert before[20, 20] == 1 and mask[20, 20] == 255
    assert ((mask == 255) <= (before == 1)).all()


def test_an_image_that_is_opened_is_ready_for_the_first_stroke(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    asked = queue.Queue[int]()
    monkeypatch.setattr(Network, "scores", lambda self, i: asked.put(i))
    client.get("/api/image/3/label")
    assert asked.get(timeout=60) == 3


def test_strokes_are_on_disk(client: TestClient, run: Path):
    answer = client.put("/api/image/3/label", json={"strokes": [STROKE], "state": "strokes", "version": 0})
    label = read_mask(run / "labels" / "003.png")
    assert label.shape == SIZE and label[11, 20] == 2 and label[30, 50] == 255  # nothing but the stroke
    stored = client.get("/api/image/3/label").json()
    assert stored == {"strokes": [STROKE], "state": "strokes", "version": answer.json()["version"]}
    assert (mask_of(client.get("/api/image/3/mask/label")) == label).all()
    again = client_of(run)
    assert again.get("/api/image/3/label").json() == stored
    assert again.get("/api/images").json()["images"][3]["state"] == "strokes"
    assert again.get("/api/run").json()["saved"] == {"strokes": 1, "approved": 0}


def test_an_approved_mask_is_on_disk_as_it_is(client: TestClient, run: Path):
    mask = np.zeros(SIZE, np.uint8)
    mask[5:20, 5:20], mask[30:] = 2, 255
    body = {"strokes": [], "state": "approved", "version": 0, "mask": encoded(mask)}
    version = client.put("/api/image/3/label", json=body).json()["version"]
    assert (read_mask(run / "labels" / "003.png") == mask).all()
    snapped = mask_of(client.post("/api/image/3/snap", json={"strokes": [], "base": "label"}))
    assert (snapped == 2).mean() == pytest.approx((mask == 2).mean(), abs=0.1)
    assert client.delete(f"/api/image/3/label?version={version}").json() == {"version": 0}
    assert not list((run / "labels").iterdir()) and client.get("/api/image/3/label").json()["state"] == "none"


def test_an_image_that_is_all_not_sure_can_be_drawn_on(client: TestClient):
    body = {"strokes": [], "state": "approved", "version": 0, "mask": encoded(np.full(SIZE, 255, np.uint8))}
    assert client.put("/api/image/3/label", json=body).status_code == 200
    mask = mask_of(client.post("/api/image/3/snap", json={"strokes": [STROKE], "base": "label"}))
    assert (mask == 2).any()


def test_labels_have_the_ids_of_the_users_own_files(run: Path):
    project = Project(run)
    project.table = replace(project.table, mask_classes=(None, "red", "blue"))  # 1 is dropped
    client = TestClient(build(project, TOKEN), base_url=HOST, cookies={"cian": TOKEN})
    client.put("/api/image/3/label", json={"strokes": [STROKE], "state": "strokes", "version": 0})
    assert read_mask(run / "labels" / "003.png")[11, 20] == 2  # red, which is class 2 of the run as well
    blue = {"strokes": [{**STROKE, "class": 1}], "state": "strokes", "version": 0}
    client.put("/api/image/4/label", json=blue)
    assert read_mask(run / "labels" / "004.png")[11, 20] == 3
    assert mask_of(client.get("/api/image/4/mask/label"))[11, 20] == 1


def test_two_windows_do_not_lose_each_others_work(client: TestClient, run: Path):
    other = client_of(run)
    body = {"strokes": [STROKE], "state": "strokes", "version": 0}
    first = client.put("/api/image/3/label", json=body).json()["version"]
    refused = other.put("/api/image/3/label", json={**body, "strokes": []})
    assert refused.status_code == 412 and "Another window" in refused.json()["error"]
    assert (refused.json()["version"], refused.json()["strokes"]) == (first, [STROKE])
    second = other.put("/api/image/3/label", json={**body, "version": first}).json()["version"]
    assert client.delete(f"/api/image/3/label?version={first}").status_code == 412
    assert client.delete(f"/api/image/3/label?version={second}").status_code == 200


def test_a_label_map_of_another_program_is_not_overwritten(client: TestClient, run: Path):
    body = {"strokes": [STROKE], "state": "strokes", "version": 0}
    seen = client.put("/api/image/3/label", json=body).json()["version"]
    theirs = np.full(SIZE, 1, np.uint8)
    write_mask(run / "labels" / "003.png", theirs)
    refused = client.put("/api/image/3/label", json={**body, "version": seen})
    assert refused.status_code == 412 and (read_mask(run / "labels" / "003.png") == theirs).all()
    label = client.get("/api/image/3/label").json()
    assert (label["state"], label["strokes"]) == ("approved", [])  # the strokes were not of this label map
    assert client.delete(f"/api/image/3/label?version={label['version']}").status_code == 200


def test_strokes_of_a_server_that_was_killed_before_it_wrote_the_label_map(client: TestClient, run: Path):
    body = {"strokes": [STROKE], "state": "strokes", "version": 0}
    version = client.put("/api/image/3/label", json=body).json()["version"]
    before = (run / "labels" / "003.png").read_bytes()
    more = [STROKE, {**STROKE, "class": 2}]
    client.put("/api/image/3/label", json={**body, "strokes": more, "version": version})
    (run / "labels" / "003.png").write_bytes(before)
    label = client_of(run).get("/api/image/3/label").json()
    assert (label["state"], len(label["strokes"])) == ("strokes", 2)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"version": 1, "state": "all", "strokes": []}', b"\xff\0", b"[" * 9999]
)
def test_a_damaged_label_file_costs_the_strokes_alone(client: TestClient, run: Path, content: bytes):
    body = {"strokes": [STROKE], "state": "strokes", "version": 0}
    client.put("/api/image/3/label", json=body)
    (run / "app" / "strokes" / "003.json").write_bytes(content)
    again = client_of(run)
    label = again.get("/api/image/3/label").json()
    assert (label["state"], label["strokes"]) == ("approved", [])  # the label map is there
    assert again.put("/api/image/3/label", json={**body, "version": label["version"]}).status_code == 200


def test_a_damaged_label_map_is_said(client: TestClient, run: Path):
    client.put("/api/image/3/label", json={"strokes": [STROKE], "state": "strokes", "version": 0})
    (run / "labels" / "003.png").write_bytes(b"no PNG")
    response = client.get("/api/image/3/mask/label")
    assert response.status_code == 422 and "003.png" in response.json()["error"]


def test_a_page_without_its_token_is_refused(looking: TestClient):
    with TestClient(looking.app, base_url="http://127.0.0.1:8000") as stranger:
        assert stranger.get("/api/run").status_code == 403
        assert stranger.get("/", params={"token": "wrong"}).status_code == 403
        assert stranger.get("/api/run", params={"token": TOKEN}).status_code == 403  # it opens the page alone


def test_a_run_without_a_model_can_be_looked_at(client: TestClient, run: Path):
    (run / "model" / "model.safetensors").unlink()
    assert not client.get("/api/run").json()["has_model"]
    assert client.get("/api/image/3/mask/prediction").status_code == 204
    response = client.post("/api/image/3/snap", json={"strokes": []})
    assert response.status_code == 409 and "no model yet" in response.json()["error"]


def test_the_server_stops_without_a_traceback_while_a_request_waits(tiny_run: Path):
    command = [sys.executable, "-m", "cian", "app", str(tiny_run), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stderr is not None
            host, token = server.stdout.readline().strip().split("/?token=")
            port = int(host.rpartition(":")[2])
            lines = ["POST /api/image/0/snap HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Cookie: cian-{port}={token}"]
            lines += [f"Origin: {host}", "Content-Type: application/json", "Content-Length: 100", "", "{"]
            with socket.create_connection(("127.0.0.1", port)) as waiting:  # which is accepted as soon as it is printed
                waiting.sendall("\r\n".join(lines).encode())
                time.sleep(1)
                server.send_signal(signal.SIGINT)
                assert server.wait(30) == 0
                assert server.stderr.read() == ""
        finally:
            server.kill()
