"""The command line: reads options, calls the library, prints the result.

Results go to stdout, all else to stderr. Exit codes: 0 = done, 1 = failed (one message on stderr), 2 = wrong usage,
128 + the number of the signal = stopped (130 by Ctrl-C).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import importlib.util
import inspect
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from cian._version import __version__
from cian.config import Config, DataConfig, all_settings, load_config, load_run_config, parse_assignment, require_images
from cian.config import listing as settings_text
from cian.config.presets import preset
from cian.errors import CianError, DataError, Interrupted, ReportedByMain, is_silent
from cian.pipeline.stage import Stage
from cian.pipeline.stages import STAGES
from cian.signals import interruptible

COMPETITION = "comp6"
PREFIX = "/data/local-files/?d="  # Label Studio: a folder of its own machine
MAIN_SECONDS = 10.0  # in which the main process of a distributed run prints its error and ends
_SETTINGS = "`cian run --help` shows the settings that people change, `cian settings` shows all."
WORK, STEPS, TOOLS = "Commands", "Run up to one stage", "Tools"


class _Commands(TyperGroup):
    """The commands by group. A signal ends in one message, as all failures do; typer prints none."""

    def invoke(self, ctx: Any) -> Any:
        with interruptible():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title in (WORK, TOOLS, STEPS):
            commands = [
                (name, each) for name, each in self.commands.items() if getattr(each, "rich_help_panel", "") == title
            ]
            with formatter.section(title):
                formatter.write_dl([(name, each.get_short_help_str(formatter.width)) for name, each in commands])


class _WithSettings(TyperCommand):
    """A command whose --help ends in the settings that people change."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write_paragraph()
        lines = [line for line, _ in settings_text.main_settings(formatter.width)]
        lines += ["", "`cian settings` lists, explains and searches all settings."]
        formatter.write("".join(f"{line}\n" for line in lines))


app = typer.Typer(
    name="cian",
    cls=_Commands,
    help="Images and tags in, masks and a segmentation model out.",
    epilog="Results go to stdout, progress and errors to stderr. Exit codes: 0 = done, 1 = failed, 2 = wrong usage, "
    "130 = stopped.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _complete_assignment(incomplete: str) -> list[str]:
    return [f"{each.key}=" for each in all_settings() if each.key.startswith(incomplete)]


def _complete_setting(incomplete: str) -> list[str]:
    names = [*filter(None, settings_text.sections()), *(each.key for each in all_settings())]
    return [name for name in names if name.startswith(incomplete)]


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text)


def _flag(name: str, text: str) -> Any:
    return typer.Option(name, help=text)


def _split(text: str) -> tuple[str, Path]:
    """(name, list file) of an option --split."""
    name, sign, file = text.partition("=")
    if not sign:
        raise CianError(f"--split {text}: not of the form NAME=FILE. Write e.g. --split train=train.txt.")
    return name, Path(file)


Out = Annotated[Path, _option("--out", "DIR", "The folder of all results. The same command resumes it.")]
Overwrite = Annotated[bool, _flag("--overwrite", "Discard earlier results and start over.")]
Json = Annotated[bool, _flag("--json", "Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only errors and the result.")]
Prefix = Annotated[str, _option("--prefix", "TEXT", "What stands before the names of images in Label Studio's tasks.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting; repeatable.", autocompletion=_complete_assignment),
]


@dataclasses.dataclass(frozen=True)
class _Given:
    """The options that say what to work on, and with which settings."""

    images: Annotated[Path | None, _option("--images", "DIR", "The images, searched recursively.")] = None
    tags: Annotated[Path | None, _option("--tags", "PATH", "The tags. Default: sub-folders are classes.")] = None
    masks: Annotated[
        Path | None, _option("--masks", "PATH", "True masks, only for scores: a folder, or annotations.")
    ] = None
    labels: Annotated[
        Path | None, _option("--labels", "PATH", "Masks of some images to learn from: a folder, or annotations.")
    ] = None
    classes: Annotated[
        Path | None, _option("--classes", "FILE", "Class names, one a line, in the order of their ids.")
    ] = None
    split: Annotated[
        list[str] | None, _option("--split", "NAME=FILE", "A split, and a file of its images; repeatable.")
    ] = None
    config: Annotated[Path | None, _option("--config", "FILE", "A YAML file of settings; --set overrides it.")] = None
    preset: Annotated[
        str | None, _option("--preset", "NAME", "small (the default), base or large: `cian doctor` says which fits.")
    ] = None
    set_: Assignments = None

    def load(self, of_run: Path | None = None, more: Iterable[str] = ()) -> Config:
        """The configuration: a file (--config or, without images, the run's own), then options.

        Args:
            of_run: the run's config.yaml, which need not exist.
            more: assignments that come before those of --set.
        """
        overrides = {} if self.preset is None else dict(preset(self.preset))
        overrides |= _assignments([*more, *(self.set_ or ())])
        for key in ("images", "tags", "masks", "labels", "classes"):
            if (value := getattr(self, key)) is not None:
                overrides[f"data.{key}"] = str(value)
        for name, file in map(_split, self.split or ()):
            overrides[f"data.splits.{name}"] = str(file)
        return load_run_config(self.config, overrides, of_run)


def _command(
    panel: str, name: str | None = None, text: str | None = None, **options: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a command. Its parameter of type `_Given` stands for the options of that group. It also gets --quiet."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        # Not get_type_hints: for a default of None, Python 3.10's wraps the hint, and typer no longer sees its options.
        signature = inspect.signature(function, eval_str=True)
        groups = [key for key, parameter in signature.parameters.items() if parameter.annotation is _Given]
        given = get_type_hints(_Given, include_extras=True)

        @functools.wraps(function)
        def command(*, quiet: bool, **values: Any) -> None:
            from cian.terminal import speak

            speak(not quiet)
            for key in groups:
                values[key] = _Given(**{field: values.pop(field) for field in given})
            function(**values)

        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = []
        for key, parameter in signature.parameters.items():
            if key in groups:
                parameters += [
                    inspect.Parameter(field, kind, default=None, annotation=hint) for field, hint in given.items()
                ]
            else:
                parameters.append(parameter.replace(kind=kind))
        parameters.append(inspect.Parameter("quiet", kind, default=False, annotation=Quiet))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command(name, help=text, rich_help_panel=panel, **options)(command)
        return function

    return add


def _print(text: str, result: Any = None, as_json: bool = False) -> None:
    """Prints a result as text or as JSON, from one process of several."""
    if "accelerate" in sys.modules:  # importing it takes seconds
        from accelerate import PartialState

        if not PartialState().is_main_process:
            return
    encoding = getattr(sys.stdout, "encoding", None) or ""  # stdout is None where it was closed
    escaped = not encoding.casefold().startswith("utf")
    print(json.dumps(result, indent=2, ensure_ascii=escaped, default=str) if as_json else text)


def _pipeline(
    until: str,
    out: Path,
    given: _Given,
    overwrite: bool,
    as_json: bool,
    more: Iterable[str] = (),
    followed_by: str | None = None,
) -> None:
    from cian.runs.directory import Run

    run = Run(out)
    config = given.load(run.config_file, more)  # a mistyped setting is reported before torch is imported

    from cian.pipeline.run import run_config

    run_config(config, run, followed_by or until, overwrite)
    _print_run(run, until, as_json)


def _print_run(run: Any, until: str, as_json: bool) -> None:
    from cian.files import read_json

    if until != STAGES[-1].name:
        _print(str(run.path), {"run": run.path, "stage": until}, as_json)
        return
    result = {"run": run.path, "report": run.report_file, "model": run.model, "predictions": run.folder("predictions")}
    scores = read_json(run.metrics_file)["stages"] if as_json else {}
    _print(str(run.report_file), {**result, "scores": scores}, as_json)


@_command(WORK, cls=_WithSettings)
def run(out: Out, data: _Given, overwrite: Overwrite = False, json_: Json = False) -> None:
    """Learns from images and tags: makes masks, a model and a report."""
    _pipeline(STAGES[-1].name, out, data, overwrite, json_)


@_command(WORK)
def check(data: _Given, json_: Json = False) -> None:
    """Reads all images, tags and masks, and lists all problems."""
    from cian.data.summary import summary, summary_data
    from cian.reading.check import check_dataset
    from cian.terminal import console, note, ticking

    config = data.load()
    require_images(config)
    with ticking("checking", "files") as progress:
        table, problems = check_dataset(config.data, config.seed, progress=progress)
    fatal = [problem for problem in problems if problem.fatal]
    error: CianError | None = None
    if fatal or table is None:
        error = DataError(fatal or problems, shown=len(problems))
    else:
        from cian.pipeline.run import check_work

        try:
            check_work(config, table)
        except CianError as found:
            error = found
    if json_:
        result = {"error": error and str(error), "problems": list(map(dataclasses.asdict, problems))}
        _print("", {**result, "data": table and summary_data(table)}, as_json=True)
    elif table is not None:
        from rich.console import Console

        Console().print(summary(table))
    for problem in problems:
        if not problem.fatal:
            note(problem)
    if error is not None:
        raise error
    console.print("No problems. `cian run` with the same options starts the work.", style="green")


@_command(WORK)
def predict(
    model: Annotated[
        str, _option("--model", "MODEL", "runs/NAME/model, a run, an ONNX file of `export`, or a hub id owner/name.")
    ],
    images: Annotated[Path, _option("--images", "PATH", "An image, or a folder of images.")],
    out: Annotated[Path, _option("--out", "DIR", "The folder for the masks.")],
    tags: Annotated[
        Path | None, _option("--tags", "PATH", "Tags, as for `run`. A mask then shows only the tags of its image.")
    ] = None,
    overlays: Annotated[bool, _flag("--overlays", "Also write OUT/overlays/ID.jpg, to look at.")] = False,
    fast: Annotated[
        bool,
        _flag("--fast", "One scale, no mirror, a short CRF, onnxruntime if `export` was run. Slightly worse masks."),
    ] = False,
    set_: Assignments = None,
    overwrite: Annotated[
        bool, _flag("--overwrite", "Predict all images again. Replaces corrected masks as well.")
    ] = False,
    json_: Json = False,
) -> None:
    """Makes masks of new images with a trained model.

    Images that have a mask are skipped. OUT/found.csv says which classes each image shows, in pixels and percent. --set
    takes settings of predict, runtime and data, and max_side, e.g. predict.crf.iterations=0.
    """
    from cian.inference.folder import predict_folder

    result = predict_folder(model, images, out, tags, overlays, _assignments(set_ or ()), overwrite, fast)
    unreadable = result.unreadable
    _print(str(out), {"folder": out, **result._asdict(), "unreadable": [each.file for each in unreadable]}, json_)
    if unreadable:
        raise DataError(unreadable, shown=len(unreadable))


@_command(WORK)
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, runs/NAME/model, or a hub id owner/name.")],
    format_: Annotated[
        str, _option("--format", "NAME", "onnx (model.onnx and predict.py), or torch (model.pt2, of torch.export).")
    ] = "onnx",
    out: Annotated[Path | None, _option("--out", "DIR", "The folder to write to. Default: the model's own.")] = None,
    int8: Annotated[
        bool, _flag("--int8", "Also write model-int8.onnx, in whole numbers of 8 bits. MODEL must be a run.")
    ] = False,
    web: Annotated[
        Path | None, _option("--web", "DIR", "onnxruntime-web, of npm: also write model.html, for a browser.")
    ] = None,
    json_: Json = False,
) -> None:
    """Writes a trained model for programs without cian.

    model.onnx takes images of any size. predict.py makes masks with it, and needs onnxruntime, numpy and Pillow alone.
    """
    from cian.export.model import export as write
    from cian.terminal import console

    files, quantised = write(model, out, format_, int8, web)
    if quantised is not None:
        console.print(str(quantised))
    _print("\n".join(map(str, files)), {"files": files, "int8": quantised and quantised._asdict()}, json_)


@_command(WORK)
def evaluate(
    predictions: Annotated[Path, _option("--predictions", "DIR", "Predicted masks (indexed PNG).")],
    masks: Annotated[
        Path | None, _option("--masks", "PATH", "True masks: a folder of PNG (255 is ignored), or annotations.")
    ] = None,
    classes: Annotated[
        Path | None, _option("--classes", "FILE", "Class names, one per line, background first.")
    ] = None,
    list_: Annotated[
        Path | None, _option("--list", "FILE", "The ids to score, one per line. Default: all masks.")
    ] = None,
    no_background: Annotated[
        bool, _flag("--no-background", "Id 0 is the first class, as in Cityscapes, not background.")
    ] = False,
    submit: Annotated[
        Path | None, _option("--submit", "FILE", "Write the archive (.tgz) for PASCAL VOC's server; needs --list.")
    ] = None,
    competition: Annotated[
        str, _option("--competition", "NAME", "With --submit: comp6 (trained on any data) or comp5 (on VOC's alone).")
    ] = COMPETITION,
    images: Annotated[
        Path | None, _option("--images", "DIR", "With --submit: the test images, to compare sizes with.")
    ] = None,
    set_: Assignments = None,
    json_: Json = False,
) -> None:
    """Scores masks, from cian or another tool: mIoU, and IoU per class.

    --set takes data.max_megapixels, data.drop and data.merge.
    """
    from cian.evaluation.folders import evaluate_folders, write_submission
    from cian.formats.devkits import VOC_CLASSES
    from cian.terminal import console

    data = _data_settings(set_, "data.max_megapixels", "data.drop", "data.merge")
    if submit is not None:
        if list_ is None:
            raise CianError("--submit: the list of test images is missing. Give it to --list.")
        count = write_submission(
            predictions, list_, submit, classes=classes or VOC_CLASSES, images=images, competition=competition
        )
        if masks is None:
            _print(f"{submit}: {count} masks", {"archive": submit, "masks": count}, json_)
            return
        console.print(f"{submit}: {count} masks")
    elif images is not None or competition != COMPETITION:
        name = "--competition" if images is None else "--images"
        raise CianError(f"{name}: has an effect only with --submit. Leave it out.")
    if masks is None or classes is None:
        raise CianError("--masks and --classes: scoring needs both. Give them, or --submit to pack a submission.")
    result = evaluate_folders(predictions, masks, classes, list_, background=not no_background, config=data)
    _print(_scores(result), result, json_)


def _scores(result: Mapping[str, Any]) -> str:
    """Scores as a table. Rich aligns it where class names have wide characters."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    table = Table(box=None)
    for heading in ("class", "IoU %", "precision %", "recall %"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name, value in result["iou"].items():
        cells = (value, result["precision"][name], result["recall"][name])
        table.add_row(Text(name), *map(percent, cells))
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    rest = [
        f"images {result['images']}",
        f"pixel accuracy {percent(result['accuracy'])}",
        f"mIoU {percent(result['miou'])}",
    ]
    # Their IoU is 0 or undefined, whatever the network has learned.
    absent = [name for name, recall in result["recall"].items() if recall is None]
    if absent:
        rest.append(f"no true mask shows {', '.join(absent)}; where a prediction does, its IoU is 0")
    return captured.get() + "\n".join(rest)


@_command(WORK)
def suggest(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory, after `cian seed` or `cian run`.")],
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How many images.")] = 20,
    to: Annotated[
        str | None, _option("--format", "FORMAT", "Also write their masks in this format of `cian convert`.")
    ] = None,
    out: Annotated[Path | None, _option("--out", "PATH", "With --format: the new file or folder.")] = None,
    prefix: Prefix = PREFIX,
    json_: Json = False,
) -> None:
    """Lists the images most worth correcting, best first.

    Correct their masks in another program: --format label-studio (or cvat, coco, …) --out FILE writes them for it. Give
    what it exports to --labels, and run again. --json says why an image is suggested.
    """
    if (to is None) != (out is None):
        missing = "--out" if out is None else "--format"
        raise CianError(f"{missing}: is missing. To write masks, give --format and --out; otherwise leave both out.")
    from cian.pipeline.suggest import suggest as find
    from cian.pipeline.suggest import write_suggested
    from cian.terminal import console

    found = find(run, count)
    if not found:
        console.print(f"{run}: every training image with tags has a label map. There is nothing to suggest")
    elif to is not None and out is not None:
        for text in write_suggested(run, found, to, out, prefix):
            console.print(f"lost: {text}", style="yellow")
        console.print(f"{out}: {len(found)} images to correct. Give what you export then to --labels")
    _print("\n".join(each.id for each in found), [each._asdict() for each in found], json_)


@_command(WORK)
def demo(
    out: Out = Path("runs/demo"),
    data: Annotated[
        str, _option("--data", "NAME", "animals (drawn here), or pets (Oxford-IIIT Pet, downloaded).")
    ] = "animals",
    set_: Assignments = None,
    overwrite: Overwrite = False,
    json_: Json = False,
) -> None:
    """Draws a small data set and runs everything on it, in minutes."""
    from cian.demo.run import run_demo

    _print_run(run_demo(out, data, _assignments(set_ or ()), overwrite), STAGES[-1].name, json_)


@_command(WORK, "app")
def open_app(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory, finished or not.")],
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="Or the next free one.")] = 8000,
    host: Annotated[str, _option("--host", "NAME", "The address to listen on. 127.0.0.1: this machine alone.")] = (
        "127.0.0.1"
    ),
    no_browser: Annotated[bool, _flag("--no-browser", "Print the address, and do not open it.")] = False,
) -> None:
    """Opens a page to look at a run, correct masks and learn again."""
    if missing := [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise CianError(f"cian app: {' and '.join(missing)} not installed. Run `pip install '.[app]'`.")
    from cian.app.serve import serve

    serve(run, host, port, not no_browser)


@_command(TOOLS)
def doctor(
    no_run: Annotated[bool, _flag("--no-run", "Only look, without the trial run.")] = False,
    json_: Json = False,
) -> None:
    """Says whether all works here: versions, machine, a trial run.

    Also which --preset fits the machine. The trial run takes less than a minute. Exit code 1: something is wrong.
    """
    from rich.console import Console

    from cian.doctor import Finding, examine, try_out

    out = Console(highlight=False, markup=False, soft_wrap=True, quiet=json_)
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        out.print(
            f"{finding.what:16}{finding.found}{f'. {finding.cure}' if finding.cure else ''}",
            style="yellow" if finding.cure else None,
        )

    for finding in examine():
        tell(finding)
    if not no_run:
        tell(try_out())
    if json_:
        _print("", [dataclasses.asdict(each) for each in found], as_json=True)
    if wrong := [each for each in found if each.cure]:
        raise CianError("\n".join(f"{each.what}: {each.found}. {each.cure}" for each in wrong))


@_command(TOOLS, epilog=_SETTINGS)
def ablate(
    out: Annotated[Path, _option("--out", "DIR", "Folder of the runs and the table. A stopped ablation resumes.")],
    data: _Given,
    repeat: Annotated[
        int, typer.Option("--repeat", metavar="N", min=1, help="The number of random seeds: seed, seed + 1, …")
    ] = 3,
    only: Annotated[
        list[str] | None, _option("--only", "VARIANT", "A variant to run, e.g. baseline or cosine; repeatable.")
    ] = None,
    saliency: Annotated[
        str | None, _option("--saliency", "PATH", "A folder of maps, or FILE.onnx. Adds the variant with-saliency.")
    ] = None,
    json_: Json = False,
) -> None:
    """Trains variants of the method and compares their scores.

    Each variant is a run of its own, OUT/seed-S/VARIANT. Held-out images that have masks are scored. The result is a
    table and a plot.
    """
    config = data.load()

    from cian.pipeline.ablation import ablate as run_ablation

    result = run_ablation(config, out, repeat, only, saliency)
    _print(f"{(out / 'ablation.md').read_text(encoding='utf-8')}\n{out / 'ablation.png'}", result, json_)


@_command(TOOLS, "coco-masks")
def coco_masks(
    annotations: Annotated[Path, _option("--annotations", "PATH", "A COCO JSON of instances, or COCO's annotations/.")],
    out: Annotated[Path, _option("--out", "DIR", "Folder for the masks; data.coco uses COCO/masks.")],
    classes: Annotated[
        Path | None, _option("--classes", "FILE", "Class names, background first. Default: COCO's order, or by name.")
    ] = None,
    set_: Assignments = None,
) -> None:
    """Makes masks to score with from COCO's annotations.

    Also writes their class names, classes.txt. A stopped call resumes. Annotations that changed are drawn again.
    --set takes data.max_megapixels.
    """
    from cian.formats.coco_masks import write_coco_masks

    _data_settings(set_, "data.max_megapixels")
    names = write_coco_masks(annotations, out, classes)
    _print(f"{out}: masks of {len(names) - 1} classes ({out / 'classes.txt'})")


@_command(TOOLS)
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A file, a folder or a zip archive of labels or tags.")
    ],
    to: Annotated[str, _option("--to", "FORMAT", "The format to write.")],
    out: Annotated[Path, _option("--out", "PATH", "The new file or folder.")],
    images: Annotated[Path | None, _option("--images", "DIR", "The images.")] = None,
    classes: Annotated[
        Path | None, _option("--classes", "FILE", "Class names, one a line, in the order of their ids.")
    ] = None,
    split: Annotated[
        list[str] | None, _option("--split", "NAME=FILE", "A list of images: train, val, …; repeatable.")
    ] = None,
    polygons: Annotated[bool, _flag("--polygons", "Write polygons, not run lengths, in COCO JSON.")] = False,
    prefix: Prefix = PREFIX,
    set_: Assignments = None,
    json_: Json = False,
) -> None:
    """Writes labels and tags in another format.

    The formats are masks, coco, label-studio, cvat, cvat-masks, yolo, labelme, voc and imagefolder. The source is
    recognised by its content. --set takes data.max_megapixels.
    """
    from cian.formats.convert import convert as write
    from cian.terminal import console, note

    _data_settings(set_, "data.max_megapixels")
    result = write(source, to, out, images, classes, polygons, prefix, dict(map(_split, split or ())))
    console.print(f"{source}: {result.saw}")
    for text in result.lost:
        console.print(f"lost: {text}", style="yellow")
    for problem in result.problems:
        if not problem.fatal:
            note(problem)
    words = f"{out}: {result.images} images, {result.labelled} of them labelled, {len(result.classes)} classes"
    _print(words, {"out": out, **result._asdict(), "problems": list(map(dataclasses.asdict, result.problems))}, json_)
    if fatal := [problem for problem in result.problems if problem.fatal]:
        raise DataError(fatal)


@app.command("settings", rich_help_panel=TOOLS)
def show_settings(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="What to show.",
            autocompletion=_complete_setting,
        ),
    ] = None,
    markdown: Annotated[bool, _flag("--markdown", "Print all settings as a Markdown page.")] = False,
) -> None:
    """Lists, explains and searches all settings.

    Without a WORD, gives an overview. A WORD may be a section (train), a group (paper), a key (train.epochs), or a word
    to search for.
    """
    if markdown and words:
        raise CianError("--markdown: prints all settings. Leave out the section or word.")
    if markdown:
        print(settings_text.markdown(), end="")
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line, style in settings_text.listing(" ".join(words or ()), min(console.width, 100)):
        console.print(line, style=style or None)


def _stage_command(stage: Stage, text: str) -> None:
    def command(out: Out, data: _Given, overwrite: Overwrite = False, json_: Json = False) -> None:
        _pipeline(stage.name, out, data, overwrite, json_, stage.implies, stage.followed_by)

    _command(STEPS, stage.name, text, epilog=_SETTINGS)(command)


for _stage in STAGES:
    if _stage.command is not None:
        _stage_command(_stage, _stage.command)


def _assignments(texts: Iterable[str]) -> dict[str, Any]:
    return dict(map(parse_assignment, texts))


def _data_settings(texts: Iterable[str] | None, *known: str) -> DataConfig:
    """Obeys --set of a command for which only a few settings have an effect, among them the limit of pixels.

    Raises:
        CianError: another setting is given, or its value is out of range.
    """
    from cian.data.images import limit_pixels

    given = _assignments(texts or ())
    if others := given.keys() - set(known):
        does = "only data.max_megapixels does" if len(known) == 1 else f"only {', '.join(known)} do"
        raise CianError(f"setting {min(others)}: has no effect here; {does}. Leave it out.")
    data = load_config(None, given).data
    limit_pixels(data.max_megapixels)
    return data


def _version(show: bool) -> None:
    if show:
        print(f"cian {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


_AGAIN = "Then run the same command again: it resumes"
_CURES: Mapping[int, str] = {
    errno.ENOENT: "has disappeared: another program may have moved or removed it. Run the same command again",
    errno.ENOSPC: f"the disk is full. Free some space. {_AGAIN}",
    errno.EDQUOT: f"your quota is used up. Free some space. {_AGAIN}",
    errno.EROFS: "the file system is read-only. Give another --out",
    errno.EACCES: "permission denied. Give a file or folder that you may read and write",
    errno.EPERM: "not permitted. Give a file or folder that you may read and write",
    errno.EMFILE: "too many open files. Raise `ulimit -n`, or set runtime.workers=0",
    errno.ENOTDIR: "a folder is needed, but a file is in its place. Give another --out",
    errno.EEXIST: "a folder is needed, but a file is in its place. Give another --out",
    errno.EISDIR: "a file is needed, but a folder is in its place. Give another name",
    errno.EFBIG: f"the file is larger than this system allows. Raise `ulimit -f`. {_AGAIN}",
    errno.ELOOP: "a link is in its place, which is not followed. Remove the link",
    errno.ENAMETOOLONG: "the name is too long. Give a shorter one",
}
_NO_GPU_MEMORY = (
    "The GPU has too little memory. Lower train.batch_size (or classify.batch_size), and raise runtime.accumulate by "
    "the same factor. Or lower train.augment.crop. For masks of large images, lower max_side or predict.tile. Finished "
    "work is kept."
)


def main() -> None:
    """Runs a command: errors of the user become one message on stderr and exit code 1."""
    # Threads that wait sleep instead of spinning: beside another job on the same cores, training is several times as
    # fast. OpenMP reads it when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # class names are in any script, but not all logs are UTF-8
            stream.reconfigure(errors="replace")
    if "--out=" in sys.argv or ("--out", "") in pairwise(sys.argv):  # it would stand for this folder
        _fail("--out: is empty, perhaps a variable that is not set. Give a folder.")
    try:
        app()
    except SystemExit as end:
        if not end.code and "torch.distributed" in sys.modules:  # loading it takes seconds
            from cian.distributed import leave

            leave()
        raise
    except ReportedByMain:
        _end_after_main()
    except Interrupted as error:
        if is_silent():  # torchrun stops all processes when one of them fails
            sys.exit(128 + error.number)
        _fail(str(error), 128 + error.number)
    except CianError as error:
        if "torch" not in sys.modules and is_silent():
            _end_after_main()  # every process of a distributed run finds the same wrong setting; the first prints it
        _fail(str(error))
    except OSError as error:
        cure = _CURES.get(error.errno or 0)
        if cure is None:
            raise
        _fail(f"{error.filename or 'output'}: {cure}.")
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, without importing it
            raise
        _fail(_NO_GPU_MEMORY)


def _end_after_main() -> NoReturn:
    """Ends this process silently, after the main process, which prints the error: torchrun stops all processes as soon
    as one of them has failed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(MAIN_SECONDS)
    sys.exit(1)


def _fail(message: str, code: int = 1) -> NoReturn:
    if "--overwrite" in sys.argv:  # repeating it would start over
        message = message.replace("same command", "same command without --overwrite")
    from cian.terminal import wrapped

    lines = f"cian: {message}".split("\n")
    with contextlib.suppress(OSError):  # of a stderr that is full
        print("\n".join(wrapped(line, "      ") for line in lines), file=sys.stderr)
    sys.exit(code)
