"""A training script for PASCAL VOC 2012, unchanged, on a devkit that `cian convert` wrote.

Usage: python benchmarks/devkit.py FOLDER

Draws animals, converts their label maps to a devkit, and runs a script as people write it with torchvision's
VOCSegmentation and segmentation_models.pytorch. The script knows nothing of cian: 21 classes, 255 is ignored. FOLDER
keeps an environment with segmentation_models.pytorch, made at the first call, which shares this one's torch: it is no
dependency of cian. Prints the loss before and after, and the mIoU on held-out images.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from cian.demo.animals import generate
from cian.formats.convert import convert

TRAIN, VAL = 48, 12

SCRIPT = """
import sys
import numpy as np
import segmentation_models_pytorch as smp
import torch
from torchvision.datasets import VOCSegmentation

torch.manual_seed(0)


def transforms(image, mask):
    image, mask = image.resize((128, 128)), mask.resize((128, 128), 0)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, torch.from_numpy(np.array(mask)).long()


train, val = (VOCSegmentation(sys.argv[1], image_set=name, transforms=transforms) for name in ("train", "val"))
loader = torch.utils.data.DataLoader(train, batch_size=8, shuffle=True)
model = smp.Unet("resnet18", encoder_weights=None, classes=21)
loss_function = smp.losses.DiceLoss("multiclass", ignore_index=255)
cross_entropy = torch.nn.CrossEntropyLoss(ignore_index=255)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
losses = []
for epoch in range(int(sys.argv[2])):
    for images, masks in loader:
        logits = model(images)
        loss = loss_function(logits, masks) + cross_entropy(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
model.eval()
counts = []
with torch.no_grad():
    for images, masks in torch.utils.data.DataLoader(val, batch_size=4):
        found = model(images).argmax(1)
        counts.append(smp.metrics.get_stats(found, masks, mode="multiclass", ignore_index=255, num_classes=21))
tp, fp, fn, tn = (torch.cat(each).sum(0) for each in zip(*counts))
shown = tp + fn > 0
print(f"{len(train)} + {len(val)} images; loss {np.mean(losses[:3]):.2f} -> {np.mean(losses[-3:]):.2f}; "
      f"mIoU on val {100 * (tp / (tp + fp + fn).clamp(min=1))[shown].float().mean():.1f}")
sys.exit(not np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3]))
"""


def main() -> None:
    folder = Path(sys.argv[1])
    data = folder / "animals"
    generate(data, train=TRAIN, val=VAL)
    with (data / "tags.csv").open(newline="") as file:
        rows = [(row["image"], row["split"]) for row in csv.DictReader(file)]
    lists = {}
    for split in ("train", "val"):
        lists[split] = folder / f"{split}.txt"
        lists[split].write_text("".join(f"{image}\n" for image, held in rows if held == split))
    devkit = folder / "devkit"
    shutil.rmtree(devkit, ignore_errors=True)
    convert(data / "masks", "voc", devkit, data / "images", data / "classes.txt", splits=lists)
    home = folder / "environment"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        (home / "lib" / version / "site-packages" / "outer.pth").write_text(sysconfig.get_paths()["purelib"])
        package = ["--no-deps", "segmentation-models-pytorch"]
        subprocess.run([python, "-m", "pip", "install", "-q", *package], check=True, stderr=subprocess.DEVNULL)
        (home / "ready").touch()
    sys.exit(subprocess.run([python, "-c", SCRIPT, str(devkit), "12"], check=False).returncode)


if __name__ == "__main__":
    main()
