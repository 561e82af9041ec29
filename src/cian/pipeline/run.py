"""The order of the stages. What is done is not done again; what was interrupted goes on; a changed setting redoes just
what depends on it."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cian.config import FILES, Config, absolute, dump_config, flatten, load_run_config, require_images
from cian.data.check import check_dataset
from cian.data.table import TRAIN, Table
from cian.errors import CianError, DataError, Problem
from cian.files import refuse_within
from cian.pipeline.context import Context
from cian.runs.directory import Record, Run
from cian.runs.fingerprints import digest, files_digest, fingerprint, masks_digest, table_digest
from cian.terminal import Stopwatch, console, duration, note, ticking
from cian.training.device import make_accelerator
from cian.training.distributed import on_main

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
        images: where it makes masks: of which images, an attribute of `Context`.
        masks: the folders of its that then hold a mask of each of them.
        weights: files without which a folder of its is not complete.
    """

    name: str
    module: str
    after: tuple[str, ...]
    settings: tuple[str, ...]
    data: tuple[str, ...]
    outputs: tuple[str, ...]
    function: str = "run"
    arguments: tuple[Any, ...] = ()
    images: str | None = None
    masks: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()


_NETWORK = ("seed", "max_side", "backbone", "train", "affinity", "runtime.precision", "runtime.accumulate")
_CLASSIFIER = ("seed", "seeds.max_side", "backbone", "classify", "runtime.precision", "runtime.accumulate")
_VIEW = ("max_side", "predict.scales", "predict.mirror", "predict.tile", "predict.own_threshold")


def plan(config: Config) -> list[Stage]:
    """The stages that a configuration asks for, in order."""
    seeded = config.seeded
    retrain = config.retrain.enabled
    final = "retrain" if retrain else "train"
    classified = ("classify",) if config.has_classifier else ()
    labels = ("seed",) if seeded else classified if config.train.start == "classifier" else ()
    labelled = ("train_table",) if seeded else ("train_table", "train_masks")

    def network(name: str, after: tuple[str, ...], settings: tuple[str, ...], data: tuple[str, ...]) -> Stage:
        weights = (f"{name}/model.safetensors",)
        return Stage(name, "train", after, settings, data, (name,), arguments=(name,), weights=weights)

    stages = []
    if config.has_classifier:
        weights = ("classify/model.safetensors", "classify/cells.safetensors")
        stages.append(Stage("classify", "classify", (), _CLASSIFIER, ("train_table",), ("classify",), weights=weights))
    seeding = ("seeds",)
    if seeded:
        own = ("seeds",)
        stages.append(
            Stage("seed", "seed", classified, seeding, ("train_table",), own, images="train_table", masks=own)
        )
    if config.compare:
        settings = tuple(key for key in _NETWORK if key != "affinity")
        stages.append(network("baseline", labels, settings, labelled))
    stages.append(network("train", labels, _NETWORK, labelled))
    if retrain:
        kernels = ("predict.crf.gaussian", "predict.crf.bilateral")
        relabel = ("relabel", *_VIEW, *kernels)
        stages += [
            Stage(
                "relabel", "relabel", ("train",), relabel, (), ("relabel",), images="train_table", masks=("relabel",)
            ),
            network("retrain", ("relabel",), (*_NETWORK, "retrain"), ()),
        ]
    others = {"baseline": "without-affinity", "train": "before-retraining"}
    compared = tuple(name for name, wanted in (("baseline", config.compare), ("train", retrain)) if wanted)
    masks, files = ("compare/without-crf", "predictions"), ("model/config.json", "model/model.safetensors")
    stages += [
        Stage("export", "export", (final,), ("predict",), (), ("model",), weights=files),
        Stage(
            "predict", "predict", (final,), ("predict",), ("predict_table",), masks, images="predict_table", masks=masks
        ),
    ]
    if compared:
        crfs = ("", "-crf") if config.predict.crf.iterations else ("",)
        stages.append(
            Stage(
                "compare",
                "predict",
                compared,
                ("predict",),
                ("predict_table", "masks"),
                tuple(f"compare/{other}{crf}" for other in others.values() for crf in ("", "-crf")),
                "run_compare",
                images="scored_table",
                masks=tuple(f"compare/{others[name]}{crf}" for name in compared for crf in crfs),
            )
        )
    if seeded:
        data, own = ("held_out_seed_table",), ("compare/seeds",)
        stages.append(
            Stage("seed-held-out", "seed", classified, seeding, data, own, "run_held_out", images=data[0], masks=own)
        )
    scored = tuple(
        stage.name for stage in stages if stage.name in ("seed", "seed-held-out", "relabel", "predict", "compare")
    )
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
    resolved = load_run_config(Path(config) if config else None, overrides, target.config_file)
    return run_config(resolved, target, until, overwrite)


def run_config(
    config: Config, target: Run, until: str = LAST, overwrite: bool = False, table: Table | None = None
) -> Run:
    """See `run`.

    Args:
        table: what `check_data` gave for this configuration, where several runs share it.
    """
    accelerator = make_accelerator(config.runtime)
    with ExitStack() as held:
        locked = on_main(accelerator, lambda: _check_start(config, target, until, held))
        table = check_data(config, accelerator) if table is None else table
        stages = plan(config)
        wanted = stages[: [stage.name for stage in stages].index(until) + 1]
        on_main(accelerator, lambda: _refuse_own(config, table, target))
        on_main(accelerator, lambda: _check_data(wanted, config, table, accelerator))
        on_main(accelerator, lambda: _begin(config, table, target, overwrite, None if locked else held))
        context = Context(target, config, table)
        watch = Stopwatch()
        for stage in wanted:
            _run_stage(stage, context)
        if accelerator.is_main_process:
            console.print(f"done in {duration(watch.seconds)}: {target.path}")
    return target


def _check_start(config: Config, target: Run, until: str, held: ExitStack) -> bool:
    """Checks all that can be checked before the data is read, and locks a run that has begun earlier.

    Returns:
        Whether the run is locked.

    Raises:
        CianError: a setting, a file or the run directory cannot be used.
    """
    names = [stage.name for stage in plan(config)]
    if until not in names:
        raise CianError(f"stage {until}: not part of this run. With its settings it has: {', '.join(names)}.")
    require_images(config)
    if config.data.images is not None:
        refuse_within(target.path, config.data.images)
    _check_settings(config)
    target.check_writable()
    begun = target.begun
    if begun:
        held.enter_context(target.locked())
    return begun


def _begin(config: Config, table: Table, target: Run, overwrite: bool, held: ExitStack | None) -> None:
    """Writes the settings and the table to the run. A refused run leaves no trace, for a new run is made here.

    Args:
        held: where to keep the lock of the run; None if it is locked already.

    Raises:
        CianError: another process works on this run.
    """
    if held is not None:
        held.enter_context(target.locked())
    if overwrite:
        for stage in plan(config):
            target.record(stage.name, None)
    target.write_config(dump_config(absolute(config)), versions())
    target.write_table(table)


def _refuse_own(config: Config, table: Table, target: Run) -> None:
    """
    Raises:
        CianError: a stage of the run would read what another stage removes and writes again.
    """
    given = [("data.masks", folder) for folder in sorted({mask.parent for mask in table.masks if mask is not None})]
    values = flatten(dump_config(config))
    given += [(key, Path(values[key])) for key, words in FILES.items() if values[key] not in (None, *words)]
    folders = [target.folder(name) for stage in plan(config) for name in stage.outputs]
    own = [(folder, folder.resolve()) for folder in folders]
    for key, path in given:
        place = path.resolve()
        for folder, resolved in own:
            if place.is_relative_to(resolved):
                raise CianError(
                    f"{key} = {path}: lies in {folder}, which this run removes and writes anew. Copy it to a place "
                    "outside of the run, and give that."
                )


def check_data(config: Config, accelerator: Accelerator) -> Table:
    """Reads and checks the data in the main process, for all processes.

    Raises:
        DataError: something is wrong; all problems at once.
        ReportedByMain: the same, in the other processes.
        CianError: another machine does not see an image.
    """
    table = on_main(accelerator, lambda: _read_data(config))
    if accelerator.is_local_main_process and not accelerator.is_main_process:
        missing = next((file for file in table.images if not file.is_file()), None)
        if missing is not None:
            raise CianError(
                f"{missing}: not on {platform.node()}. Every machine must see the images under these paths."
            )
    return table


def _read_data(config: Config) -> Table:
    with ticking("checking", "files") as progress:
        table, problems = check_dataset(config.data, config.seed, progress=progress)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal or table is None:
        raise DataError(fatal or problems)
    for problem in problems:
        note(problem)
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
    from cian.backbone.dense import Backbone
    from cian.backbone.pretrained import check_weights
    from cian.crf.dense import check_kernels
    from cian.seeds.saliency import saliency_source

    Backbone(config.backbone.name, config.backbone.output_stride, config.backbone.frozen_stages)
    check_weights(config.backbone.weights)
    check_kernels("seeds.crf", config.seeds.crf, config.seed_side)
    check_kernels("predict.crf", config.predict.crf, config.max_side)
    if config.seeded:
        if config.seeds.folder is None:
            saliency_source(config.seeds.background)
        elif not config.seeds.folder.is_dir():
            raise CianError(f"seeds.folder = {config.seeds.folder}: no such folder. Give a folder of seed maps ID.png.")


def check_work(config: Config, table: Table) -> None:
    """What would stop a run of these settings before its work starts.

    Raises:
        CianError: a file, a map or a backbone is not there, or the images are too few.
    """
    _check_settings(config)
    _check_data(plan(config), config, table, make_accelerator(config.runtime))


def _check_data(stages: Sequence[Stage], config: Config, table: Table, accelerator: Accelerator) -> None:
    """Whether the images are enough for these stages, and have what they need, before hours are spent.

    Raises:
        CianError: they make no batch, or one has no saliency or seed map, or no mask where masks are learned from; a
            split is not there.
    """
    from cian.pipeline.stages import classify, seed, train
    from cian.seeds.saliency import saliency_folder

    training = table.split(TRAIN)
    for name in config.predict.splits or ():
        if name not in table.split_names:
            raise CianError(f"predict.splits = {name}: no such split; there are {', '.join(table.split_names)}.")
    if not config.seeded and any(stage.module == "train" for stage in stages):
        value, cure = "has no mask, but train.labels = masks needs one", "Use train.labels=seeds, or add the mask"
        rows = zip(training.images, training.masks, strict=True)
        missing = [Problem(str(image), value, cure) for image, mask in rows if mask is None]
        if missing:
            raise DataError(missing)
    names = [stage.name for stage in stages]
    folder = saliency_folder(config.seeds.background) if "classify" in names and config.seeded else None
    if folder is not None:
        seeded = [i for i, split in enumerate(table.splits) if split == TRAIN or table.masks[i] is not None]
        folder.check([table.ids[i] for i in seeded if len(table.tags(i))])
    if config.seeds.folder is not None and "seed" in names:
        seed.check_ready_made(config.seeds.folder, training)
    if "classify" in names:
        classify.make_sampler(config, training, accelerator)
    if config.compare and not any(table.masks):
        note(Problem("settings", "compare=true, but no image has a mask to score both networks on", "Give --masks"))
    for stage in stages:
        if stage.module == "train":
            train.make_sampler(train.network_config(config, stage.name), training, accelerator)


def _run_stage(stage: Stage, context: Context) -> None:
    run, accelerator = context.run, context.accelerator

    def state() -> tuple[dict[str, Any], Record | None, bool]:
        inputs, record = _inputs(stage, context), run.records().get(stage.name)
        return inputs, record, _is_done(stage, context, record, inputs)

    inputs, record, done = on_main(accelerator, state)
    if done:
        if accelerator.is_main_process:
            console.print(f"{stage.name}: done before", style="dim")
        return
    before = 0.0
    if accelerator.is_main_process:
        if record is None or record.inputs != inputs:
            if record is not None:
                console.print(f"{stage.name}: again, for {_changes(record.inputs, inputs)}")
            run.clear(stage.outputs)
            run.record(stage.name, Record(inputs))
        else:
            before = record.seconds
            console.print(f"{stage.name}: goes on")
    accelerator.wait_for_everyone()
    watch = Stopwatch()
    module = importlib.import_module(f"cian.pipeline.stages.{stage.module}")
    try:
        getattr(module, stage.function)(context, *stage.arguments)
    except BaseException:
        if accelerator.is_main_process:
            run.record(stage.name, Record(inputs, seconds=before + watch.seconds))
        raise
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        run.record(stage.name, Record(inputs, True, round(before + watch.seconds, 2)))


def finished(config: Config, target: Run, table: Table, until: str) -> bool:
    """Whether a run has all of its stages up to `until` behind it, with these settings and this data."""
    context = Context(target, config, table)
    records, stages = target.records(), plan(config)
    wanted = stages[: [stage.name for stage in stages].index(until) + 1]
    return all(_is_done(stage, context, records.get(stage.name), _inputs(stage, context)) for stage in wanted)


def _is_done(stage: Stage, context: Context, record: Record | None, inputs: dict[str, Any]) -> bool:
    return record is not None and record.done and record.inputs == inputs and _complete(stage, context)


def _complete(stage: Stage, context: Context) -> bool:
    """Whether all is there that a stage made; what was removed is made again."""
    run = context.run
    kept = [name for name in (*stage.outputs, *stage.weights) if not name.startswith("compare/")]
    if not all((run.path / name).exists() for name in kept):
        return False
    ids = getattr(context, stage.images).ids if stage.images is not None else ()
    return all(run.mask(folder, image_id).exists() for folder in stage.masks for image_id in ids)


def _inputs(stage: Stage, context: Context) -> dict[str, Any]:
    """All that the stage's artefacts depend on, as plain data."""
    values = flatten(dump_config(context.config))
    values["seeds.max_side"] = context.config.seed_side  # all that these stages know of `max_side`, too
    inputs: dict[str, Any] = {}
    for key in stage.settings:
        inputs |= {name: value for name, value in values.items() if name == key or name.startswith(f"{key}.")}
    for key, words in FILES.items():
        if key in inputs and inputs[key] is not None and inputs[key] not in words:
            inputs[f"files of {key}"] = files_digest(Path(inputs.pop(key)))  # wherever they lie
    for name in stage.data:
        if name == "masks":
            inputs[name] = masks_digest(context.table)
        elif name == "train_masks":
            inputs[name] = masks_digest(context.train_table)
        else:
            inputs[name] = table_digest(getattr(context, name))
            inputs["classes"] = list(context.table.classes)
    run, weights = context.run, {other.name: other.weights for other in plan(context.config)}
    records = run.records()
    for name in stage.after:
        files = [run.path / file for file in weights[name]]  # made again, they may differ: so do what follows
        found = [fingerprint(file) if file.exists() else None for file in files]
        inputs[f"after {name}"] = digest([records[name].inputs, found]) if name in records else None
    return inputs


_WORDS = {
    "classes": "the classes, or their order,",
    "train_table": "the training images",
    "held_out_seed_table": "the images",
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
        elif f"files of {key}" in {*old, *new}:
            continue
        elif key.startswith("after "):
            changed.append(f"{key.removeprefix('after ')} was redone")
        elif key in _WORDS:
            changed.append(f"{_WORDS[key]} changed")
        else:
            changed.append(f"{key} {old.get(key)} → {new.get(key)}")
    return ", ".join(changed)
