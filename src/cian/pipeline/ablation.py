"""Ablations: the same data with one thing changed at a time, over several random seeds; a table and a plot.

Every variant is an ordinary run directory, OUT/seed-S/VARIANT. The variants of one random seed share the stages
that they do not change, such as the classifier and the seed maps. They differ only in what they are named after.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from cian.config import Config, changed, dump_config, flatten
from cian.data.known_files import KnownFiles
from cian.data.problems import ProblemList
from cian.data.table import TRAIN, Table
from cian.distributed import on_main
from cian.errors import CianError
from cian.files import atomic, read_json, remove_temporaries, write_json, write_text
from cian.formats.devkits import find_layout
from cian.pipeline.context import Context
from cian.pipeline.run import check_data, check_work, finished, run_config
from cian.pipeline.stage import Role
from cian.pipeline.up_to_date import stage_inputs, up_to_date
from cian.runs.directory import Run
from cian.seeds.saliency import saliency_source
from cian.terminal import console
from cian.training.device import make_accelerator

STEPS = ("baseline", "self-affinity", "cross-affinity", "completion", "retraining")  # each adds to the one before
BASELINE, FIRST, WITH_SALIENCY, FULL = "baseline", "completion", "with-saliency", "full-supervision"


@dataclass(frozen=True)
class Variant:
    """
    Attributes:
        name: says what is different, and names its run directory.
        group: what it is compared within.
        settings: dotted settings that differ from those of the ablation.
    """

    name: str
    group: str
    settings: Mapping[str, Any]


def variants(config: Config, saliency: str | None = None) -> list[Variant]:
    """Everything that can be compared with a configuration: the steps of the paper one after the other, and each of its
    choices.

    Args:
        saliency: a folder of maps or an .onnx file, for the comparison of seeds with and without.
    """
    cross = {"affinity.mode": "cross"}
    found = [
        Variant(FIRST, "steps", {**cross, "train.completion": True}),  # the others reuse its stages
        Variant(BASELINE, "steps", {"affinity.mode": "none"}),
        Variant("self-affinity", "steps", {"affinity.mode": "self"}),
        Variant("cross-affinity", "steps", {**cross, "train.completion": False}),
        Variant("retraining", "steps", {**cross, "retrain.enabled": True}),
    ]
    choices: list[tuple[str, str, Any]] = [
        *((f"group-size-{size}", "train.group_size", size) for size in (2, 3, 4)),
        ("merge-max", "affinity.merge", "max"),
        ("merge-mean", "affinity.merge", "mean"),
        ("dot", "affinity.similarity", "dot"),
        ("cosine", "affinity.similarity", "cosine"),
        ("pooled", "affinity.pool", True),
        ("unpooled", "affinity.pool", False),
        ("with-self-message", "affinity.include_self", True),
        ("without-self-message", "affinity.include_self", False),
        ("with-tag-filter", "train.tag_filter", True),
        ("without-tag-filter", "train.tag_filter", False),
    ]
    flat = flatten(dump_config(config))
    for name, key, value in choices:
        if value != flat[key]:
            settings = {**cross, key: value}
            if key == "train.group_size":
                settings["train.batch_size"] = max(1, config.train.batch_size // value) * value
            found.append(Variant(name, key, settings))
    if config.seeds.background != "cam":
        found.append(Variant("without-saliency", "seeds", {"seeds.background": "cam"}))
    elif saliency is not None:
        found.append(Variant(WITH_SALIENCY, "seeds", {"seeds.background": saliency}))
    found.append(Variant(FULL, "upper bound", {"affinity.mode": "none", "data.labels": _mask_folders(config)}))
    return found


def _mask_folders(config: Config) -> tuple[Path, ...] | None:
    """The folders of the masks, given or of a devkit."""
    layout = find_layout(config.data, ProblemList())
    return layout.masks or None if layout is not None else None


def ablate(
    config: Config, out: Path, repeat: int = 3, only: Sequence[str] | None = None, saliency: str | None = None
) -> dict[str, Any]:
    """Runs every variant with every random seed. Finished runs are kept.

    Writes OUT/ablation.json, .md and .png after every run. They hold these variants, and those that earlier calls have
    finished with the same settings, data and random seeds.

    Args:
        config: what all variants have in common. The scores are those of held-out images with masks.
        out: the folder of the runs.
        repeat: random seeds `config.seed` … `config.seed + repeat - 1`.
        only: the names of the variants. Default: all. The variant `FIRST` always runs, for the others reuse its stages.
        saliency: see `variants`.

    Raises:
        CianError: no held-out image has a mask, a name is unknown, or as `cian.run`. Errors that can be known are
            raised before the first variant runs.
    """
    possible = variants(config, saliency)
    chosen = _choose(possible, only)
    if saliency is not None:
        if config.seeds.folder is not None or config.seeds.background != "cam":
            raise CianError(
                f"--saliency {saliency}: seeds.background or seeds.folder is already set. Leave one of the two out."
            )
        saliency_source(saliency)
    accelerator = make_accelerator(config.runtime)
    tables: dict[int, Table] = {}
    files = KnownFiles(out / "files.csv")
    for seed in range(config.seed, config.seed + repeat):
        if not tables or config.data.val_fraction:  # the split is drawn with the seed
            table = check_data(config.model_copy(update={"seed": seed}), accelerator, files)
        tables[seed] = table
    split = _scored_split(config, tables)
    if any(len(table.split(TRAIN).with_masks()) < len(table.split(TRAIN)) for table in tables.values()):
        if only and FULL in only:
            raise CianError(f"{FULL}: needs the masks of all training images. Leave it out of --only.")
        chosen, possible = ([variant for variant in some if variant.name != FULL] for some in (chosen, possible))
    on_main(accelerator, lambda: _check_variants(config, chosen, tables))
    if accelerator.is_main_process:
        remove_temporaries(out, deep=False)
    result: dict[str, Any] = {"split": split, "variants": {}}
    _collect(result, config, out, possible, tables)
    for seed, table in tables.items():
        for number, variant in enumerate(chosen, 1):
            console.rule(f"{variant.name} · seed {seed} · {number} of {len(chosen)}")
            _add(result, variant, seed, _run(config, out, seed, variant, accelerator, table))
            _collect(result, config, out, possible, tables)  # what others, side by side, have finished
            if accelerator.is_main_process:
                write_json(out / "ablation.json", result)
                write_text(out / "ablation.md", markdown(result))
                plot(result, out / "ablation.png")
    return result


def _check_variants(config: Config, chosen: Sequence[Variant], tables: Mapping[int, Table]) -> None:
    """
    Raises:
        CianError: a variant cannot run with this data.
    """
    for variant, (seed, table) in product(chosen, tables.items()):
        try:
            check_work(_settings(config, seed, variant.settings), _table(variant, table))
        except CianError as error:
            raise CianError(f"{variant.name}: {error}") from None


def _collect(
    result: dict[str, Any], config: Config, out: Path, possible: Sequence[Variant], tables: Mapping[int, Table]
) -> None:
    """Adds the finished runs that the result does not hold yet, and sorts it in the order of the variants."""
    found = result["variants"]
    for variant, (seed, table) in product(possible, tables.items()):
        run = Run(_folder(out, seed, variant.name))
        if str(seed) in found.get(variant.name, {"runs": {}})["runs"] or not run.metrics_file.exists():
            continue
        settings, table = _settings(config, seed, variant.settings), _table(variant, table)
        if finished(settings, run, table, "evaluate"):
            _add(result, variant, seed, Context(settings, table, run))
    result["variants"] = {variant.name: found[variant.name] for variant in possible if variant.name in found}


def _scored_split(config: Config, tables: Mapping[int, Table]) -> str:
    """The first held-out split that is predicted and has masks, with every random seed."""
    for split in next(iter(tables.values())).split_names:
        predicted = config.predict.splits is None or split in config.predict.splits
        if split != TRAIN and predicted and all(len(table.split(split).with_masks()) for table in tables.values()):
            return split
    raise CianError(
        "No held-out image has a mask to score on (in one of the random seeds). Give --masks and --classes, and set "
        "images aside with --split val=FILE or --set data.val_fraction=0.2."
    )


def _choose(found: list[Variant], only: Sequence[str] | None) -> list[Variant]:
    if not only:
        return found
    names = [variant.name for variant in found]
    for name in only:
        if name not in names:
            raise CianError(f"--only {name}: no such variant. There are: {', '.join(names)}.")
    return [variant for variant in found if variant.name in only or variant.name == FIRST]


def _folder(out: Path, seed: int, variant: str) -> Path:
    return out / f"seed-{seed}" / variant


def _settings(config: Config, seed: int, settings: Mapping[str, Any] | None = None) -> Config:
    """The settings that all variants of a random seed have in common, and a variant's own."""
    return changed(config, {"seed": seed, "compare": False, "retrain.enabled": False, **(settings or {})})


def _table(variant: Variant, table: Table) -> Table:
    """The data of a variant. With full supervision, the masks are the label maps, and all of them count as whole."""
    if variant.name != FULL:
        return table
    return replace(table, labels=table.masks, whole=np.array([mask is not None for mask in table.masks], bool))


def _run(config: Config, out: Path, seed: int, variant: Variant, accelerator: Accelerator, table: Table) -> Context:
    settings, table = _settings(config, seed, variant.settings), _table(variant, table)
    target, first = Run(_folder(out, seed, variant.name)), Run(_folder(out, seed, FIRST))
    if variant.name != FIRST and accelerator.is_main_process:
        target.take_over(first, reusable(settings, table, first))
    accelerator.wait_for_everyone()
    run_config(settings, target, until="evaluate", table=table)
    accelerator.wait_for_everyone()
    return Context(settings, table, target)


def reusable(config: Config, table: Table, source: Run) -> dict[str, tuple[str, ...]]:
    """The finished stages of a run whose results a run with other settings or labels would make again, with their
    outputs."""
    context, records = Context(config, table, source), source.records()
    found: dict[str, tuple[str, ...]] = {}
    for stage in context.stages:
        if all(name in found for name in stage.needs(context)) and up_to_date(
            stage, context, records.get(stage.name), stage_inputs(stage, context)
        ):
            found[stage.name] = stage.outputs(context)
    return found


def _add(result: dict[str, Any], variant: Variant, seed: int, context: Context) -> None:
    stages = read_json(context.run.metrics_file)["stages"]
    entry = result["variants"].setdefault(variant.name, {"group": variant.group, "runs": {}})

    def miou(role: Role) -> float | None:
        titles = [each.title for each in context.mask_folders if each.role == role and each.title in stages]
        scores = stages[titles[0]].get(result["split"]) if titles else None
        return None if scores is None else scores["miou"]

    minutes = sum(record.seconds for record in context.run.records().values()) / 60
    entry["runs"][str(seed)] = {
        "miou": miou("without CRF"),
        "miou_crf": miou("final"),
        "seeds_miou": miou("seeds"),
        "minutes": round(minutes, 1),
    }


def summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each variant, the steps of the paper first: its values by random seed, and its gains over the
    baseline with the same random seed."""
    base = result["variants"].get(BASELINE, {}).get("runs", {})
    rows = []
    for name, entry in result["variants"].items():
        row: dict[str, Any] = {"name": name, "group": entry["group"]}
        for key in ("miou", "miou_crf"):
            values = {seed: run[key] for seed, run in entry["runs"].items() if run[key] is not None}
            row[key] = list(values.values())
            row[f"{key}_gain"] = [values[seed] - base[seed][key] for seed in values if seed in base]
        rows.append(row)
    return sorted(rows, key=lambda row: STEPS.index(row["name"]) if row["name"] in STEPS else len(STEPS))


def mean_deviation(values: Sequence[float], signed: bool = False) -> str:
    """`50.35 ± 1.93`; a single value has no deviation."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):{'+' if signed else ''}.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def markdown(result: Mapping[str, Any]) -> str:
    """The table: mean ± deviation over the random seeds."""
    lines = [
        f"mIoU % on `{result['split']}`, mean ± deviation over random seeds; gains over the baseline, paired by seed.",
        "",
        "| variant | runs | mIoU | gain | with CRF | gain |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary(result):
        cells = [
            row["name"],
            str(len(row["miou"])),
            mean_deviation(row["miou"]),
            mean_deviation(row["miou_gain"], signed=True) if row["name"] != BASELINE else "",
            mean_deviation(row["miou_crf"]),
            mean_deviation(row["miou_crf_gain"], signed=True) if row["name"] != BASELINE else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """One line per variant: each run a dot, their mean a bar; without CRF and with."""
    from matplotlib.figure import Figure

    rows = summary(result)
    figure = Figure(figsize=(8, 1.4 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    series = (("miou", "without CRF", "#1b6ca8", -0.14), ("miou_crf", "with CRF", "#e07a1f", 0.14))
    for key, label, colour, shift in series:
        for place, row in enumerate(rows):
            values = np.array(row[key], float)
            if len(values):
                axes.plot(values, np.full(len(values), place + shift), "o", color=colour, alpha=0.55, markersize=5)
                axes.plot(
                    [values.mean()] * 2, [place + shift - 0.13, place + shift + 0.13], color=colour, linewidth=2.5
                )
        axes.plot([], [], "o-", color=colour, label=label)
    for place in range(1, len(rows)):
        if rows[place]["group"] != rows[place - 1]["group"]:
            axes.axhline(place - 0.5, color="#d0d4d9", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"mIoU % on {result['split']}")
    axes.grid(axis="x", color="#e6e9ec")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
