"""The command line: parses, calls, prints. Exit code 0, 1 (failed, with one message on stderr) or 2 (wrong usage)."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as RichTable
from typer.core import TyperCommand, TyperGroup

from cian._version import __version__
from cian.config import Config, choices, load_run_config, parse_assignment, require_images, settings
from cian.errors import CianError, DataError, Interrupted, ReportedByMain


class _WithSettings(TyperCommand):
    """A command whose --help ends in all settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        print("Settings, for --set KEY=VALUE (a list as 0.75,1.5) or a --config file (YAML):\n")
        for key, (default, text) in settings():
            value = "" if default is None else ",".join(map(str, default)) if isinstance(default, tuple) else default
            words = " | ".join(choices(key))
            print(f"  {key} = {value}{words and f'   ({words})'}\n      {text}")


class _Commands(TyperGroup):
    """Ctrl-C ends in one message, as every other failure; typer itself would say nothing."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("Stopped. What was done is kept; the same command goes on from here.") from None


app = typer.Typer(
    name="cian",
    cls=_Commands,
    help="Images and tags in, masks and a segmentation model out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Images = Annotated[Path | None, typer.Option("--images", help="Folder of images, searched recursively.")]
Tags = Annotated[
    Path | None,
    typer.Option(
        "--tags",
        help="CSV, JSON or COCO JSON of tags, or a folder of VOC XML or of COCO's instances_*.json. Without it, "
        "sub-folders of --images are classes.",
    ),
]
Masks = Annotated[Path | None, typer.Option("--masks", help="Folder of true masks ID.png, to score with.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", help="Folder of label maps ID.png to learn from, for some or all images; 255 = unlabelled."
    ),
]
Classes = Annotated[Path | None, typer.Option("--classes", help="Class names, one a line, in order of the mask ids.")]
Splits = Annotated[
    list[str] | None,
    typer.Option(
        "--split", metavar="NAME=FILE", help="Text file that lists the images of a split; `train` is trained on."
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. train.epochs=4; repeatable."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Discard earlier results and start over.")]
OutFolder = Annotated[Path, typer.Option("--out", help="The run directory; an interrupted run is resumed.")]


def _config(
    images: Path | None,
    tags: Path | None,
    masks: Path | None,
    labels: Path | None,
    classes: Path | None,
    splits: list[str] | None,
    config: Path | None,
    assignments: list[str] | None,
    run_config: Path | None = None,
) -> Config:
    """The settings of a command: a file (--config; without --images, the run's own), then options."""
    overrides: dict[str, Any] = dict(parse_assignment(text) for text in assignments or ())
    for key, value in (("images", images), ("tags", tags), ("masks", masks), ("labels", labels), ("classes", classes)):
        if value is not None:
            overrides[f"data.{key}"] = str(value)
    for text in splits or ():
        name, sign, file = text.partition("=")
        if not sign:
            raise CianError(f"--split {text}: not of the form NAME=FILE, e.g. --split train=train.txt.")
        overrides[f"data.splits.{name}"] = file
    return load_run_config(config, overrides, run_config)


def _pipeline(until: str, out: Path, overwrite: bool, **options: Any) -> None:
    from cian.runs.directory import Run

    target = Run(out)
    if until in ("relabel", "retrain"):
        options["assignments"] = ["retrain.enabled=true", *(options["assignments"] or ())]
    config = _config(**options, run_config=target.config_file)  # a mistyped setting is told before torch is imported

    from accelerate import PartialState

    from cian.pipeline.run import run_config

    run_config(config, target, until, overwrite)
    if until == "report" and PartialState().is_main_process:
        print(target.report_file)


def _pipeline_command(name: str, text: str, until: str | None = None) -> None:
    """Adds a command that runs the pipeline up to a stage: `until`, or the one that it is named after."""

    def command(
        out: OutFolder,
        images: Images = None,
        tags: Tags = None,
        masks: Masks = None,
        labels: Labels = None,
        classes: Classes = None,
        split: Splits = None,
        config: ConfigFile = None,
        set_: Assignments = None,
        overwrite: Overwrite = False,
    ) -> None:
        _pipeline(
            until or name, out, overwrite, images=images, tags=tags, masks=masks, labels=labels, classes=classes,
            splits=split, config=config, assignments=set_,
        )  # fmt: skip

    command.__doc__ = text if until else f"{text} Runs what comes before it, if that is not done yet."
    app.command(name, cls=_WithSettings)(command)


_pipeline_command("run", "The main job: images and tags in, masks, a model and a report out.", until="report")
_pipeline_command("classify", "Up to the classifier whose activation maps become seeds.")
_pipeline_command("seed", "Up to the seed maps (seeds/ID.png).")
_pipeline_command("train", "Up to the segmentation network trained on the seeds.")
_pipeline_command("relabel", "Up to the dense masks of the training images (relabel/ID.png); sets retrain.enabled.")
_pipeline_command("retrain", "Up to the network trained again on the relabelled masks; sets retrain.enabled.")
_pipeline_command("export", "Up to the model that you ship (model/).")
_pipeline_command("report", "Everything up to the report (report.html).")


@app.command()
def check(
    images: Images = None,
    tags: Tags = None,
    masks: Masks = None,
    labels: Labels = None,
    classes: Classes = None,
    split: Splits = None,
    config: ConfigFile = None,
    set_: Assignments = None,
) -> None:
    """Reads all images, tags and masks, and reports every problem at once, with its cure."""
    from cian.data.check import check_dataset
    from cian.data.summary import summary
    from cian.terminal import ticking

    settings = _config(images, tags, masks, labels, classes, split, config, set_)
    require_images(settings)
    with ticking("checking", "files") as progress:
        table, problems = check_dataset(settings.data, settings.seed, progress=progress)
    console = Console()
    if table is not None:
        console.print(summary(table))
    for problem in problems:
        if not problem.fatal:
            console.print(f"note: {problem}", style="yellow", highlight=False, markup=False)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal or table is None:
        raise DataError(fatal or problems, shown=len(problems))
    from cian.pipeline.run import check_work

    check_work(settings, table)
    console.print("No problems: `cian run` with the same options starts the work.", style="green")


@app.command()
def predict(
    model: Annotated[str, typer.Option("--model", help="runs/NAME/model, a run, or a hub id owner/name.")],
    images: Annotated[Path, typer.Option("--images", help="An image, or a folder of images.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the masks.")],
    tags: Annotated[
        Path | None, typer.Option("--tags", help="Tags, as for `run`: then only these classes may appear.")
    ] = None,
    overlays: Annotated[bool, typer.Option("--overlays", help="Also write OUT/overlays/ID.jpg, to look at.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of predict, runtime or data, or max_side, e.g. predict.crf.iterations=0; repeatable.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Predict all of these images anew, in place of the masks there, corrected ones, too."
        ),
    ] = False,
) -> None:
    """Masks for new images from a trained model; images that have one already are skipped.

    OUT/found.csv says how many pixels of each class each image has.
    """
    from cian.inference.folder import predict_folder

    predict_folder(model, images, out, tags, overlays, _assignments(set_), overwrite)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option("--predictions", help="Folder of predicted indexed PNGs.")],
    masks: Annotated[Path | None, typer.Option("--masks", help="Folder of true indexed PNGs; 255 is ignored.")] = None,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="Class names, one a line, background first.")
    ] = None,
    list_: Annotated[Path | None, typer.Option("--list", help="Ids to score, one a line; default: all masks.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Also write the scores to this file.")] = None,
    submit: Annotated[
        Path | None,
        typer.Option(
            "--submit",
            help="Write the archive (.tgz) for PASCAL VOC's test server; needs --list, but no --masks or --classes.",
        ),
    ] = None,
    competition: Annotated[
        str, typer.Option("--competition", help="comp6 (trained on any data) or comp5 (on VOC's alone).")
    ] = "comp6",
    images: Annotated[
        Path | None, typer.Option("--images", help="With --submit: the test images, to compare sizes with.")
    ] = None,
) -> None:
    """mIoU, per-class IoU and pixel accuracy of any folder of indexed PNGs, ours or another tool's."""
    from cian.evaluation.folders import evaluate_folders, write_submission
    from cian.files import write_json
    from cian.formats.devkits import VOC_CLASSES

    if submit is not None:
        if list_ is None:
            raise CianError("--submit: which images? Give the list of the test images to --list.")
        count = write_submission(
            predictions, list_, submit, classes=classes or VOC_CLASSES, images=images, competition=competition
        )
        print(f"{submit}: {count} masks")
        if masks is None:
            return
    if masks is None or classes is None:
        raise CianError("--masks and --classes: scoring needs both. Give them, or --submit to pack a submission.")
    result = evaluate_folders(predictions, masks, classes, list_)
    if json_ is not None:
        write_json(json_, result)
    table = RichTable(box=None)
    for heading in ("class", "IoU %", "precision %", "recall %"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name, value in result["iou"].items():
        row = (value, result["precision"][name], result["recall"][name])
        table.add_row(name, *("–" if cell is None else f"{cell:.2f}" for cell in row))
    Console().print(table)
    accuracy, miou = ("–" if result[key] is None else f"{result[key]:.2f}" for key in ("accuracy", "miou"))
    print(f"images {result['images']}\npixel accuracy {accuracy}\nmIoU {miou}")


@app.command(cls=_WithSettings)
def ablate(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the runs and of the table; an interrupted ablation goes on.")
    ],
    images: Images = None,
    tags: Tags = None,
    masks: Masks = None,
    labels: Labels = None,
    classes: Classes = None,
    split: Splits = None,
    config: ConfigFile = None,
    set_: Assignments = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Random seeds: seed, seed + 1, …")] = 3,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A variant, e.g. baseline, cosine; repeatable. Default: all.")
    ] = None,
    saliency: Annotated[
        str | None, typer.Option("--saliency", help="Maps or FILE.onnx, to compare seeds with and without.")
    ] = None,
) -> None:
    """The paper's steps and choices, one at a time, over several random seeds; ends in a table and a plot.

    Every variant is a run of its own, OUT/seed-S/VARIANT. Scored on the held-out images that have masks.
    """
    base = _config(images, tags, masks, labels, classes, split, config, set_)

    from accelerate import PartialState

    from cian.pipeline.ablation import ablate as run_ablation

    run_ablation(base, out, repeat, only, saliency)
    if PartialState().is_main_process:
        print((out / "ablation.md").read_text(encoding="utf-8") + f"\n{out / 'ablation.png'}")


@app.command("coco-masks")
def coco_masks(
    annotations: Annotated[
        Path, typer.Option("--annotations", help="A COCO JSON of instances, or COCO's folder annotations/.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the masks; COCO/masks is where data.coco looks.")],
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="Class names, one a line, background first; default: as tags have it."),
    ] = None,
) -> None:
    """Draws COCO's instances into masks to score on, and writes their class names (classes.txt).

    An interrupted call goes on; annotations that changed are drawn anew.
    """
    from cian.formats.coco_masks import write_coco_masks

    names = write_coco_masks(annotations, out, classes)
    print(f"{out}: masks of {len(names) - 1} classes ({out / 'classes.txt'})")


@app.command()
def demo(
    out: OutFolder = Path("runs/demo"),
    data: Annotated[
        str, typer.Option("--data", help="animals (made here), or pets (Oxford-IIIT Pet, downloaded).")
    ] = "animals",
    set_: Assignments = None,
    overwrite: Overwrite = False,
) -> None:
    """Learns to segment from tags alone, on embedded data, within minutes; ends in a report to look at."""
    from cian.demo.run import run_demo

    print(run_demo(out, data, _assignments(set_), overwrite).report_file)


def _assignments(texts: list[str] | None) -> dict[str, Any]:
    return dict(parse_assignment(text) for text in texts or ())


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


_CURES: Mapping[int, str] = {
    errno.ENOENT: "no longer there: another program may have moved or removed it. Run the same command again",
    errno.ENOSPC: "the disk is full. Free some space; the same command goes on from here",
    errno.EDQUOT: "your quota is used up. Free some space; the same command goes on from here",
    errno.EROFS: "the file system is read-only. Give another --out",
    errno.EACCES: "permission denied. Give a place that you may read and write",
    errno.EPERM: "not permitted. Give a place that you may read and write",
    errno.EMFILE: "too many open files. Raise `ulimit -n`, or set runtime.workers=0",
    errno.ENOTDIR: "a folder is needed, but a file is in its place. Give another --out",
    errno.EEXIST: "a folder is needed, but a file is in its place. Give another --out",
    errno.EISDIR: "a file is needed, but a folder is in its place. Give another name",
    errno.EFBIG: "the file is larger than is allowed here. Raise `ulimit -f`; the same command goes on from here",
    errno.ENAMETOOLONG: "the name is too long. Give a shorter one",
}


_NO_GPU_MEMORY = (
    "The GPU has too little memory left. Lower train.batch_size (classify.batch_size) and make up for it with "
    "runtime.accumulate, or lower the crops, train.augment.crop; for masks of large images lower max_side or "
    "predict.tile. What was done is kept."
)


def main() -> None:
    """Entry point: user errors become one message on stderr and exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler that stops us is a Ctrl-C
    try:
        app()
    except SystemExit as end:
        if not end.code and "torch.distributed" in sys.modules:  # loading it takes seconds
            from cian.training.distributed import leave

            leave()
        raise
    except ReportedByMain:
        sys.exit(1)
    except CianError as error:
        if "torch" not in sys.modules and os.environ.get("RANK", "0") != "0":
            sys.exit(1)  # every process of a distributed run finds the same wrong setting; the first one prints it
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


def _fail(message: str) -> None:
    if "--overwrite" in sys.argv:  # which would do everything anew
        message = message.replace("same command", "same command without --overwrite")
    print(f"cian: {message}", file=sys.stderr)
    sys.exit(1)
