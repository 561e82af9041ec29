"""The run learns again, in a process of its own."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from cian.app.learn import Learner
from cian.app.overview import Changes
from cian.app.project import Project
from cian.data.masks import read_mask
from cian.files import TEMPORARY, copy_file, read_json, write_json
from cian.runs.directory import Run
from tests.app.test_server import SIZE, encoded, mask_of


def wait(client: TestClient, seconds: float = 240) -> dict:
    """The state of the learning when it has ended."""
    end = time.monotonic() + seconds
    while (state := client.get("/api/learn").json())["running"]:
        assert time.monotonic() < end, state
        time.sleep(0.2)
    return state


def correct(client: TestClient, run: Path) -> None:
    """Approves the true mask of an image."""
    true = mask_of(client.get("/api/image/3/mask/truth"))
    body = {"strokes": [], "state": "approved", "version": 0, "mask": encoded(true)}
    assert client.put("/api/image/3/label", json=body).status_code == 200


def test_the_run_learns_from_the_labels(client: TestClient, run: Path, monkeypatch: pytest.MonkeyPatch):
    compared: list[int] = []  # when the mask was written that each comparison began with
    mask = run / "predictions/011.png"
    begin = lambda project: compared.append(mask.stat().st_mtime_ns) or Changes(project)  # noqa: E731
    monkeypatch.setattr("cian.app.site.Changes", begin)
    assert client.get("/api/changes").json() == {"scores": None, "images": [], "pending": 0}
    before = mask_of(client.get("/api/image/3/mask/prediction"))
    held_out = read_mask(run / "predictions/011.png")
    correct(client, run)
    assert client.post("/api/learn", json={"preview": False}).json()["running"]
    refused = client.post("/api/learn", json={"preview": False})
    assert refused.status_code == 409 and "learning already" in refused.json()["error"]
    seen = []
    while (state := client.get("/api/learn").json())["running"]:
        seen.append(state)
        client.get("/api/changes")  # as the page does, which is open meanwhile
        time.sleep(0.2)
    client.get("/api/changes")
    assert len(compared) > 1 and compared[0] < compared[-1] == mask.stat().st_mtime_ns, "old masks count no more"
    assert (state["error"], state["round"], state["kind"]) == (None, 1, "run")
    fractions = [each["fraction"] for each in seen]
    assert fractions == sorted(fractions) and any(0 < each < 1 for each in fractions)
    assert any(each["stage"] == "training" for each in seen)
    assert f"{run}/labels" in (run / "config.yaml").read_text() and Run(run).records()["cells"].done
    assert client.get("/api/run").json()["rounds"] == 1

    # What was before is kept, also of an image that the run itself does not predict.
    assert (mask_of(client.get("/api/image/3/mask/before")) == before).all()
    assert (mask_of(client.get("/api/image/11/mask/before")) == held_out).all()
    while len((changes := client.get("/api/changes").json())["images"]) < 3:  # image 3 is predicted again
        time.sleep(0.5)
    assert {row["i"] for row in changes["images"]} == {3, 10, 11}
    shares = [row["changed"] for row in changes["images"]]
    assert shares == sorted(shares, reverse=True)
    row = next(row for row in changes["images"] if row["i"] == 11)
    now = read_mask(run / "predictions/011.png")
    assert row["changed"] == pytest.approx((now != held_out).mean(), abs=1e-3) and row["before"] is not None
    assert set(changes["scores"]["before"]) == {"miou", "background", "blue", "red"}

    looks = [client.get(f"/api/affinity/3?x=0.5&y=0.5&before={flag}").json()["maps"] for flag in (0, 1)]
    assert [each["i"] for each in looks[0]] == [each["i"] for each in looks[1]]
    assert looks[0] != looks[1]
    assert [each["name"] for each in client.get("/api/runs").json()][:2] == ["run", "run, round 1"]


def test_a_learning_is_stopped_and_a_failure_is_said(client: TestClient, run: Path):
    correct(client, run)
    client.post("/api/learn", json={"preview": True})
    client.delete("/api/learn")
    state = wait(client)
    assert (state["error"], state["round"], state["kind"]) == (None, 0, "seed")
    assert all(record.done for record in Run(run).records().values())
    (run / "labels" / "003.png").write_bytes(b"no PNG")
    client.post("/api/learn", json={"preview": True})
    error = wait(client)["error"]
    assert "003.png" in error and "Traceback" not in error


def test_rounds(run: Path):
    """Each has a number of its own, and is whole. A preview that was stopped takes none away."""
    learner = Learner(Project(run), lambda: None)
    rounds = run / "rounds"
    (run / "predictions" / f"{TEMPORARY}x.png").write_bytes(b"half")
    learner._keep_round()
    assert [each.name for each in rounds.iterdir()] == ["1"]
    assert not list(rounds.glob(f"**/{TEMPORARY}*")) and (rounds / "1" / "predictions" / "011.png").is_file()
    (rounds / "1").rename(rounds / "7")
    (rounds / f"{TEMPORARY}8").mkdir()  # of a server that was killed
    os.utime(run / "model" / "model.safetensors", (1, 1))
    os.utime(rounds / "7" / "model" / "model.safetensors", (2, 2))
    copy_file(rounds / "7" / "model" / "model.safetensors", run / "model" / "model.safetensors")
    records = read_json(run / "stages.json")
    records["seed"]["done"] = False
    write_json(run / "stages.json", records)
    learner._keep_round()
    assert sorted(each.name for each in rounds.iterdir()) == ["7", "8"]
    records["train"]["done"] = False
    write_json(run / "stages.json", records)
    (rounds / "8").rename(rounds / "9")
    copy_file(rounds / "9" / "config.yaml", rounds / "9" / "model" / "model.safetensors")  # another model
    learner._keep_round()
    assert sorted(each.name for each in rounds.iterdir()) == ["7", "9"], "a half-trained model is not kept"


def test_progress_of_a_preview_after_a_training_that_was_stopped(run: Path):
    learner = Learner(Project(run), lambda: None)
    records = read_json(run / "stages.json")
    records["train"]["done"] = False
    write_json(run / "stages.json", records)
    write_json(run / "app" / "progress.json", {"title": "checking", "done": 1, "total": 2, "seconds_left": None})
    learner._kind = "seed"
    assert learner._progress() == ("checking", None)
    learner._kind = "run"
    assert learner._progress()[0] == "training"
    records["seed"]["done"] = False
    write_json(run / "stages.json", records)
    assert learner._progress()[0] == "seeds"


def test_another_process_that_works_on_the_run_is_left_alone(client: TestClient, run: Path):
    with Run(run).locked():
        refused = client.post("/api/learn", json={"preview": False})
    assert refused.status_code == 409 and "Another process works on this run" in refused.json()["error"]
    assert not (run / "rounds").exists()


def test_affinity(looking: TestClient):
    answer = looking.get("/api/affinity/4?x=0.25&y=0.75").json()
    assert answer["maps"][0]["i"] == 4 and len(answer["maps"]) == 6
    tags = {row["i"]: row["tags"] for row in looking.get("/api/images").json()["images"]}
    assert all(tags[each["i"]] == tags[4] for each in answer["maps"])
    for each in answer["maps"]:
        heat = np.frombuffer(base64.b64decode(each["shares"]), np.uint8)
        assert len(heat) == each["height"] * each["width"] and heat.max() == 255
        assert heat.sum() / 255 * each["scale"] == pytest.approx(1, abs=0.05)
    assert answer["cell"] == pytest.approx([0.25, 0.75], abs=0.3)
    chosen = looking.get("/api/affinity/4?x=0&y=1&others=7,9").json()["maps"]
    assert [each["i"] for each in chosen] == [4, 7, 9]
    start = looking.get("/api/affinity/4?x=0.25&y=0.75&before=1").json()["maps"]  # as the training began
    assert start[0]["scale"] != answer["maps"][0]["scale"]


def test_try(looking: TestClient, tiny_run: Path):
    data = tiny_run.parent / "data" / "images" / "003.png"
    answer = looking.post("/api/try", content=data.read_bytes()).json()
    assert (answer["width"], answer["height"]) == SIZE[::-1]
    assert all(each["name"] in ("blue", "red") and 0 < each["share"] <= 1 for each in answer["found"])
    assert base64.b64decode(answer["mask"])[:4] == b"\x89PNG" and base64.b64decode(answer["photo"])[:2] == b"\xff\xd8"
    refused = looking.post("/api/try", content=b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert refused.status_code == 422 and refused.json()["error"].startswith("This image: ")


def test_runs(looking: TestClient):
    (run,) = looking.get("/api/runs").json()
    assert not run["training"] and run["scores"]["miou"] >= 0
    assert any(name.startswith("training: ") for name in run["curves"])
    assert all(len(point) == 2 for curve in run["curves"].values() for point in curve)
