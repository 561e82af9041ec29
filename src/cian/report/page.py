"""report.html: what a run learned and how well, in one self-contained page.

Text, tables and charts are HTML and SVG in the reader's own fonts, so that class names in any script can be read. Each
image is stored once; masks and heat maps are small layers over it.
"""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Any

import jinja2
import yaml

from cian.config import dump_config
from cian.files import read_json, write_text
from cian.pipeline.context import Context
from cian.report.affinity_view import affinity_examples
from cian.report.curves import loss_curves
from cian.report.draw_affinity import draw_affinity
from cian.report.gallery import galleries
from cian.report.pictures import Pictures
from cian.report.provenance import artefacts, data_summary, durations, legend, machine, versions
from cian.report.scores import confusion, number_scored, per_class, score_rows, seed_tables
from cian.terminal import Ticker, duration


def write_report(context: Context) -> None:
    """Writes the page of a run. If the run lacks a part (masks, affinity, …), the page leaves it out or says so."""
    scores: dict[str, Any] = read_json(context.run.metrics_file)
    pictures = Pictures()
    with Ticker("report", 4, unit="parts") as ticker:
        held_out, training = galleries(context, pictures)
        ticker.advance(2)
        examples = affinity_examples(context) if context.config.affinity.mode != "none" else []
        affinity = draw_affinity(examples, context.predict_table, pictures)
        ticker.advance()
        page = _template().render(
            name=context.run.path.resolve().name,
            written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M").lstrip("0"),
            config=context.config,
            classes=legend(context.table),
            table=context.table,
            train_images=len(context.train_table),
            seeded=context.has_seeds,
            label_maps=sum(labels is not None for labels in context.train_table.labels),
            splits=context.predict_splits,
            predicted_images=len(context.predict_table),
            scores=scores,
            scored_images=number_scored(context, scores),
            rows=score_rows(context, scores),
            seed_tables=seed_tables(context, scores),
            per_class=per_class(context, scores),
            confusion=confusion(context, scores),
            held_out=held_out,
            training=training,
            shown={
                tile["name"] for part in (held_out, training) if part for row in part["rows"] for tile in row["tiles"]
            },
            affinity=affinity,
            curves=loss_curves(context),
            data=data_summary(context.table),
            stages=durations(context),
            versions=versions(context),
            machine=machine(context),
            artefacts=artefacts(context),
            settings=yaml.safe_dump(dump_config(context.config), sort_keys=False, allow_unicode=True),
            model=context.run.model,
            pictures=pictures.uris,
        )
        write_text(context.run.report_file, page)
        ticker.advance()


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
    environment.filters["shell"] = shlex.quote
    return environment.get_template("report.html.j2")
