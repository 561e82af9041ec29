"""Writes the report: report.html."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cian.pipeline.stage import Stage

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan


_NAMED = 10  # classes in the note at the end


class Report(Stage):
    name = "report"
    title = "report"
    command = "Writes the report, report.html. This is the last stage, so it is the same as `run`."
    dated = True

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return ("evaluate", "export", "statistics")

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return ("report.html",)

    def run(self, context: Context) -> None:
        from cian.errors import Problem
        from cian.report.page import write_report
        from cian.terminal import note

        if not context.accelerator.is_main_process:
            return
        failed = [each.name for each in write_report(context) if each.failed]
        if failed:
            names = ", ".join(failed[:_NAMED]) + ", …" * (len(failed) > _NAMED)
            value = f"{len(failed)} of {len(context.table.classes)} classes not learned: {names}"
            note(Problem(str(context.run.report_file), value, "The report shows why, and what to do", fatal=False))
