"""Golden runs: has a change that should not change results changed one?

Runs a tiny pipeline through every branch (tags, saliency maps, label maps of all images, retraining, compare, an
ablation, prediction in tiles, two processes) from fixed seeds, on one thread, and fingerprints every weight, seed map,
mask and score. Run it before and after a change, on one machine:

    python benchmarks/golden.py /tmp/before
    python benchmarks/golden.py /tmp/after --against /tmp/before

The second command exits with 1 and lists what differs, and by how much. `--tolerance 1e-5` accepts weights that differ
by less than that (relative to the largest weight of the tensor), for a change in the order of a sum. It takes about
three minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

COLOURS = {"blue": (40, 60, 220), "red": (220, 50, 40), "white": (235, 235, 235)}
TINY: dict[str, Any] = {
    "backbone.name": "test_efficientnet",
    "backbone.weights": "random",
    "classify.epochs": 1,
    "classify.min_steps": 30,
    "classify.optimizer.lr": 0.01,
    "classify.batch_size": 4,
    "classify.augment.crop": 49,
    "seeds.crf.iterations": 2,
    "train.epochs": 1,
    "train.min_steps": 60,
    "train.optimizer.lr": 0.003,
    "train.batch_size": 4,
    "train.augment.crop": 49,
    "predict.scales": "0.75,1.5",
    "predict.crf.iterations": 2,
    "relabel.crf_iterations": 2,
    "runtime.workers": 0,
    "runtime.device": "cpu",
}
SCORES = ("miou", "miou_labelled", "accuracy", "coverage", "iou", "precision", "recall")


def draw(folder: Path) -> None:
    """16 images of one or two rectangles on noise, with tags, masks, saliency maps and lists; and one large image."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "saliency", "large"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = ["image,tags"]
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for i in range(16):
        image = rng.integers(70, 150, (48, 64, 3), dtype=np.uint8)
        truth = np.zeros(image.shape[:2], np.uint8)
        kinds = [i % 3] if i % 4 else [i % 3, (i + 1) % 3]
        for place, kind in enumerate(kinds):
            y, x = rng.integers(0, 24), rng.integers(0, 10) + 32 * place
            truth[y : y + 20, x : x + 22] = kind + 1
            image[truth == kind + 1] = COLOURS[list(COLOURS)[kind]]
        Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray(truth).save(folder / "masks" / f"{i:02d}.png")
        Image.fromarray((truth > 0).astype(np.uint8) * 255).save(folder / "saliency" / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,{';'.join(list(COLOURS)[kind] for kind in kinds)}")
        lists["val" if i >= 12 else "train"].append(f"{i:02d}.png")
    tiles = [np.asarray(Image.open(folder / "images" / f"{i:02d}.png")) for i in range(12)]
    large = np.concatenate([np.concatenate(tiles[row : row + 4], 1) for row in (0, 4, 8)])  # (144, 256, 3)
    Image.fromarray(large).resize((340, 200)).save(folder / "large" / "large.png")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("\n".join(("background", *COLOURS)) + "\n")
    for name, ids in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(ids) + "\n")


def cian(*args: Any, processes: int = 1, **settings: Any) -> None:
    start = [sys.executable, "-m", "cian"]
    if processes > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        start += ["-m", "cian"]
    texts = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
    command = [*start, *map(str, args), *(part for text in texts for part in ("--set", text))]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def make(out: Path) -> None:
    """All runs, one after the other."""
    data = out / "data"
    draw(data)
    given = ["--images", data / "images", "--tags", data / "tags.csv", "--classes", data / "classes.txt"]
    given += ["--split", f"train={data / 'train.txt'}", "--split", f"val={data / 'val.txt'}"]
    scored = [*given, "--masks", data / "masks"]
    cian("run", *scored, "--out", out / "tags", **TINY, compare=True, retrain__enabled=True)
    cian("run", *scored, "--out", out / "saliency", **TINY, seeds__background=data / "saliency")
    cian("run", *scored, "--labels", data / "masks", "--out", out / "masks", **TINY)
    cian("run", *scored, "--out", out / "processes", **TINY, processes=2)
    cian("run", "--images", data / "images", "--tags", data / "tags.csv", "--out", out / "unscored", **TINY)
    cian("ablate", *scored, "--out", out / "ablation", "--repeat", 2, "--only", "cosine", "--only", "full-supervision",
         **TINY)  # fmt: skip
    cian("predict", "--model", out / "tags", "--images", data / "large", "--out", out / "tiles", predict__tile=128)


def fingerprints(out: Path) -> dict[str, str]:
    """A fingerprint of every weight file, folder of masks, and table of scores."""
    found: dict[str, str] = {}
    for file in sorted(out.rglob("*.safetensors")):
        hashed = hashlib.sha256()
        for name, value in sorted(load_file(file).items()):
            hashed.update(name.encode() + str(value.shape).encode() + value.tobytes())
        found[file.relative_to(out).as_posix()] = hashed.hexdigest()[:16]
    folders = {file.parent for file in out.rglob("*.png")} - {out / "ablation"}
    for folder in sorted(folder for folder in folders if not folder.is_relative_to(out / "data")):
        hashed = hashlib.sha256()
        for file in sorted(folder.glob("*.png")):
            mask = np.asarray(Image.open(file))
            hashed.update(file.name.encode() + str(mask.shape).encode() + mask.tobytes())
        found[f"{folder.relative_to(out).as_posix()}/"] = hashed.hexdigest()[:16]
    for file in sorted(out.rglob("metrics.json")):
        for stage, splits in json.loads(file.read_text())["stages"].items():
            for split, scores in splits.items():
                text = json.dumps({key: scores[key] for key in SCORES}, sort_keys=True)
                name = f"{file.relative_to(out).as_posix()}: {stage}, {split} (mIoU {scores['miou']})"
                found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def differences(out: Path, other: Path, tolerance: float) -> list[str]:
    """What differs between two sets of runs, in words."""
    here, there = fingerprints(out), fingerprints(other)
    lines = [f"only in {other}: {name}" for name in there if name not in here]
    lines += [f"only in {out}: {name}" for name in here if name not in there]
    for name in here:
        if name not in there or here[name] == there[name]:
            continue
        if name.endswith(".safetensors"):
            first, second = load_file(out / name), load_file(other / name)
            if first.keys() != second.keys():
                lines.append(f"{name}: other names of tensors")
                continue
            off = max(
                float(np.abs(first[k] - second[k]).max()) / max(1e-3, float(np.abs(second[k]).max())) for k in first
            )
            if off >= tolerance:
                lines.append(f"{name}: differs by {off:.1e} of the largest weight")
        elif name.endswith("/"):
            pixels = [
                np.asarray(Image.open(out / name / file.name)) != np.asarray(Image.open(file))
                for file in sorted((other / name).glob("*.png"))
            ]
            share = sum(map(np.sum, pixels)) / sum(map(np.size, pixels))
            lines.append(f"{name}: {100 * share:.3f} % of the pixels differ")
        else:
            lines.append(f"{name}: other scores")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the runs; what is finished there is not run again")
    parser.add_argument("--against", type=Path, help="runs of before, to compare with")
    parser.add_argument("--tolerance", type=float, default=0.0, help="of weights; default: equal, bit for bit")
    args = parser.parse_args()
    make(args.out)
    for name, value in fingerprints(args.out).items():
        print(value, name)
    if args.against is not None:
        found = differences(args.out, args.against, args.tolerance)
        print("\n".join(found) or f"\nequal to {args.against}")
        sys.exit(bool(found))


if __name__ == "__main__":
    main()
