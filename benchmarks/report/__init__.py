"""Reports of benchmarks: a folder with report.json, report.md and plots.

    with report_folder(out) as folder:
        write_report(folder, new_report("latency", title, machine, conditions, tables, notes, plots))
    rows = read_report(out).table("steps").records()

docs/reports.md describes the schema and the blocks by which a Markdown file quotes a table.
"""

from benchmarks.report.folder import busy_note, check_place, finish, new_report, place, report_folder, write_report
from benchmarks.report.schema import Cell, Column, Measured, Plot, Report, Table, read_report

__all__ = [
    "Cell", "Column", "Measured", "Plot", "Report", "Table", "busy_note", "check_place", "finish", "new_report",
    "place", "read_report", "report_folder", "write_report",
]  # fmt: skip
