"""Makes the seed maps that the network learns from: seeds/ID.png, for training images without a whole label map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cian.errors import CianError
from cian.pipeline.seed_stage import SeedStage

if TYPE_CHECKING:
    from cian.config import Config
    from cian.data.table import Table
    from cian.pipeline.context import Plan


class Seed(SeedStage):
    name = "seed"
    title = "seeds"
    command = "Makes the seed maps, seeds/ID.png."
    followed_by = "statistics"  # which names the classes that the seeds hardly label
    folder = "seeds"
    keep_labels = True
    files: ClassVar = {"seeds/": "seed maps; 255 = unlabelled"}

    def table(self, plan: Plan) -> Table:
        return plan.seed_table

    def inputs(self, plan: Plan) -> dict[str, Any]:
        table = self.table(plan)
        return {**plan.images_input("train_table", table), **plan.labels_input(table)}

    def check_settings(self, config: Config) -> None:
        from cian.crf.dense import check_kernels
        from cian.seeds.saliency import saliency_source

        check_kernels("seeds.crf", config.seeds.crf, config.seed_side)
        if config.seeds.folder is None:
            saliency_source(config.seeds.background)
        elif not config.seeds.folder.is_dir():
            raise CianError(f"seeds.folder = {config.seeds.folder}: no such folder. Give a folder of seed maps ID.png.")

    def check(self, plan: Plan) -> None:
        from cian.seeds.saliency import saliency_folder
        from cian.seeds.write_seeds import check_ready_made

        settings = plan.config.seeds
        if settings.folder is not None:
            check_ready_made(settings.folder, plan.seed_table)
        elif (maps := saliency_folder(settings.background)) is not None:
            tables = (plan.seed_table, plan.held_out_seed_table)
            maps.check([table.ids[i] for table in tables for i in range(len(table)) if len(table.tags(i))])
