"""A thousand hostile requests, made from a seed. None gets what it should not, none breaks the server, and none makes
it open a file that is not its own."""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from cian.app.project import Project
from cian.app.server import build
from cian.app.strokes import MOST_POINTS, MOST_STROKES
from tests.app.conftest import HOST, TOKEN, client_of

SECRET = "the-secret-outside-of-the-run"
MOST_MEMORY = 2 * 2**30  # bytes
_opened: list[str] | None = None  # files that were opened since a test asked


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        name = arguments[0]
        _opened.append(name if isinstance(name, str) else name.decode(errors="replace"))


@pytest.fixture(scope="module")
def watched() -> list[str]:
    """The names of all files that are opened."""
    global _opened
    sys.addaudithook(_note)
    _opened = []
    return _opened


@pytest.fixture(scope="module")
def server(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with secrets beside it."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(tiny_run, root / "run")
    (root / "secret.txt").write_text(SECRET, encoding="utf-8")
    Image.fromarray(np.full((40, 56), 2, np.uint8)).save(root / "secret.png")
    return root / "run"


@pytest.fixture(scope="module")
def attacked(server: Path) -> TestClient:
    return TestClient(build(Project(server), TOKEN), base_url=HOST, raise_server_exceptions=False)


@dataclass
class Attack:
    """A request, and whether it may succeed, as one with odd but harmless values does."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    content: Any = None
    may_pass: bool = False
    token: bool = True


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"", *more: bytes, depth: int = 8, colour: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif(frames: int) -> bytes:
    file = io.BytesIO()
    images = [Image.new("P", (20, 20), i % 3) for i in range(frames)]
    images[0].save(file, format="GIF", save_all=True, append_images=images[1:])
    return file.getvalue()


def bombs() -> list[bytes]:
    zeros = zlib.compress(bytes(20_000_000), 9)
    return [
        png(60_000, 60_000, zeros),
        png(2**31 - 1, 2**31 - 1, zeros),
        png(0, 5),
        png(300, 300, zeros),
        png(20, 20, zeros, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))),
        png(20, 20, zeros, *[chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(30_000_000), 9))] * 3),
        png(9_000, 9_000, zeros, depth=16, colour=6),
        gif(200),
        b"P6 99999 99999 255\n",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 90_000, 90_000, 1, 24, 0, 0, 0, 0, 0, 0),
        b"II*\0" + struct.pack("<IH", 8, 40_000) + bytes(100),
        b"RIFF\xff\xff\xff\x7fWEBPVP8X" + bytes(40),
    ]


UPLOADS = [
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    b"<!doctype html><script>alert(1)</script>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999999 9999999\n(/etc/passwd) (r) file\n",
    b"%PDF-1.7\n1 0 obj<</OpenAction 1>>",
    b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30000, 30000, 8, 3),
    b"SIMPLE  =                    T" + b" " * 50 + b"NAXIS1  = 99999999" + b" " * 200,
    b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    b"\x80\x04\x95" + b"cos\nsystem\n(S'id'\ntR.",
    b"PK\x03\x04" + bytes(60),
    b"\x1f\x8b\x08" + bytes(60),
    b"#!/bin/sh\nid\n",
    b"../../secret.png",
    b"",
    b"\xff\xd8\xff\xe0" + bytes(200),
    bytes(1000),
]
PATHS = [
    "../secret.txt", "../../secret.txt", "..%2fsecret.txt", "%2e%2e/%2e%2e/secret.txt", "..%5c..%5csecret.txt",
    "....//....//secret.txt", "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "C:%5cwindows%5cwin.ini",
    "file:///etc/passwd", "0/../../secret.png", "0%00.png", "..;/secret.txt", "%252e%252e%252fsecret.txt",
    "%c0%ae%c0%ae/secret.txt", "~/.ssh/id_rsa", "/proc/self/environ", "..%ef%bc%8fsecret.txt", "\\\\server\\share",
    "http://127.0.0.1:1/", "-1", "1e1", "1.0", "٣", "²", "0x3", " 3", "+3", "9" * 11, "9" * 5000, "null", "",
    "index.html/../../__init__.py", "../server.py", "..%2fserver.py", "%2e%2e%2fanswers.py", ".", "..", "*", "?x",
]  # fmt: skip
HOSTS = [
    "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example",
    "evil.example#127.0.0.1", "127.0.0.1:8000:8000", "127.0.0.1:80a", "", " ", "[::1", "2130706433", "0177.0.0.1",
    "localhost\t.evil", "127.0.0.1/evil", "xn--localhost", "a" * 5000, "127.0.0.1,evil.example", "::1:x",
]  # fmt: skip
ORIGINS = [
    "http://evil.example", "null", "file://", "http://127.0.0.1:9999", "http://localhost:8000", "https://evil.example",
    "http://127.0.0.1", "http://127.0.0.1:8000.evil.example", "http://127.0.0.1:8000@evil.example", "*", " ",
    "http://127.0.0.1:8000, http://evil.example", "chrome-extension://abcdef", "HTTP://127.0.0.1:8000/",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1e308, -1e308, 2**53 + 1, 10**30, 0.5, "", "3", "../secret.png", [], {}, [[]], [None],
    [{}], {"a": 1}, "\ud800", "\0", "<script>", [1] * 50, {"points": []}, "NaN", "Infinity",
]  # fmt: skip
POINTS: list[Any] = [
    [[0, 0]], [[1e6, 1e6]], [[-1e6, 5], [1e6, 5]], [[1e300, 0]], [["1", "2"]], [[1]], [[1, 2, 3]], [1, 2], [None], "ab",
    [[True, False]], [[0.1, 0.2]] * 2000, [[[1, 2], 3]], [[10**400, 0]], [{}], [[1e-300, -0.0]],
]  # fmt: skip


def raw(value: Any) -> bytes:
    """JSON, with what Python calls JSON: NaN, and numbers of any length."""
    return json.dumps(value).encode()


def body(random: random.Random) -> bytes:
    """A body of strokes or of a label that is wrong in some place."""
    stroke = {"class": 1, "size": 5, "kind": "brush", "points": [[5, 5], [20, 20]]}
    field = random.choice(["class", "size", "kind", "points", "points"])
    stroke[field] = random.choice(POINTS if field == "points" else VALUES)
    tree = {"strokes": [stroke], "state": "strokes", "version": 0, "base": "prediction", "mask": ""}
    if random.random() < 0.6:
        tree[random.choice(list(tree))] = random.choice(VALUES)
    choice = random.random()
    if choice < 0.1:
        return raw(tree).replace(b"5", random.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"00", b"5" * 5000]))
    if choice < 0.2:
        return raw(tree)[: random.randrange(60)]
    if choice < 0.25:
        return random.choice([b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"\0" * 100, b'"x"', b"123", b"[]"])
    return raw(tree)


PLACES = [
    "/static/{}", "/api/image/{}/photo", "/api/image/{}/thumb", "/api/image/{}/mask/truth", "/api/image/{}/label",
    "/api/image/3/mask/{}", "/api/affinity/{}?x=0&y=0", "/api/affinity/3?x=0&y=0&others={}", "/{}", "/api/{}",
    "/api/image/3/thumb?w={}", "/api/image/3/photo?side={}", "/api/image/3/mask/truth?w={}", "/?token={}",
    "/api/affinity/3?x={}&y=0", "/api/image/3/photo?path={}",
]  # fmt: skip
COOKIES = [
    "", "cian=", "cian=wrong", f"other={TOKEN}", "cian", ";;;=;", f"cian={TOKEN[:-1]}", "cian=é", "\x7f=\x01",
]  # fmt: skip
QUERIES = ["", "?token=", "?token=wrong", f"?token={TOKEN}x", "?token=a&" + "token=a&" * 50, f"?Token={TOKEN}"]
METHODS = ["PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PUT", "DELETE", "POST", "GET", "X" * 100]
KINDS = ["image/png", "text/html", "application/json", "multipart/form-data"]
HEADERS = [
    ("x-forwarded-host", "evil.example"), ("x-original-url", "/etc/passwd"), ("range", "bytes=0-99999999999"),
    ("content-encoding", "gzip"), ("transfer-encoding", "chunked, chunked"), ("content-length", "-1"),
    ("content-length", "9" * 40), ("content-type", "a" * 9000), ("accept-encoding", "\x00"), ("te", "trailers"),
    ("x-http-method-override", "DELETE"), ("if-none-match", "*"), ("expect", "100-continue"),
    ("cookie", "a=b; " * 3000), ("accept", "*/*, " * 2000), ("upgrade", "websocket"), ("x" * 500, "y" * 9000),
]  # fmt: skip
ADDRESSES = ["/api/run", "/api/images", "/api/image/3/photo", "/api/learn", "/api/runs", "/static/app.js", "/"]


def paths(dice: random.Random) -> Iterator[Attack]:
    for _ in range(260):
        place, path = dice.choice(PLACES), dice.choice(PATHS)
        harmless = path in ("", "?x", ".", "..", "*") or "?" in place
        yield Attack("GET", place.format(path), may_pass=harmless, token="token={}" not in place)


def other_sites(dice: random.Random) -> Iterator[Attack]:
    for _ in range(140):
        site = {"sec-fetch-site": dice.choice(["cross-site", "same-site", "evil"])}
        headers = dice.choice([{"host": dice.choice(HOSTS)}, {"origin": dice.choice(ORIGINS)}, site])
        yield Attack(dice.choice(["GET", "POST", "DELETE", "PUT"]), dice.choice(ADDRESSES), headers)


def strangers(dice: random.Random) -> Iterator[Attack]:
    for _ in range(120):
        address = dice.choice(ADDRESSES) + dice.choice(QUERIES)
        method = dice.choice(["GET", "POST", "PUT", "DELETE", "HEAD"])
        yield Attack(method, address, {"cookie": dice.choice(COOKIES)}, token=False)
    yield Attack("GET", f"/api/run?token={TOKEN}", token=False)
    yield Attack("POST", f"/?token={TOKEN}", token=False)


def bodies(dice: random.Random) -> Iterator[Attack]:
    for _ in range(300):
        method, place = dice.choice([("POST", "/api/image/3/snap"), ("PUT", "/api/image/3/label")])
        yield Attack(method, place, content=body(dice), may_pass=True)
    for value in VALUES:
        if not isinstance(value, bool):
            yield Attack("POST", "/api/learn", content=raw({"preview": value}))
    many = [{"class": 1, "size": 1, "kind": "brush", "points": [[1, 1]]}] * (MOST_STROKES + 1)
    long = [{"class": 1, "size": 1, "kind": "brush", "points": [[1, 1]] * (MOST_POINTS + 1)}]
    heavy = [{"class": 1, "size": 200, "kind": "brush", "points": [[0, 0], [1000, 1000]] * 500}]
    fills = [{"class": i % 3, "size": 0, "kind": "fill", "points": [[i % 56, 5]]} for i in range(300)]
    for strokes in (many, long, heavy, fills):
        yield Attack("POST", "/api/image/3/snap", content=raw({"strokes": strokes}))


def uploads(dice: random.Random) -> Iterator[Attack]:
    for content in [*UPLOADS, *bombs()]:
        passes = content[:3] == b"GIF" or content[:4] == b"\x89PNG"
        for headers in ({}, {"content-type": dice.choice(KINDS)}):
            yield Attack("POST", "/api/try", headers, content, passes)
        tree = {"strokes": [], "state": "approved", "version": 0, "mask": base64.b64encode(content).decode()}
        yield Attack("PUT", "/api/image/3/label", content=raw(tree))


def oddities(dice: random.Random) -> Iterator[Attack]:
    for method in METHODS:
        for address in ("/api/run", "/api/images", "/api/image/3/snap", "/static/x", "/api/try", "/"):
            yield Attack(method, address, may_pass=method == "GET" and address in ("/api/run", "/api/images", "/"))
    for _ in range(100):
        name, value = dice.choice(HEADERS)
        content = dice.choice([None, b"{}", b"x" * 5000])
        address = dice.choice([*ADDRESSES[:3], "/api/try"])
        yield Attack(dice.choice(["GET", "POST"]), address, {name: value}, content, may_pass=True)


def attacks() -> Iterator[Attack]:
    dice = random.Random(0)
    for make in (paths, other_sites, strangers, bodies, uploads, oddities):
        yield from make(dice)


def memory() -> dict[str, int]:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {
        line.partition(":")[0]: int(line.split()[1]) * 1024 for line in status if line.startswith(("VmHWM", "VmRSS"))
    }


def test_a_thousand_hostile_requests(attacked: TestClient, server: Path, watched: list[str]):
    assert attacked.get("/api/run", headers={"cookie": f"cian={TOKEN}"}).status_code == 200
    before = {path: path.read_bytes() for path in server.parent.glob("secret*")}
    others = {path.name for path in server.parent.iterdir()}
    config, model = (server / "config.yaml").read_bytes(), (server / "model" / "model.safetensors").stat()
    start = {}
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the highest use of memory so far
        start = memory()
    del watched[:]
    wrong, count = [], 0
    for attack in attacks():
        headers = {"cookie": f"cian={TOKEN}"} if attack.token and "cookie" not in attack.headers else {}
        attacked.cookies.clear()
        try:
            sent = {name: value.encode() for name, value in {**headers, **attack.headers}.items()}
            response = attacked.request(attack.method, attack.url, headers=sent, content=attack.content)
        except (ValueError, TypeError, UnicodeError):  # no client can send it
            continue
        count += 1
        what = (attack.method, attack.url[:80], str(attack.headers)[:80], response.status_code)
        if response.status_code >= 500 or (response.status_code < 400 and not attack.may_pass):
            wrong.append(what)
        if SECRET in response.text or "root:" in response.text or "Traceback" in response.text:
            wrong.append(("leak", *what))
        if (
            response.headers.get("x-content-type-options") != "nosniff"
            or "access-control-allow-origin" in response.headers
        ):
            wrong.append(("headers", *what))
        if response.status_code >= 400 and attack.method != "HEAD":
            assert response.json()["error"], what
    assert not wrong, wrong[:10]
    assert count >= 1000
    outside = [name for name in watched if "secret" in name or name.startswith(("/etc/passwd", "/proc/self/environ"))]
    assert not outside
    assert before == {path: path.read_bytes() for path in before}
    assert others == {path.name for path in server.parent.iterdir()}
    assert config == (server / "config.yaml").read_bytes()
    assert model == (server / "model" / "model.safetensors").stat()
    if start:
        assert memory()["VmHWM"] < max(MOST_MEMORY, start["VmRSS"] + 2**30)
    assert attacked.get("/api/run", headers={"cookie": f"cian={TOKEN}"}).status_code == 200


def test_a_body_without_end_is_cut_off(attacked: TestClient):
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 2**20
            yield bytes(2**20)

    for method, url in (("POST", "/api/image/3/snap"), ("POST", "/api/learn")):
        headers = {"cookie": f"cian={TOKEN}"}
        assert attacked.request(method, url, headers=headers, content=endless()).status_code == 413
    lied = {"cookie": f"cian={TOKEN}", "content-length": str(10**12)}
    assert attacked.request("POST", "/api/try", headers=lied, content=b"x").status_code == 413


LINKED: dict[str, tuple[str, Callable[[TestClient], Any]]] = {
    "a mask": ("predictions/011.png", lambda client: client.get("/api/image/11/mask/prediction")),
    "a folder of masks": ("seeds", lambda client: client.get("/api/image/3/mask/seed")),
    "a label map": ("labels/003.png", lambda client: client.get("/api/image/3/mask/label")),
    "labels to write": (
        "labels",
        lambda client: client.put("/api/image/3/label", json={"strokes": [], "state": "strokes", "version": 0}),
    ),
    "the model": ("model", lambda client: client.post("/api/image/3/snap", json={"strokes": []})),
    "thumbnails": ("app/thumbs", lambda client: client.get("/api/image/3/thumb")),
}


@pytest.mark.parametrize("name", LINKED)
def test_links_that_lead_out_are_refused(run: Path, tmp_path: Path, name: str):
    place, ask = LINKED[name]
    there = run / place
    outside = tmp_path / "outside"
    there.parent.mkdir(exist_ok=True)
    if there.exists():
        there.rename(outside)
    elif there.suffix:
        Image.fromarray(np.full((40, 56), 1, np.uint8)).save(outside, format="PNG")
    else:
        outside.mkdir()
    there.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    response = ask(client_of(run))
    assert response.status_code == 422 and "leads out" in response.json()["error"]
    assert sorted(outside.rglob("*")) == before


def test_an_image_that_is_a_link_out_is_refused(run: Path, tiny_run: Path, tmp_path: Path):
    file = tiny_run.parent / "data" / "images" / "003.png"
    moved = file.rename(tmp_path / "elsewhere.png")
    try:
        file.symlink_to(moved)
        response = client_of(run).get("/api/image/3/photo")
        assert response.status_code == 422 and "leads out" in response.json()["error"]
    finally:
        moved.replace(file)


def test_the_policy_allows_no_scripts_of_others(looking: TestClient):
    policy = looking.get("/api/run").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    opened = looking.get("/", params={"token": TOKEN}, headers={"cookie": "a=b"})
    if opened.status_code == 200:  # the page is there
        cookie = opened.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
