"""Reports: what is written is read again, what is damaged is refused, and no document says other than its report."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report as reports
from benchmarks.markdown import fill, number, page, table_text
from benchmarks.report import Column, Measured, Plot, Table, command_line, read_report, report_folder, write_report
from benchmarks.schema import as_json
from runtime.support.errors import ShrikeError
from tests.benchmarks.made_report import COLUMNS, ROWS, made_report

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
KEPT = sorted(path.parent for path in ROOT.glob("docs/reports/*/report.json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with report_folder(tmp_path / "docs" / "made") as temporary:
        (temporary / "plot.png").write_bytes(b"png")
        write_report(temporary, made_report(plots=[Plot("plot.png", "What it shows")]))
    return tmp_path / "docs" / "made"


def test_what_was_written_is_read_again(folder: Path) -> None:
    report = made_report(plots=[Plot("plot.png", "What it shows")])
    found = read_report(folder)
    assert found.tables == report.tables
    assert as_json(found) == (folder / "report.json").read_text()
    rows = found.table("steps").records()
    assert rows[0]["median"] == Measured(9.8123, rounds=(9.7, 9.8, 9.9))
    assert rows[0]["EER"] is None and rows[1]["EER"] == Measured(29.4, 25.0, 33.9)
    assert sorted(path.name for path in folder.iterdir()) == ["plot.png", "report.json", "report.md"]


def test_the_page_shows_everything_a_reader_needs(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert "| f0    | u8    |       9.81 |" in text and "29.4 (25.0 to 33.9)" in text
    for words in ("load average was 3.1", "](plot.png)", "| cpu, model | made |", "| threads | 1, 2 |", "## Steps"):
        assert words in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "report version 2, this Shrike reads version 1"),
        ({"version": None}, "report version None"),
        ({"more": 1}, "more"),
        ({"title": 3}, "title"),
        ({"created": "today"}, "created is 'today'"),
        ({"tables": [{}]}, "name"),
        ({"plots": [{"file": "../x.png", "caption": ""}]}, "../x.png"),
    ],
)
def test_what_is_no_report_of_ours_is_refused_in_one_line(folder: Path, change: dict[str, Any], message: str) -> None:
    values = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(values | change))
    with pytest.raises(ShrikeError, match=re.escape(message)) as caught:
        read_report(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": NaN}', '{"version": 1}', "\xff"])
def test_damaged_files_are_refused_in_one_line(folder: Path, text: str) -> None:
    (folder / "report.json").write_text(text, encoding="latin-1")
    with pytest.raises(ShrikeError) as caught:
        read_report(folder)
    assert "\n" not in str(caught.value) and "report.json" in str(caught.value)


def test_every_prefix_of_a_report_is_refused(folder: Path) -> None:
    data = (folder / "report.json").read_bytes()
    for length in range(0, len(data) - 2, 97):
        (folder / "report.json").write_bytes(data[:length])
        with pytest.raises(ShrikeError):
            read_report(folder)


@pytest.mark.parametrize(
    "rows",
    [
        [{"model": "f0", "form": "u8", "median": float("nan")}],
        [{"model": "f0", "form": "u8", "size": float("inf")}],
        [{"model": "f0", "form": "u8", "median": "quick"}],
        [{"model": "f0"}],  # a key is missing
        [ROWS[0], ROWS[0]],
    ],
)
def test_rows_that_cannot_be_compared_are_refused(rows: list[Any]) -> None:
    with pytest.raises(ShrikeError):
        Table.of("steps", "", "", COLUMNS, rows)


@pytest.mark.parametrize("values", [(1.0, 2.0, None), (1.0, 3.0, 2.0), (float("nan"), None, None)])
def test_measured_is_finite_and_its_interval_whole(values: Any) -> None:
    with pytest.raises(ShrikeError):
        Measured(*values)
    with pytest.raises(ShrikeError):
        Column("median", key=True, better="lower")


def test_a_report_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), report_folder(tmp_path / "new") as temporary:
        write_report(temporary, made_report())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_only_a_report_is_overwritten_and_only_when_asked(folder: Path, tmp_path: Path) -> None:
    before = (folder / "report.json").read_text()
    with pytest.raises(ShrikeError, match="replace it with --overwrite"), report_folder(folder):
        pass
    with pytest.raises(RuntimeError), report_folder(folder, overwrite=True) as temporary:
        (temporary / "report.json").write_text("half")
        raise RuntimeError
    assert (folder / "report.json").read_text() == before
    with report_folder(folder, overwrite=True) as temporary:
        write_report(temporary, made_report(kind="stream"))
    assert read_report(folder).kind == "stream" and not (folder / "plot.png").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.md").write_text("years of work")
    with pytest.raises(ShrikeError, match="is no report"), report_folder(tmp_path / "thesis", overwrite=True):
        pass
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        with pytest.raises(ShrikeError), report_folder(tmp_path / place):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "file", "thesis"]


def test_the_command_holds_no_path_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [f"{tmp_path}/runs/a b.pt", "/data/LA", "--cache=/var/cache", "~/models/m.onnx", "../shared/corpus"]
    expected = "python -m benchmarks.latency 'runs/a b.pt' LA --cache=cache m.onnx ../shared/corpus"
    assert command_line("benchmarks.latency", arguments) == expected


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(9.8123, None, "9.812"), (12345.678, None, "12,346"), (0.00123456, None, "0.001235"), (0.0, None, "0.000"),
     (1.5e-7, None, "1.500e-07"), (-3.14159, 1, "-3.1"), (1234567, None, "1,234,567"), (99.99951, None, "100.00")],
)  # fmt: skip
def test_numbers_keep_four_digits_unless_the_column_says(value: float, digits: int | None, text: str) -> None:
    assert number(value, digits) == text


# ---- documents -------------------------------------------------------------------------------------------------------

DOCUMENT = """# Ours
<!-- report: docs/made table=steps columns=form,median where=form=u8 -->
old
<!-- end report -->
between
<!-- report: docs/made table=steps source=no -->
<!-- end report -->
"""


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.report", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_blocks_are_filled_and_a_stale_one_is_named(folder: Path, tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(DOCUMENT)
    checked = command("--into", "README.md", "--check", cwd=tmp_path)
    assert checked.returncode == 3 and document.read_text() == DOCUMENT
    assert "README.md:2: docs/made table=steps columns=form,median" in checked.stderr
    assert command("docs/made", "--into", "README.md", cwd=tmp_path).returncode == 0
    text = document.read_text()
    assert "| u8   |       9.81 |" in text and "float" not in text.partition("between")[0]
    assert "[the whole report](docs/made/report.md)" in text and text.count("whole report") == 1
    assert command("--into", "README.md", "--check", cwd=tmp_path).returncode == 0
    document.write_text(text.replace("9.81", "9.18", 1))
    stale = command("--into", "README.md", "--check", cwd=tmp_path)
    assert stale.returncode == 3 and "README.md:2: " in stale.stderr and "README.md:9" not in stale.stderr


def test_other_reports_blocks_are_left_alone(folder: Path, tmp_path: Path) -> None:
    document = tmp_path / "docs" / "page.md"  # the report is found from a document beside it as well
    document.write_text(DOCUMENT)
    assert fill(document, [tmp_path / "docs" / "other"]).text == DOCUMENT
    assert len(fill(document, [folder]).differing) == 2


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("docs/none table=steps", "no folder docs/none"),
        ("docs/made", "table= is missing; there are steps"),
        ("docs/made table=other", "no table 'other'"),
        ("docs/made table=steps columns=form,speeed", "no column 'speeed'; there are model"),
        ("docs/made table=steps colour=red", "'colour=red'"),
        ("docs/made table='steps", "words such as"),
    ],
)
def test_a_wrong_marker_says_where_and_why(folder: Path, tmp_path: Path, marker: str, message: str) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"\n<!-- report: {marker} -->\n<!-- end report -->\n")
    with pytest.raises(ShrikeError, match=re.escape(message)) as caught:
        fill(document)
    assert "page.md:2: " in str(caught.value)


@pytest.mark.parametrize("damage", ["<!-- end report -->\n", "<!-- report: docs/made table=steps -->\n"])
def test_a_block_without_its_other_half_is_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    for text in (DOCUMENT + damage, damage + DOCUMENT, DOCUMENT.replace("between\n", damage)):
        (tmp_path / "page.md").write_text(text)
        with pytest.raises(ShrikeError, match="needs its"):
            fill(tmp_path / "page.md")


def test_the_command_shows_a_report_and_refuses_what_makes_no_sense(folder: Path, tmp_path: Path) -> None:
    shown = command("docs/made", cwd=tmp_path)
    assert shown.stdout == (folder / "report.md").read_text()
    for arguments in ((), ("docs/made", "--check"), ("docs",), ("--into", "none.md")):
        wrong = command(*arguments, cwd=tmp_path)
        assert wrong.returncode == 2 and wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_our_documents_say_what_their_reports_say(document: Path) -> None:
    assert not fill(document).differing


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_kept_reports_are_of_this_schema_and_their_pages_current(kept: Path) -> None:
    report = read_report(kept)
    assert as_json(report) == (kept / "report.json").read_text("utf-8")
    assert page(report) == (kept / "report.md").read_text("utf-8")
    assert all((kept / plot.file).is_file() for plot in report.plots)


def test_rows_stay_on_one_line_and_columns_line_up() -> None:
    lines = table_text(made_report().table("steps")).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4
    assert as_json(made_report()).count('["f0", "u8", ') == 1
    assert reports.VERSION == 1
