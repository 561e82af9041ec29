"""The stages of the pipeline, in order. A new stage is a file here and a line in this list."""

from cian.pipeline.stage import Stage
from cian.pipeline.stages.baseline import Baseline
from cian.pipeline.stages.cells import Cells
from cian.pipeline.stages.classify import Classify
from cian.pipeline.stages.compare import Compare
from cian.pipeline.stages.evaluate import Evaluate
from cian.pipeline.stages.export import Export
from cian.pipeline.stages.predict import Predict
from cian.pipeline.stages.relabel import Relabel
from cian.pipeline.stages.report import Report
from cian.pipeline.stages.retrain import Retrain
from cian.pipeline.stages.seed import Seed
from cian.pipeline.stages.seed_held_out import SeedHeldOut
from cian.pipeline.stages.statistics import Statistics
from cian.pipeline.stages.train import Train

STAGES: tuple[Stage, ...] = (
    Classify(),
    Cells(),
    Seed(),
    Statistics(),
    Baseline(),
    Train(),
    Relabel(),
    Retrain(),
    Compare(),
    Export(),
    Predict(),
    SeedHeldOut(),
    Evaluate(),
    Report(),
)
