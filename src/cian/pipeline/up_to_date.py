"""What a stage depends on and what it makes, and what of it has changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cian.config import FILES, dump_config, flatten
from cian.data.known_files import fingerprint
from cian.pipeline.context import Context
from cian.pipeline.stage import Stage
from cian.runs.directory import Record
from cian.runs.fingerprints import digest, files_digest
from cian.runs.outputs import Results, losses

_FILES_OF = "files of "
_AFTER = "after "
_WORDS = {
    "classes": "the classes, or their order,",
    "train_table": "the training images or their tags",
    "held_out_seed_table": "the held-out images or their tags",
    "predict_table": "the images to predict",
    "masks": "the masks",
    "labels": "the label maps",
    "scores": "the list of scores",
}


def stage_inputs(stage: Stage, context: Context) -> dict[str, Any]:
    """All that the result of a stage depends on, as plain data."""
    values = flatten(dump_config(context.config))
    values["seeds.max_side"] = context.config.seed_side  # the classifier and the seeds depend on `max_side` only so
    inputs: dict[str, Any] = {}
    for key in stage.settings:
        inputs |= {name: value for name, value in values.items() if name == key or name.startswith(f"{key}.")}
    for key, words in FILES.items():
        if key in inputs and inputs[key] is not None and inputs[key] not in words:
            path = Path(inputs.pop(key))  # the content of the files counts, not their place
            inputs[_FILES_OF + key] = files_digest(path, context.table.known)
    inputs |= stage.inputs(context)
    weights = {other.name: other.weights(context) for other in context.stages}
    records = context.run.records()
    for name in stage.needs(context):
        record = records.get(name)
        found = [_content(context, record, file) for file in weights[name]]  # made again, they may differ
        inputs[_AFTER + name] = None if record is None else digest([record.inputs, found])
    return inputs


def _content(context: Context, record: Record | None, name: str) -> str | None:
    """The fingerprint of a file that a stage has made. It was compared with the record when that stage had its turn."""
    if record is not None and record.made is not None and name in record.made:
        return record.made[name]
    path = context.run.path / name
    return fingerprint(path) if path.exists() else None


def stage_results(stage: Stage, context: Context) -> Results:
    """All that a stage makes and that is needed later."""
    files = [name for name in (*stage.outputs(context), *stage.weights(context)) if Path(name).suffix]
    masks = {each.folder: each.table.ids for each in stage.masks(context)}
    return Results(list(dict.fromkeys(files)), masks, stage.dated)


def up_to_date(stage: Stage, context: Context, record: Record | None, inputs: dict[str, Any]) -> bool:
    """Whether a stage is done with these inputs, and all that it made is there and undamaged."""
    if record is None or not record.done or not same_inputs(record.inputs, inputs):
        return False
    return not losses(context.run, stage_results(stage, context), record)


def same_inputs(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether recorded inputs and those of now make the same result."""
    return _translated(old) == new


def changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What has changed, in words that follow "because"."""
    old = _translated(old)
    changed = []
    for key in sorted({*old, *new}):
        if old.get(key) == new.get(key):
            continue
        if key.startswith(_FILES_OF):
            changed.append(f"the {key} changed")
        elif _FILES_OF + key in {*old, *new}:
            continue
        elif key.startswith(_AFTER):
            changed.append(f"{key.removeprefix(_AFTER)} was run again")
        elif key in _WORDS:
            changed.append(f"{_WORDS[key]} changed")
        else:
            changed.append(f"{key} changed from {old.get(key)} to {new.get(key)}")
    return ", ".join(changed)


def _translated(inputs: dict[str, Any]) -> dict[str, Any]:
    """Recorded inputs in today's terms: before `data.labels`, `train.labels` said whether masks were learned from."""
    inputs = dict(inputs)
    if inputs.pop("train.labels", None) == "masks" and "train_masks" in inputs:
        inputs["labels"] = inputs.pop("train_masks")
    return inputs
