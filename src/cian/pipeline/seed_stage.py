"""What the stages that make seed maps share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cian.pipeline.stage import MaskFolder, Stage

if TYPE_CHECKING:
    from cian.data.table import Table
    from cian.pipeline.context import Context, Plan


class SeedStage(Stage):
    """A stage that makes seed maps.

    Attributes:
        folder: the folder of the seed maps.
        keep_labels: whether the labelled pixels of an image's label map replace the seeds.
    """

    settings = ("seeds",)
    folder: ClassVar[str]
    keep_labels: ClassVar[bool]

    def table(self, plan: Plan) -> Table:
        """The images that get a seed map."""
        raise NotImplementedError

    def wanted(self, plan: Plan) -> bool:
        return plan.has_seeds

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return ("classify",) * plan.has_classifier + ("cells",) * plan.learns_cells

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return (self.folder,)

    def masks(self, plan: Plan) -> tuple[MaskFolder, ...]:
        ready_made = plan.config.seeds.folder is not None
        source = "The ready-made seed maps" if ready_made else "Sparse labels from class activation maps"
        return (
            MaskFolder(
                self.folder,
                self.table(plan),
                "seeds",
                "seeds",
                about=f"{source}; uncertain pixels are unlabelled.",
                tags="ready-made" if ready_made else "yes",
                caption="seeds",
                description="seeds",
            ),
        )

    def run(self, context: Context) -> None:
        from cian.seeds.write_seeds import copy_seed_maps, write_seed_maps

        table, source = self.table(context), context.config.seeds.folder
        if not len(table):
            return
        context.clean_start(self.folder)
        targets = [context.run.mask(self.folder, image_id) for image_id in table.ids]
        if source is not None:
            copy_seed_maps(
                context.config, table, targets, self.title, source, context.accelerator, keep_labels=self.keep_labels
            )
        else:
            model = context.load_classifier()
            write_seed_maps(
                context.config,
                table,
                targets,
                self.title,
                model,
                context.accelerator,
                training=context.train_table,
                keep_labels=self.keep_labels,
            )
