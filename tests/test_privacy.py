"""No command makes a connection that the user did not ask for, or leaves a file in the user's home."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import options, write_onnx

# Python runs a module of this name at each start, also in processes that a process starts.
WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments
        if isinstance(address, tuple):  # not the path of a local socket
            with open(os.environ["WATCHED"], "a") as file:
                print(event, address, file=file)

sys.addaudithook(watch)
"""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose connections are written down, and whose home is empty."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    (tmp_path / "home").mkdir()
    path = os.pathsep.join(filter(None, (str(tmp_path / "watch"), os.environ.get("PYTHONPATH"))))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    return kept | {"PYTHONPATH": path, "WATCHED": str(tmp_path / "connections"), "HOME": str(tmp_path / "home")}


def connections(tmp_path: Path, env: dict[str, str], *command: str) -> list[str]:
    """What a command tried to connect to: as Python sees it, and, where strace is installed, as the system does."""
    strace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(tmp_path / "calls")]
    if not shutil.which("strace") or subprocess.run([*strace, "true"], capture_output=True).returncode:
        strace = []
    ended = subprocess.run([*strace, *command], env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = (tmp_path / "connections").read_text().splitlines() if (tmp_path / "connections").exists() else []
    if strace:
        found += [line for line in (tmp_path / "calls").read_text().splitlines() if "AF_INET" in line]
    (tmp_path / "connections").unlink(missing_ok=True)
    return found


def test_no_command_connects(drawn, tmp_path, watched):
    data, network, out = drawn(masks=True), tmp_path / "saliency.onnx", tmp_path / "out"
    settings = {"retrain.enabled": False}
    if importlib.util.find_spec("onnxruntime"):
        write_onnx(network, "ReduceMean", axis=1)
        settings["seeds.background"] = str(network)
    classes = ["--classes", str(data / "classes.txt")]
    model, predicted = out / "model", tmp_path / "predicted"
    for command in (
        ["check", *(part for part in options(data, out, **settings) if part not in ("--out", str(out)))],
        ["run", *options(data, out, **settings)],
        ["predict", "--model", str(model), "--images", str(data / "images"), "--out", str(predicted)],
        ["evaluate", "--predictions", str(predicted), "--masks", str(data / "masks"), *classes],
    ):
        assert not connections(tmp_path, watched, sys.executable, "-m", "cian", *command), command[0]
    left = [str(file.relative_to(tmp_path / "home")) for file in (tmp_path / "home").rglob("*") if file.is_file()]
    assert not [file for file in left if "onnx" in file or "Microsoft" in file], left


def test_a_connection_is_noticed(tmp_path, watched):
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    assert connections(tmp_path, watched, sys.executable, "-c", code)
