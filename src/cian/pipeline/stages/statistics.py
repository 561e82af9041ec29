"""Counts what the network learns from: statistics.csv, one row for each class. Names classes that it hardly sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cian.pipeline.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from cian.pipeline.context import Context, Plan

_FILE = "statistics.csv"
_COLUMNS = ("class", "images", "labelled_images", "labelled_pixels", "share_of_labelled", "share_of_image")


class Statistics(Stage):
    """The columns: the training images with the class as a tag (background: all); the images in which pixels are
    labelled with it; these pixels; their share of all labelled pixels, in percent; and their share of an image, in
    percent (the median over the images in which the class is labelled)."""

    name = "statistics"
    title = "statistics"
    files: ClassVar = {_FILE: "for each class, the number of images and pixels that the network learns it from"}

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return ("seed",) if plan.has_seeds else ()

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return (_FILE,)

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return {**plan.images_input("train_table", plan.train_table), **plan.labels_input(plan.train_table)}

    def run(self, context: Context) -> None:
        from cian.files import write_csv
        from cian.runs.class_labels import note_hardly_labelled

        if not context.accelerator.is_main_process:
            return
        rows = self._rows(context, *self._count(context))
        write_csv(context.run.statistics_file, (_COLUMNS, *rows))
        note_hardly_labelled(context.run)

    def _count(self, context: Context) -> tuple[np.ndarray, np.ndarray]:
        """(N, K) pixels of each class in the label map or seed map of each training image, and (N,) all its pixels."""
        from concurrent.futures import ThreadPoolExecutor

        import numpy as np

        from cian.data.masks import read_mask
        from cian.parallel import cores, map_ahead
        from cian.terminal import Ticker

        table = context.train_table

        def count(given: tuple[Path, Path | None]) -> np.ndarray:
            file, own = given
            labels = read_mask(file, table.mask_ids if file == own else None)
            return np.bincount(labels.ravel(), minlength=256)

        files = list(zip(context.networks[0].label_files(context), table.labels, strict=True))
        labelled = np.zeros((len(table), table.num_classes), np.int64)
        sizes = np.zeros(len(table), np.int64)
        with Ticker(self.title, len(files)) as ticker, ThreadPoolExecutor(cores()) as pool:
            for row, found in enumerate(map_ahead(pool, count, files)):
                labelled[row], sizes[row] = found[: table.num_classes], found.sum()
                ticker.advance()
        return labelled, sizes

    def _rows(
        self, context: Context, labelled: np.ndarray, sizes: np.ndarray
    ) -> list[tuple[str, int, int, int, str, str]]:
        import numpy as np

        table = context.train_table
        tagged = np.bincount(table.tag_ids, minlength=table.num_classes)
        tagged[0] = len(table)
        total = max(1, labelled.sum())
        rows = []
        for class_id, name in enumerate(table.class_names):
            pixels = labelled[:, class_id]  # (N,)
            holds = pixels > 0
            share = 100 * np.median(pixels[holds] / sizes[holds]) if holds.any() else 0.0
            of_labelled = 100 * pixels.sum() / total
            rows.append(
                (name, int(tagged[class_id]), int(holds.sum()), int(pixels.sum()), f"{of_labelled:.2f}", f"{share:.2f}")
            )
        return rows
