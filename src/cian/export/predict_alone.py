"""Masks from a model in an ONNX file: python predict.py photo.jpg photo-mask.png [model.onnx]

Needs onnxruntime, numpy and Pillow. The mask is that of `cian predict` without CRF: its values are the class ids.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def resize(maps, size, corners=False):
    """(C, h, w) float32 → (C, *size), bilinear. With `corners`, the centres of the corner pixels stay there."""
    (h, w), (height, width) = maps.shape[1:], size
    top, left = (0.5 - (a - 1) / max(b - 1, 1) / 2 if corners else 0 for a, b in ((h, height), (w, width)))
    box = (left, top, w - left, h - top) if h > 1 and w > 1 else None
    planes = [Image.fromarray(each).resize((width, height), Image.Resampling.BILINEAR, box) for each in maps]
    return np.stack([np.asarray(each) for each in planes])


class Model:
    """A model that `cian export` wrote. `predict` gives the mask of a Pillow image, (H, W) uint8."""

    def __init__(self, file):
        self.session = onnxruntime.InferenceSession(str(file))
        about = json.loads(self.session.get_modelmeta().custom_metadata_map["cian"])
        self.classes, self.colours = about["classes"], about["colours"]
        self.stride, self.corner = about["stride"], about["alignment"] == "corner"
        self.max_side, self.settings = about["config"]["max_side"], about["config"]["predict"]

    def fitting(self, side):
        """The length of a side that fits the network's cells."""
        return -(-(max(1, round(side)) - self.corner) // self.stride) * self.stride + self.corner

    def logits(self, image):
        """(H, W, 3) uint8 → (K, H, W) float32: all scales, and the mirrored image."""
        pixels, maps = image.transpose(2, 0, 1).astype(np.float32), []
        for scale in self.settings["scales"]:
            batch = resize(pixels, [self.fitting(side * scale) for side in image.shape[:2]])[None]
            if self.settings["mirror"]:
                batch = np.concatenate([batch, batch[..., ::-1]])
            maps.append(self.session.run(["logits"], {"images": batch})[0])
        finest = max((each.shape[2:] for each in maps), key=np.prod)
        stack = np.stack([[resize(one, finest, self.corner) for one in each] for each in maps])
        if len(stack) > 1:
            stack = np.concatenate([stack, stack.max(0, keepdims=True)])
        fused = stack.mean(0)  # (1 or 2, K, h, w)
        fused = (fused[0] + fused[1][..., ::-1]) / 2 if len(fused) == 2 else fused[0]
        return resize(fused, image.shape[:2], self.corner)

    def threshold(self, logits, within):
        """The image's own threshold between objects and background (Otsu's), if something is surely an object."""
        step = max(1, max(logits.shape[1:]) // 64)
        some = logits[:, step // 2 :: step, step // 2 :: step].astype(np.float64)
        odds = np.log(np.exp(some[1:] - some[1:].max(0)).sum(0)) + some[1:].max(0) - some[0]
        if odds.max() <= 1.5:
            return 0
        counts, edges = np.histogram(odds.clip(-within, within), 64, (-within, within))
        share, mean = counts.cumsum() / counts.sum(), (counts * (edges[:-1] + edges[1:]) / 2).cumsum() / counts.sum()
        return edges[1:][((mean[-1] * share - mean) ** 2 / np.maximum(share * (1 - share), 1e-9)).argmax()]

    def predict(self, image):
        small, factor = ImageOps.exif_transpose(image).convert("RGB"), self.max_side / max(image.size)
        height, width = small.height, small.width
        if factor < 1:
            sides = [max(1, round(side * factor)) for side in small.size]
            small = small.resize(sides, Image.Resampling.BILINEAR)
        logits = self.logits(np.asarray(small))
        if self.settings["own_threshold"]:
            logits[0] += self.threshold(logits, self.settings["own_threshold"])
        shares = np.exp(logits - logits.max(0))
        return resize(shares / shares.sum(0), (height, width)).argmax(0).astype(np.uint8)


if __name__ == "__main__":
    model = Model(sys.argv[3] if len(sys.argv) > 3 else Path(__file__).with_name("model.onnx"))
    mask = Image.fromarray(model.predict(Image.open(sys.argv[1])))
    mask.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in model.colours))
    mask.save(sys.argv[2])
