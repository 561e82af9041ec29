"""The order of the stages. What is done is not done again; what was interrupted goes on; a changed setting redoes just
what depends on it."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cian.config import IMAGE_SOURCES, Config, dump_config, flatten, load_config
from cian.data.check import check_dataset
from cian.data.table import Table
from cian.errors import CianError, DataError
from cian.progress import console, duration, ticking
from cian.runs import Record, Run, Stopwatch, digest, files_digest, refuse_within, table_digest
from cian.stages.context import Context
from cian.training import make_accelerator

LAST = "report"


@dataclass(frozen=True)
class Stage:
    """
    Attributes:
        name: as on the command line, where it is one.
        module, function, arguments: what does it.
        after: the stages whose artefacts it reads.
        settings: dotted keys of the settings it depends on.
        data: which images it depends on: attributes of `Context`.
        outputs: files and folders that are its own.
    """

    name: str
    module: str
    after: tuple[str, ...]
    settings: tuple[str, ...]
    data: tuple[str, ...]
    outputs: tuple[str, ...]
    function: str = "run"
    arguments: tuple[Any, ...] = ()


_NETWORK = ("seed", "max_side", "backbone", "train", "affinity", "runtime.precision", "runtime.accumulate")
_VIEW = ("max_side", "predict.scales", "predict.mirror", "predict.tile")


def plan(config: Config) -> list[Stage]:
    """The stages that a configuration asks for, in order."""
    seeded = config.train.labels == "seeds"
    own_seeds = seeded and config.seeds.folder is None
    retrain = config.retrain.enabled
    final = "retrain" if retrain else "train"
    labels = ("seed",) if seeded else ()
    labelled = ("train_table",) if seeded else ("train_table", "train_masks")
    stages = []
    if own_seeds:
        stages.append(
            Stage(
                "classify",
                "classify",
                (),
                ("seed", "max_side", "backbone", "classify", "runtime.precision", "runtime.accumulate"),
                ("train_table",),
                ("classify",),
            )
        )
    if seeded:
        before = ("classify",) if own_seeds else ()
        stages.append(Stage("seed", "seed", before, ("seeds", "max_side"), ("seed_table",), ("seeds",)))
    if config.compare:
        settings = tuple(key for key in _NETWORK if key != "affinity")
        stages.append(Stage("baseline", "train", labels, settings, labelled, ("baseline",), arguments=("baseline",)))
    stages.append(Stage("train", "train", labels, _NETWORK, labelled, ("train",), arguments=("train",)))
    if retrain:
        kernels = ("predict.crf.gaussian", "predict.crf.bilateral")
        stages += [
            Stage("relabel", "relabel", ("train",), ("relabel", *_VIEW, *kernels), (), ("relabel",)),
            Stage("retrain", "train", ("relabel",), (*_NETWORK, "retrain"), (), ("retrain",), arguments=("retrain",)),
        ]
    compared = tuple(name for name, wanted in (("baseline", config.compare), ("train", retrain)) if wanted)
    stages += [
        Stage("export", "export", (final,), ("predict",), (), ("model",)),
        Stage("predict", "predict", (final,), ("predict",), ("predict_table",), ("predictions", "compare/without-crf")),
    ]
    if compared:
        names = ("without-affinity", "before-retraining")
        folders = tuple(f"compare/{name}{crf}" for name in names for crf in ("", "-crf"))
        stages.append(
            Stage(
                "compare",
                "predict",
                compared,
                ("predict",),
                ("predict_table", "masks"),
                folders,
                "run_compare",
            )
        )
    scored = tuple(stage.name for stage in stages if stage.name in ("seed", "relabel", "predict", "compare"))
    stages += [
        Stage("evaluate", "evaluate", scored, (), ("masks",), ("metrics.json",)),
        Stage("report", "report", ("evaluate", "export"), (), (), ("report.html",)),
    ]
    return stages


def run(
    images: str | Path | None = None,
    tags: str | Path | None = None,
    out: str | Path = "runs/latest",
    *,
    config: Config | str | Path | None = None,
    until: str = LAST,
    overwrite: bool = False,
    **settings: Any,
) -> Run:
    """Images and tags in, masks and a model out: the whole pipeline, as the command line does it.

    Args:
        images: folder of images.
        tags: see the setting `data.tags`; None = each sub-folder of `images` is a class.
        out: the run directory; a run that was interrupted goes on.
        config: settings to start from: a `Config`, or a YAML file. Without it and without `images`, those of the run.
        until: the last stage to run.
        overwrite: do everything anew.
        settings: sections or dotted keys, e.g. `train={"epochs": 4}` or `**{"train.epochs": 4}`.

    Returns:
        The run, with the paths of its artefacts.

    Raises:
        CianError: with one message that says what is wrong and how to cure it.
    """
    target = Run(Path(out))
    overrides = flatten(settings)
    if images is not None:
        overrides["data.images"] = str(images)
    if tags is not None:
        overrides["data.tags"] = str(tags)
    if isinstance(config, Config):
        overrides = {**flatten(dump_config(config)), **overrides}
        config = None
    if config is None and not any(key in overrides for key in IMAGE_SOURCES) and target.config_file.exists():
        config = target.config_file
    return run_config(load_config(Path(config) if config else None, overrides), target, until, overwrite)


def run_config(
    config: Config, target: Run, until: str = LAST, overwrite: bool = False, table: Table | None = None
) -> Run:
    """See `run`.

    Args:
        table: what `check_data` gave for this configuration, where several runs share it.
    """
    stages = plan(config)
    names = [stage.name for stage in stages]
    if until not in names:
        raise CianError(f"stage {until}: not part of this run. With its settings it has: {', '.join(names)}.")
    if not config.data.has_images:
        raise CianError("No images. Give --images DIR (and --tags FILE, unless each sub-folder is a class).")
    if config.data.images is not None:
        refuse_within(target.path, config.data.images)
    accelerator = make_accelerator(config.runtime)
    _check_settings(config)
    with target.locked() if accelerator.is_main_process else nullcontext():  # one process of a run locks it for all
        table = check_data(config) if table is None else table
        context = Context(target, config, table)
        watch = Stopwatch()
        if overwrite and accelerator.is_main_process:
            for stage in stages:
                target.record(stage.name, None)
        if accelerator.is_main_process:
            target.write_config(dump_config(config), versions())
            target.write_table(table)
        wanted = stages[: names.index(until) + 1]
        _check_maps(wanted, context)
        _check_batches(wanted, context)
        for stage in wanted:
            _run_stage(stage, context)
        if accelerator.is_main_process:
            console.print(f"done in {duration(watch.seconds)}: {target.path}")
    return target


def check_data(config: Config) -> Table:
    """Reads and checks everything before any long work.

    Raises:
        DataError: something is wrong; all problems at once.
    """
    with ticking("checking", "files") as progress:
        table, problems = check_dataset(config.data, config.seed, progress=progress)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal or table is None:
        raise DataError(fatal or problems)
    for problem in problems:
        console.print(f"note: {problem}", style="yellow")
    if config.predict.splits is not None:
        for name in config.predict.splits:
            if name not in table.split_names:
                raise CianError(f"predict.splits = {name}: no such split; there are {', '.join(table.split_names)}.")
    return table


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    packages = ("cian", "torch", "torchvision", "timm", "accelerate", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _check_settings(config: Config) -> None:
    """What can be known to fail before the data is read.

    Raises:
        CianError: a file or a backbone that is not there.
    """
    from cian.backbones import Backbone, check_weights
    from cian.seeds.saliency import saliency_source

    Backbone(config.backbone.name, config.backbone.output_stride, config.backbone.frozen_stages)
    check_weights(config.backbone.weights)
    if config.train.labels == "seeds":
        if config.seeds.folder is None:
            saliency_source(config.seeds.background)
        elif not config.seeds.folder.is_dir():
            raise CianError(f"seeds.folder = {config.seeds.folder}: no such folder. Give a folder of seed maps ID.png.")


def _check_maps(stages: Sequence[Stage], context: Context) -> None:
    """Whether each image that seeds are made of has its saliency map, before a classifier is trained.

    Raises:
        CianError: one has none.
    """
    from cian.seeds.saliency import saliency_folder

    if not any(stage.name == "classify" for stage in stages):
        return
    folder = saliency_folder(context.config.seeds.background)
    if folder is not None:
        table = context.seed_table
        folder.check([image_id for i, image_id in enumerate(table.ids) if len(table.tags(i))])


def _check_batches(stages: Sequence[Stage], context: Context) -> None:
    """Whether the images make batches, before hours are spent on the stages before.

    Raises:
        CianError: they are too few.
    """
    from cian.stages import classify, train

    for stage in stages:
        if stage.module == "classify":
            classify.make_sampler(context)
        elif stage.module == "train":
            train.make_sampler(context, *stage.arguments)


def _run_stage(stage: Stage, context: Context) -> None:
    run, accelerator = context.run, context.accelerator
    inputs = _inputs(stage, context)
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()  # everyone has read the record before the first one changes it
    record = run.records().get(stage.name)
    accelerator.wait_for_everyone()
    if record is not None and record.done and record.inputs == inputs and _complete(stage, run):
        if accelerator.is_main_process:
            console.print(f"{stage.name}: done before", style="dim")
        return
    before = 0.0
    if accelerator.is_main_process:
        if record is None or record.inputs != inputs or record.done:
            if record is not None and record.inputs != inputs:
                console.print(f"{stage.name}: again, for {_changes(record.inputs, inputs)}")
            run.clear(stage.outputs)
            run.record(stage.name, Record(inputs))
        else:
            before = record.seconds
            console.print(f"{stage.name}: goes on")
    accelerator.wait_for_everyone()
    watch = Stopwatch()
    module = importlib.import_module(f"cian.stages.{stage.module}")
    try:
        getattr(module, stage.function)(context, *stage.arguments)
    except BaseException:
        if accelerator.is_main_process:
            run.record(stage.name, Record(inputs, seconds=before + watch.seconds))
        raise
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        run.record(stage.name, Record(inputs, True, round(before + watch.seconds, 2)))


def _complete(stage: Stage, run: Run) -> bool:
    return all((run.path / name).exists() for name in stage.outputs if not name.startswith("compare/"))


def _inputs(stage: Stage, context: Context) -> dict[str, Any]:
    """All that the stage's artefacts depend on, as plain data."""
    values = flatten(dump_config(context.config))
    inputs: dict[str, Any] = {}
    for key in stage.settings:
        inputs |= {name: value for name, value in values.items() if name == key or name.startswith(f"{key}.")}
    for key, words in _FILES.items():
        if key in inputs and inputs[key] is not None and inputs[key] not in words:
            inputs[f"files of {key}"] = files_digest(Path(inputs[key]))
    for name in stage.data:
        if name == "masks":
            inputs[name] = _masks_digest(context.table)
        elif name == "train_masks":
            inputs[name] = _masks_digest(context.train_table)
        else:
            inputs[name] = table_digest(getattr(context, name))
    records = context.run.records()
    for name in stage.after:
        inputs[f"after {name}"] = digest(records[name].inputs) if name in records else None
    return inputs


def _masks_digest(table: Table) -> str:
    rows = []
    for image_id, split, mask in zip(table.ids, table.splits, table.masks, strict=True):
        if mask is not None:
            status = mask.stat()
            rows.append((image_id, split, status.st_size, status.st_mtime_ns))
    return digest(rows)


# Settings that name files, and the words that they may be instead.
_FILES = {"seeds.folder": (), "seeds.background": ("cam",), "backbone.weights": ("imagenet", "random")}

_WORDS = {
    "train_table": "the training images",
    "seed_table": "the images",
    "predict_table": "the images",
    "masks": "the masks",
    "train_masks": "the masks",
}


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What changed, in words."""
    changed = []
    for key in sorted({*old, *new}):
        if old.get(key) == new.get(key):
            continue
        if key.startswith("files of "):
            changed.append(f"the {key} changed")
        elif key.startswith("after "):
            changed.append(f"{key.removeprefix('after ')} was redone")
        elif key in _WORDS:
            changed.append(f"{_WORDS[key]} changed")
        else:
            changed.append(f"{key} {old.get(key)} → {new.get(key)}")
    return ", ".join(changed)
