"""Writes the report: report.html."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cian.pipeline.stage import Stage

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan


class Report(Stage):
    name = "report"
    title = "report"
    command = "Writes the report, report.html. This is the last stage, so it is the same as `run`."

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return ("evaluate", "export")

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return ("report.html",)

    def run(self, context: Context) -> None:
        from cian.report.page import write_report

        if context.accelerator.is_main_process:
            write_report(context)
