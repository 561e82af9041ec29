"""mIoU as in the PASCAL VOC protocol: one confusion matrix over the whole data set; 255 is ignored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IGNORE = 255


class Confusion:
    """Counts of (truth, prediction) pixel pairs.

    Args:
        num_classes: K, with background.

    Attributes:
        counts: (K, K + 1) int64; row = truth, column = prediction. The last column counts pixels that the prediction
            leaves unlabelled (255). They count as missed for their true class, and for no other class.
        ignored: number of pixels whose truth is 255.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)
        self.ignored = 0

    def add(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Adds one image; pixels whose truth is 255 are left out.

        Shape:
            prediction, truth: (H, W) uint8 class ids, 255 = unlabelled (prediction) or ignored (truth).

        Raises:
            ValueError: the sizes differ, or an id is neither a class nor 255.
        """
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in size")
        for name, ids in (("prediction", prediction), ("truth", truth)):
            if ids.dtype != np.uint8 and ids.size and not 0 <= ids.min() <= ids.max() <= IGNORE:
                raise ValueError(f"{name} holds values outside 0 to {IGNORE}, but class ids have 8 bits")
        pairs = truth.astype(np.uint16) * 256 + prediction.astype(np.uint8)  # (H, W)
        found = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)  # truth, prediction
        known = self.num_classes
        for name, seen in (("prediction", found[:, known:IGNORE].any(0)), ("truth", found[known:IGNORE].any(1))):
            if seen.any():
                raise ValueError(
                    f"{name} holds class id {known + seen.argmax()}, but there are {known} classes, background "
                    f"included: ids are 0 to {known - 1}"
                )
        self.counts[:, :known] += found[:known, :known]
        self.counts[:, known] += found[:known, IGNORE]
        self.ignored += int(found[IGNORE].sum())

    def scores(self) -> Scores:
        """See `Scores`."""
        hits = np.diagonal(self.counts).astype(np.float64)
        truth, predicted = self.counts.sum(1), self.counts[:, :-1].sum(0)
        union = truth + predicted - hits
        total = truth.sum()

        def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
            return np.divide(part, whole, out=np.full(len(hits), np.nan), where=whole > 0)

        iou = ratio(hits, union)
        labelled = ratio(hits, union - self.counts[:, -1])
        return Scores(
            miou=float(np.nanmean(iou)) * 100 if (union > 0).any() else float("nan"),
            miou_labelled=float(np.nanmean(labelled)) * 100 if not np.isnan(labelled).all() else float("nan"),
            iou=iou * 100,
            precision=ratio(hits, predicted) * 100,
            recall=ratio(hits, truth) * 100,
            accuracy=float(hits.sum() / total) * 100 if total else float("nan"),
            coverage=float(self.counts[:, :-1].sum() / total) * 100 if total else float("nan"),
        )


@dataclass(frozen=True)
class Scores:
    """All in percent.

    Attributes:
        miou: mean IoU over the classes that occur in truth or prediction; unlabelled pixels count as missed.
        miou_labelled: the same over the labelled pixels alone; equal to `miou` for dense masks.
        iou, precision, recall: (K,), NaN where undefined.
        accuracy: share of pixels that are right.
        coverage: share of pixels that the prediction labels at all (100 for dense masks).
    """

    miou: float
    miou_labelled: float
    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    accuracy: float
    coverage: float

    def as_dict(self, class_names: tuple[str, ...]) -> dict:
        """Plain numbers, rounded to two decimals, None where undefined."""

        def plain(value: float) -> float | None:
            return None if np.isnan(value) else round(float(value), 2)

        def by_class(values: np.ndarray) -> dict[str, float | None]:
            return {name: plain(value) for name, value in zip(class_names, values, strict=True)}

        return {
            "miou": plain(self.miou),
            "miou_labelled": plain(self.miou_labelled),
            "accuracy": plain(self.accuracy),
            "coverage": plain(self.coverage),
            "iou": by_class(self.iou),
            "precision": by_class(self.precision),
            "recall": by_class(self.recall),
        }
