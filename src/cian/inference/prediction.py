"""What a model says about one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cian.data.masks import write_mask
from cian.data.overlay import overlay
from cian.errors import CianError


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The result of a model for one image.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 class ids; 0 is background.
        probabilities: (K, h, w) float32. The size is that of the image, or smaller where the image is larger than the
            model's `max_side`.
        class_names: K names in the order of the class ids, background first.
    """

    image: np.ndarray
    mask: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]

    @property
    def classes(self) -> dict[str, float]:
        """The classes in the mask with their share of the image, 0 … 1, largest first; without background."""
        shares = np.bincount(self.mask.ravel(), minlength=len(self.class_names)) / self.mask.size
        return {self.class_names[i]: float(shares[i]) for i in np.argsort(-shares) if i and shares[i]}

    @property
    def class_ids(self) -> dict[str, int]:
        """The id that each class of the model has in `mask`: `result.mask == result.class_ids["dog"]`."""
        return {name: i for i, name in enumerate(self.class_names)}

    def overlay(self, alpha: float = 0.5) -> np.ndarray:
        """The image with the mask over it, (H, W, 3) uint8; `PIL.Image.fromarray` makes a Pillow image of it.

        Args:
            alpha: how much of a class's colour covers the image, 0 … 1; contours are always solid.
        """
        return overlay(self.image, self.mask, alpha)

    def save(self, path: str | Path) -> None:
        """Writes the mask as an indexed PNG with a palette, as `cian predict` does: the pixel values are class ids.

        Raises:
            CianError: the name does not end in .png, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise CianError(f"{path}: a mask is saved as PNG. Give a name that ends in .png.")
        write_mask(path, self.mask)

    def __repr__(self) -> str:
        height, width = self.mask.shape
        found = ", ".join(f"{name} {share:.1%}" for name, share in self.classes.items()) or "background only"
        return f"<Prediction of {width} × {height} px: {found}>"
