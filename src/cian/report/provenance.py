"""Where a run comes from: data, time of each stage, versions and machine; and the files that it made."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from cian.data.summary import frequent_pairs, summary_data
from cian.data.table import Table
from cian.report.draw_scores import MATRIX_CLASSES, PAIRS

if TYPE_CHECKING:
    from cian.pipeline.context import Context


def data_summary(table: Table) -> dict[str, Any]:
    """The counts in the section on data."""
    data = summary_data(table)
    pairs = frequent_pairs(data, PAIRS)
    tags = np.diff(table.tag_offsets)[table.tagged]
    return {
        **data,
        "rows": [
            {"name": name, "class_id": i + 1, "counts": [counts[i] for counts in data["counts"].values()]}
            for i, name in enumerate(table.classes)
        ],
        "matrix": data["co_occurrence"] if len(table.classes) <= MATRIX_CLASSES else None,
        "most": pairs[0][0] if pairs else 0,
        "pairs": pairs,
        "tags_per_image": float(tags.mean()) if len(tags) else None,
    }


def durations(context: Context) -> list[dict[str, Any]]:
    """How long each finished stage took, in seconds."""
    records = context.run.records()
    rows: list[dict[str, Any]] = [
        {"name": stage.title, "seconds": records[stage.name].seconds}
        for stage in context.stages
        if stage.name in records and records[stage.name].done
    ]
    return [row for row in rows if row["seconds"] >= 0.5] or rows


def versions(context: Context) -> dict[str, str]:
    """The package versions, as recorded at the start of the run."""
    if not context.run.config_file.exists():
        return {}
    tree = yaml.safe_load(context.run.config_file.read_text(encoding="utf-8"))
    return tree.get("versions", {}) if isinstance(tree, dict) else {}


def machine(context: Context) -> str:
    device = context.accelerator.device
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        processor = next((model for model in models if model not in ("", "unknown")), processor)
    text = f"{processor}, {os.cpu_count()} cores, {platform.system()}"
    if device.type == "cuda":
        count = context.accelerator.num_processes
        text = f"{count} × {torch.cuda.get_device_name(device)}, {text}"
    return text


def artefacts(context: Context) -> list[tuple[str, str]]:
    """(path in the run directory, what it is) of the files and folders of the run."""
    known = {path: text for stage in reversed(context.stages) for path, text in stage.files.items()}
    known |= {
        "data.csv": "the images, tags and splits",
        "config.yaml": "settings and versions: give it to --config to repeat the run",
    }
    return [(path, text) for path, text in known.items() if (context.run.path / path).exists()]
