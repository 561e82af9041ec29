"""Makes seed maps of held-out images: compare/seeds/ID.png. They are scored and shown; nothing is trained on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cian.pipeline.seed_stage import SeedStage

if TYPE_CHECKING:
    from cian.data.table import Table
    from cian.pipeline.context import Plan


class SeedHeldOut(SeedStage):
    name = "seed-held-out"
    title = "seeds of held-out images"
    folder = "compare/seeds"
    keep_labels = False

    def table(self, plan: Plan) -> Table:
        return plan.held_out_seed_table

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return plan.images_input("held_out_seed_table", plan.held_out_seed_table)
