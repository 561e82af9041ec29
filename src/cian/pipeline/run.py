"""Runs the stages in order. A finished stage is not run again, an interrupted one resumes, and a changed setting
re-runs the stages that depend on it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

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
from cian.data.images import limit_pixels
from cian.data.known_files import KnownFiles
from cian.data.table import Table
from cian.distributed import on_main
from cian.errors import CianError, DataError
from cian.files import refuse_within
from cian.memory import uncollected
from cian.pipeline.context import Context, Plan
from cian.pipeline.stage import Stage
from cian.pipeline.stages import STAGES
from cian.pipeline.up_to_date import changes, same_inputs, stage_inputs, stage_results, up_to_date
from cian.reading.check import check_dataset
from cian.runs.class_labels import hardly_labelled
from cian.runs.directory import Record, Run
from cian.runs.outputs import Losses, described, losses, remember
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
        stages = _until(context, until)
        for stage in stages:
            _run_stage(stage, context)
        if accelerator.is_main_process:
            table.known.save()
            console.print(f"done in {duration(watch.seconds)}: {target.path}")
            counted = any(stage.name == "statistics" for stage in stages)
            if counted and (missed := hardly_labelled(target)):
                console.print(f"hardly labelled, so hardly learned: {missed}", style="yellow")
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
        CianError: another process works on this run, the record of its stages is damaged, or a new run would empty a
            folder that is a link.
    """
    target = context.run
    if held is not None:
        held.enter_context(target.locked())
    if not overwrite and not target.records():
        target.refuse_links([name for stage in context.stages for name in stage.outputs(context)])
    if overwrite:
        target.forget()
    for name in target.records().keys() - {stage.name for stage in STAGES}:
        target.record(name, None)
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
    limit_pixels(config.data.max_megapixels)
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
    from cian.training.log import check_trackers

    check_trackers(config.runtime.trackers)
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


class _State(NamedTuple):
    """What is known of a stage before it is run.

    Attributes:
        inputs: what it depends on now.
        record: of an earlier start.
        same: whether it was run with the same inputs then.
        lost: what it has made and is not there any more, or not as it was.
    """

    inputs: dict[str, Any]
    record: Record | None
    same: bool
    lost: Losses


@uncollected()
def _state(stage: Stage, context: Context) -> _State:
    inputs, record = stage_inputs(stage, context), context.run.records().get(stage.name)
    if record is None or not same_inputs(record.inputs, inputs):
        return _State(inputs, record, False, Losses())
    return _State(inputs, record, True, losses(context.run, stage_results(stage, context), record))


def _run_stage(stage: Stage, context: Context) -> None:
    run, accelerator = context.run, context.accelerator
    is_main = accelerator.is_main_process
    state = on_main(accelerator, lambda: _state(stage, context))
    if state.record is not None and state.record.done and state.same and not state.lost:
        if is_main:
            if state.lost.unknown:
                _finish(stage, context, state.record)
            console.print(f"{stage.name}: up to date", style="dim")
        return
    record = Record(state.inputs)
    if is_main:
        _prepare(stage, context, state)
        record.seconds = state.record.seconds if state.same and state.record is not None else 0.0
        run.record(stage.name, record)
    accelerator.wait_for_everyone()
    watch, before = Stopwatch(), record.seconds
    try:
        stage.run(context)
    finally:
        record.seconds = round(before + watch.seconds, 2)
        if is_main:
            run.record(stage.name, record)
    accelerator.wait_for_everyone()
    on_main(accelerator, lambda: _require_unchanged(stage, context, state.inputs))
    if is_main:
        record.done = True
        _finish(stage, context, record)


def _require_unchanged(stage: Stage, context: Context, inputs: dict[str, Any]) -> None:
    """Looks again at all that a stage was made from.

    Raises:
        CianError: it has changed while the stage ran. The record of the stage is removed.
    """
    now = replace(context, table=replace(context.table, known=context.table.known.again()))
    found = stage_inputs(stage, now)
    if not same_inputs(inputs, found):
        context.run.record(stage.name, None)
        raise CianError(f"{stage.name}: {changes(inputs, found)} while it ran. Run the same command again.")


def _prepare(stage: Stage, context: Context, state: _State) -> None:
    """Says why a stage is run, and removes what it must make again."""
    run = context.run
    if state.lost.damaged:
        names = described(state.lost.damaged)
        console.print(f"{stage.name}: making again what was damaged since it was written: {names}", style="yellow")
        run.clear(state.lost.damaged)
    elif state.same:
        console.print(f"{stage.name}: resuming")
    else:
        if state.record is not None:
            console.print(f"{stage.name}: re-running because {changes(state.record.inputs, state.inputs)}")
        outputs = stage.outputs(context)
        run.clear(name for name in outputs if not Path(name).suffix or run.folder(name).is_dir())


def _finish(stage: Stage, context: Context, record: Record) -> None:
    """Records what a stage has made."""
    remember(context.run, stage_results(stage, context), record)
    context.run.record(stage.name, record)
