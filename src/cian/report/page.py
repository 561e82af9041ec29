"""report.html: what a run learned and how well, in one self-contained page.

Text, tables and charts are HTML and SVG in the reader's own fonts, so that class names in any script can be read. Each
image is stored once; masks and heat maps are small layers over it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jinja2
import yaml

from cian.config import dump_config
from cian.data.table import TRAIN, Table
from cian.files import read_json, write_text
from cian.report.affinity_view import affinity_examples
from cian.report.curves import loss_curves
from cian.report.draw_affinity import draw_affinity
from cian.report.draw_curves import draw_curves
from cian.report.draw_gallery import draw_rows
from cian.report.draw_scores import draw_class_scores, draw_confusions
from cian.report.findings import (
    FAILED,
    LOOKED_AT,
    ClassFinding,
    Finding,
    class_findings,
    doubtful_predictions,
    unseeded_images,
    worst_predictions,
)
from cian.report.gallery import image_rows
from cian.report.page_images import PageImages, colour
from cian.report.provenance import artefacts, data_summary, durations, machine, versions
from cian.report.samples import choose
from cian.report.scores import class_scores, confusions, score_rows, seed_scores
from cian.terminal import Ticker, duration

if TYPE_CHECKING:
    from cian.pipeline.context import Context

SHOWN, SHOWN_MOST = 12, 24  # rows of predicted images: at least, and at most if there are many classes
TRAINING_SHOWN, TRAINING_MOST = 4, 12
WORST, UNSEEDED = 6, 4  # rows of images to look at first


def write_report(context: Context) -> list[ClassFinding]:
    """Writes the page of a run. If the run lacks a part (masks, affinity, …), the page leaves it out or says so.

    Returns:
        The classes that were not learned, or from little.
    """
    scores: dict[str, Any] = read_json(context.run.metrics_file)
    images = PageImages()
    with Ticker("report", 4, unit="parts") as ticker:
        galleries = _galleries(context, images)
        ticker.advance(2)
        examples = affinity_examples(context) if context.config.affinity.mode != "none" else []
        affinity = draw_affinity(examples, context.predict_table, images)
        ticker.advance()
        rows = score_rows(context, scores)
        findings = class_findings(context, scores)
        page = _template().render(
            name=context.run.path.resolve().name,
            written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M").lstrip("0"),
            config=context.config,
            table=context.table,
            train_images=len(context.train_table),
            seeded=context.has_seeds,
            label_maps=sum(labels is not None for labels in context.train_table.labels),
            splits=context.predict_splits,
            predicted_images=len(context.predict_table),
            findings=findings,
            failed_below=FAILED,
            scores=scores,
            scored_images=sum(row.images for row in rows if row.headline),
            rows=rows,
            seed_scores=seed_scores(context, scores),
            per_class=draw_class_scores(class_scores(context, scores)),
            confusion=draw_confusions(confusions(context, scores)),
            **galleries,
            affinity=affinity,
            choice=context.choice,
            shipped=context.final_network.scores_title(context.config),
            curves=[draw_curves(curves) for curves in loss_curves(context)],
            data=data_summary(context.table),
            stages=durations(context),
            versions=versions(context),
            machine=machine(context),
            artefacts=artefacts(context),
            settings=yaml.safe_dump(dump_config(context.config), sort_keys=False, allow_unicode=True),
            model=context.run.model,
            uris=images.uris,
        )
        write_text(context.run.report_file, page)
        ticker.advance()
    return findings


def _galleries(context: Context, images: PageImages) -> dict[str, Any]:
    """The rows of images: those to look at first, some of the predicted images, and, if these are others, some of the
    training images."""
    scored, train = context.scored_table, context.train_table
    predicted = scored if len(scored) else context.predict_table
    worst = worst_predictions(context) if len(scored) else doubtful_predictions(context)
    unseeded = unseeded_images(context)
    classifier = context.load_classifier() if context.has_seeds and context.has_classifier else None
    chosen = choose(context, predicted, SHOWN, SHOWN_MOST) if len(predicted) else []
    train_chosen = choose(context, train, TRAINING_SHOWN, TRAINING_MOST) if TRAIN not in context.predict_splits else []
    parts: dict[str, tuple[Table, Sequence[int | Finding]]] = {
        "worst": (predicted, worst[:WORST]),
        "unseeded": (context.seed_table, unseeded[:UNSEEDED]),
        "held_out": (predicted, chosen),
        "training": (train, train_chosen),
    }
    drawn = {
        name: draw_rows(image_rows(context, table, rows, classifier), context.table.class_names, images)
        for name, (table, rows) in parts.items()
    }
    tiles = [row["tiles"] for rows in drawn.values() for row in rows]
    return {
        **drawn,
        "worst_of": len(worst),
        "doubtful": not len(scored),
        "asked": min(LOOKED_AT, len(predicted)),
        "mostly_wrong": sum(each.value < FAILED for each in worst),
        "unseeded_count": len(unseeded),
        "held_out_total": len(predicted),
        "columns": max(map(len, tiles), default=1),
        "shown": {tile["name"] for row in tiles for tile in row},
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cian", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = lambda value: "–" if value is None else f"{value:.1f}"
    environment.filters["thousands"] = lambda value: f"{value:,}".replace(",", "\u202f")
    environment.filters["duration"] = duration
    environment.filters["colour"] = colour
    environment.filters["shell"] = shlex.quote
    return environment.get_template("report.html.j2")
