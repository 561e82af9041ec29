"""Runs the stages in order. A finished stage is not run again, an interrupted one resumes, and a changed setting
re-runs the stages that depend on it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cian.config import (
    FILES,
    Config,
    absolute,
    changed,
    dump_config,
    flatten,
    load_run_config,
    require_images,
)
from cian.data.check import check_dataset
from cian.data.known_files import KnownFiles
from cian.data.table import Table
from cian.distributed import on_main
from cian.errors import CianError, DataError
from cian.files import refuse_within
from cian.memory import uncollected
from cian.pipeline.context import Context, Plan
from cian.pipeline.stage import Stage
from cian.pipeline.stages import STAGES
from cian.pipeline.up_to_date import changes, same_inputs, stage_inputs, up_to_date
from cian.runs.directory import Record, Run
from cian.terminal import Stopwatch, console, duration, note, ticking
from cian.training.device import make_accelerator


def run(
    images: str | Path | None = None,
    tags: str | Path | None = None,
    out: str | Path = "runs/latest",
    *,
    config: Config | str | Path | None = None,
    until: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Run:
    """Images and tags in, masks and a model out: the whole pipeline, as `cian run`.

    Args:
        images: the folder of images.
        tags: see the setting `data.tags`. None: each sub-folder of `images` is a class.
        out: the run directory. An interrupted run resumes.
        config: settings to start from: a `Config`, or a YAML file. Without it and without `images`: those of the run.
        until: the last stage to run. Default: all stages.
        overwrite: discard earlier results and start over.
        settings: sections or dotted keys, e.g. `train={"epochs": 4}` or `**{"train.epochs": 4}`.

    Returns:
        The run, with the paths of its results.

    Raises:
        CianError: one message that says what is wrong and what to do.
    """
    target = Run(Path(out))
    overrides = flatten(settings)
    if images is not None:
        overrides["data.images"] = str(images)
    if tags is not None:
        overrides["data.tags"] = str(tags)
    if isinstance(config, Config):
        resolved = changed(config, overrides)
    else:
        resolved = load_run_config(Path(config) if config else None, overrides, target.config_file)
    return run_config(resolved, target, until, overwrite)


def run_config(
    config: Config, target: Run, until: str | None = None, overwrite: bool = False, table: Table | None = None
) -> Run:
    """See `run`.

    Args:
        table: the result of `check_data` for this configuration, if several runs share it.
    """
    accelerator = make_accelerator(config.runtime)
    with ExitStack() as held:
        with uncollected():
            locked = on_main(accelerator, lambda: _check_start(config, target, until, held))
            table = check_data(config, accelerator, KnownFiles(target.files_record)) if table is None else table
            context = Context(config, table, target)
            on_main(accelerator, lambda: _refuse_own(context))
            on_main(accelerator, lambda: _check_stages(_until(context, until), context))
            on_main(accelerator, lambda: _begin(context, overwrite, None if locked else held))
        watch = Stopwatch()
        for stage in _until(context, until):
            _run_stage(stage, context)
        if accelerator.is_main_process:
            table.known.save()
            console.print(f"done in {duration(watch.seconds)}: {target.path}")
    return target


def check_work(config: Config, table: Table) -> None:
    """Finds everything that would stop a run with these settings before its work starts.

    Raises:
        CianError: a setting or a file cannot be used, or there are too few images.
    """
    _check_settings(config)
    plan = Plan(config, table)
    _check_stages(plan.stages, plan)


def finished(config: Config, target: Run, table: Table, until: str) -> bool:
    """Whether all stages of a run up to `until` are up to date with these settings and this data."""
    context = Context(config, table, target)
    records = target.records()
    return all(
        up_to_date(stage, context, records.get(stage.name), stage_inputs(stage, context))
        for stage in _until(context, until)
    )


def _until(plan: Plan, until: str | None) -> tuple[Stage, ...]:
    """The stages to run.

    Raises:
        CianError: the run has no stage of this name.
    """
    names = [stage.name for stage in plan.stages]
    if until is None:
        return plan.stages
    if until not in names:
        raise CianError(f"stage {until}: not part of this run. With its settings and data it has: {', '.join(names)}.")
    return plan.stages[: names.index(until) + 1]


def _check_start(config: Config, target: Run, until: str | None, held: ExitStack) -> bool:
    """Checks all that can be checked before the data is read, and locks a run that has begun earlier.

    Returns:
        Whether the run is locked.

    Raises:
        CianError: a setting, a file or the run directory cannot be used.
    """
    names = [stage.name for stage in STAGES]
    if until is not None and until not in names:
        raise CianError(f"stage {until}: no such stage. The stages are {', '.join(names)}.")
    require_images(config)
    if config.data.images is not None:
        refuse_within(target.path, config.data.images)
    _check_settings(config)
    target.check_writable()
    begun = target.begun
    if begun:
        held.enter_context(target.locked())
    return begun


def _begin(context: Context, overwrite: bool, held: ExitStack | None) -> None:
    """Writes the settings and the table to the run. A refused run leaves no trace, for a new run is made here.

    Args:
        held: where to keep the lock of the run; None if it is locked already.

    Raises:
        CianError: another process works on this run.
    """
    target = context.run
    if held is not None:
        held.enter_context(target.locked())
    if overwrite:
        for stage in context.stages:
            target.record(stage.name, None)
    target.write_config(dump_config(absolute(context.config)), versions())
    target.write_table(context.table)
    context.table.known.save()


def _refuse_own(context: Context) -> None:
    """
    Raises:
        CianError: a stage of the run would read what another stage removes and writes again.
    """
    table, values = context.table, flatten(dump_config(context.config))
    given = [
        (key, folder)
        for key, files in (("data.masks", table.masks), ("data.labels", table.labels))
        for folder in sorted({file.parent for file in files if file is not None})
    ]
    given += [(key, Path(values[key])) for key, words in FILES.items() if values[key] not in (None, *words)]
    folders = [context.run.folder(name) for stage in context.stages for name in stage.outputs(context)]
    own = [(folder, folder.resolve()) for folder in folders]
    for key, path in given:
        place = path.resolve()
        for folder, resolved in own:
            if place.is_relative_to(resolved):
                raise CianError(
                    f"{key} = {path}: lies in {folder}, which this run removes and writes again. Copy it to a place "
                    "outside of the run, and give that."
                )


def check_data(config: Config, accelerator: Accelerator, files: KnownFiles | None = None) -> Table:
    """Reads and checks the data in the main process, for all processes.

    Args:
        files: what earlier starts know of the files. `table.known.save()` keeps it for the next one.

    Raises:
        DataError: something is wrong; all problems at once.
        ReportedByMain: the same, in the other processes.
        CianError: another machine does not see an image.
    """
    table = on_main(accelerator, lambda: _read_data(config, files or KnownFiles()))
    if accelerator.is_local_main_process and not accelerator.is_main_process:
        missing = next((file for file in table.images if not file.is_file()), None)
        if missing is not None:
            raise CianError(
                f"{missing}: not on {platform.node()}. Every machine must see the images under these paths."
            )
    return table


def _read_data(config: Config, files: KnownFiles) -> Table:
    try:
        with ticking("checking", "files") as progress:
            table, problems = check_dataset(config.data, config.seed, known=files, progress=progress)
    finally:
        files.save(new=False)  # a refused run leaves nothing behind
    fatal = [problem for problem in problems if problem.fatal]
    if fatal or table is None:
        raise DataError(fatal or problems)
    for problem in problems:
        note(problem)
    return table


def versions() -> dict[str, str]:
    """Package versions that affect results."""
    packages = ("cian", "torch", "torchvision", "timm", "accelerate", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _check_settings(config: Config) -> None:
    """Finds settings that cannot work, before the data is read.

    Raises:
        CianError: a setting or a file cannot be used.
    """
    from cian.backbone.dense import Backbone
    from cian.backbone.pretrained import check_weights

    Backbone(config.backbone.name, config.backbone.output_stride, config.backbone.frozen_stages)
    check_weights(config.backbone.weights)
    for stage in STAGES:
        stage.check_settings(config)


def _check_stages(stages: Sequence[Stage], plan: Plan) -> None:
    """Finds data that a stage cannot work with, before any stage starts.

    Raises:
        CianError: there are too few images, or a file or a split is missing; all such errors at once.
    """
    errors: dict[str, CianError] = {}
    for stage in stages:
        try:
            stage.check(plan)
        except CianError as error:
            errors.setdefault(str(error), error)
    if len(errors) == 1:
        raise next(iter(errors.values()))
    if errors:
        raise CianError("\n".join(errors))


def _run_stage(stage: Stage, context: Context) -> None:
    run, accelerator = context.run, context.accelerator

    @uncollected()
    def state() -> tuple[dict[str, Any], Record | None, bool]:
        inputs, record = stage_inputs(stage, context), run.records().get(stage.name)
        return inputs, record, up_to_date(stage, context, record, inputs)

    inputs, record, done = on_main(accelerator, state)
    if done:
        if accelerator.is_main_process:
            console.print(f"{stage.name}: up to date", style="dim")
        return
    before = 0.0
    if accelerator.is_main_process:
        if record is not None and same_inputs(record.inputs, inputs):
            before = record.seconds
            console.print(f"{stage.name}: resuming")
        else:
            if record is not None:
                console.print(f"{stage.name}: re-running because {changes(record.inputs, inputs)}")
            run.clear(stage.outputs(context))
            run.record(stage.name, Record(inputs))
    accelerator.wait_for_everyone()
    watch = Stopwatch()
    try:
        stage.run(context)
    except BaseException:
        if accelerator.is_main_process:
            run.record(stage.name, Record(inputs, seconds=before + watch.seconds))
        raise
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        run.record(stage.name, Record(inputs, True, round(before + watch.seconds, 2)))
