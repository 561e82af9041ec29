"""Hostile settings files, settings and arguments."""

from __future__ import annotations

import random
from pathlib import Path

from cian.config import all_settings
from tests.stress.hostile import CANARY, Input, Make, checked, sound, trials
from tests.stress.mutations import mutated
from tests.stress.stand import Stand, Trials

SOUND = b"seed: 3\ntrain:\n  epochs: 4\n  optimizer: {lr: 0.1}\npredict:\n  scales: [0.75, 1.5]\n"


def _laughs(first: str, last: str) -> bytes:
    """Aliases that unfold to 10^11 values."""
    lines = "".join(f"{first}{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    return f"{first}0: &a0 [x,x,x,x,x,x,x,x,x,x]\n{lines}{last}".encode()


YAML = {
    "a Python object": f"seed: !!python/object/apply:os.system ['touch {CANARY}']\n".encode(),
    "a Python name": b"seed: !!python/name:os.system\n",
    "a Python tuple": b"predict: {scales: !!python/tuple [1.0]}\n",
    "aliases in unknown keys": _laughs("a", ""),
    "aliases in a value": _laughs("a", "seed: *a11\n"),
    "aliases as a list": b"predict: {scales: [&b0 [1,1,1,1,1,1,1,1,1,1]"
    + b"".join(b", &b%d [%s]" % (i, b",".join([b"*b%d" % (i - 1)] * 10)) for i in range(1, 12))
    + b"]}\n",
    "an alias to itself": b"seed: &a [*a]\n",
    "a map in itself": b"train: &a {epochs: *a}\n",
    "merged with itself": b"train: &a {<<: *a}\n",
    "merged with a number": b"train: {<<: 3}\n",
    "20,000 lists deep": b"seed: " + b"[" * 20_000,
    "5,000 maps deep": b"{a: " * 5000,
    "3,000 blocks deep": b"".join(b" " * i + b"a:\n" for i in range(3000)),
    "10,000 digits": b"seed: " + b"9" * 10_000 + b"\n",
    "10 MB of comments": b"# x\n" * (10 << 18),
    "two documents": b"seed: 1\n---\nseed: 2\n",
    "a tab": b"train:\n\tepochs: 2\n",
    "an unknown version": b"%YAML 9.9\n---\nseed: 1\n",
    "a zero byte": b"seed: 1\0\n",
    "an escaped zero byte": b'data: {tags: "a\\0b"}\n',
    "half a character": b'data: {tags: "\\ud800"}\n',
    "UTF-16": "seed: 1\n".encode("utf-16"),
    "Latin-1": b"data: {tags: \xe9}\n",
    "binary": bytes(range(256)),
    "empty": b"",
    "a number": b"5",
    "a list": b"- 1\n",
    "a setting twice": b"seed: 1\nseed: 2\n",
    "a split that leads out": b"data: {splits: {../../x: tags.csv}}\n",
    **{f"the key {key}": f"{key}: 2\n".encode() for key in ("1", "null", "true", "[1]", "2001-01-01", "{a: b}")},
    **{
        f"the value {value}": f"seed: {value}\n".encode()
        for value in ("0x_", "0b_", "2000-13-01", "!!int abc", "!!int ''", "!!float x", "!!timestamp x", "!!binary '*'")
    },
}
ODD = ("null", "-1", "0", "1e308", ".nan", ".inf", "[]", "{}", "x", "true", "''", "'../../x'", "1000000000", "0x_")
ODD += ("'a\\0b'", '"\\ud800"', "\udc80", "!!int x", "&a [*a]", "[nan]", "[[[[", "9" * 20, "2000-13-01", "[1,2,3,4,5]")


def yaml(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Settings files and `--set`."""

    def file(content: bytes) -> Make:
        return checked("c.yaml", content, "--tags", "tags.csv", "--config", "c.yaml")

    def one(rng: random.Random) -> Input:
        if rng.random() < 0.3:
            return "mutated", file(mutated(SOUND, rng))
        setting = f"{rng.choice(all_settings()).key}={rng.choice(ODD)}"
        return f"--set {setting}".encode("ascii", "backslashreplace").decode(), checked(
            "x", b"", "--tags", "tags.csv", "--set", setting
        )

    yield from trials(stand, rng, share, [(what, file(content)) for what, content in YAML.items()], one, 200)


def arguments(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Arguments that are missing, odd, or name the wrong thing."""
    images = ["check", "--images", "images", "--tags", "tags.csv"]
    model = ["predict", "--model", str(stand.model)]
    run = ["run", "--tags", "tags.csv"]
    lines: list[list[str]] = [["x"], ["run"], ["run", "--out", "a"], ["check"], ["ablate", "--out", "out"]]
    lines += [["check", "--images", name] for name in ("", "\udc80", "none", "/proc/self/fd", "/dev/null", "tags.csv")]
    lines += [
        [*images, "--set", text]
        for text in ("", "=", "a", ".=1", "train.=1", ".train=1", "train=1", "train.epochs.x=1", "\udc80=1", "[]=1")
    ]
    lines += [[*images, "--set", text] for text in ("data.splits=[1]", "data.splits.a.b=x", "seed=[" + "[" * 3000)]
    lines += [[*images, "--set", f"data.separator={sign}"] for sign in ("a", "", ";;", "\\n", "🦊")]
    lines += [
        ["predict", "--model", name, "--images", "images", "--out", "out"]
        for name in ("none", "../../x", "a/b/c", "", "/")
    ]
    lines += [
        [*model, "--images", "images", "--out", name] for name in ("images", "images/x", "tags.csv", "", "n" * 300)
    ]
    lines += [[*model, "--images", name, "--out", "out"] for name in ("/dev/zero", "none", "tags.csv", "")]
    lines += [[*model, "--images", "images/p0.png", "--out", "images/../images"]]
    lines += [["evaluate", "--predictions", "images"]]
    lines += [["evaluate", "--predictions", "none", "--masks", "none", "--classes", "none"]]
    lines += [["evaluate", "--predictions", "images", "--masks", "images", "--classes", "tags.csv"]]
    lines += [[*run, "--images", "images", "--out", name] for name in ("images/x", ".", "tags.csv", "n" * 300)]
    lines += [[*run, "--images", ".", "--out", "out"], ["demo", "--out", "out", "--data", "x"]]
    lines += [["ablate", "--out", "out", "--images", "images", "--tags", "tags.csv", "--only", "x"]]

    def given(line: list[str]) -> Make:
        def make(folder: Path) -> list[str]:
            sound(folder)
            return line

        return make

    yield from trials(stand, rng, share, [(ascii(" ".join(line))[:60], given(line)) for line in lines])
