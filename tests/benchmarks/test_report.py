"""Reports: written reports are read again, damaged ones refused, and documents quote their reports."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import Measured, Plot, Table, command_line, read_report, report_folder, write_report
from benchmarks.report import __main__ as command
from benchmarks.report.markdown import fill, number, page, table_text
from benchmarks.report.schema import Column, as_json, columns
from runtime.support.errors import ShrikeError
from tests.benchmarks.made_report import COLUMNS, ROWS, made_report

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
PUBLISHED = sorted(path.parent for path in ROOT.glob("docs/reports/*/report.json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with report_folder(tmp_path / "docs" / "made") as temporary:
        (temporary / "plot.png").write_bytes(b"png")
        write_report(temporary, made_report(plots=[Plot("plot.png", "Caption")]))
    return tmp_path / "docs" / "made"


def test_a_written_report_is_read_again(folder: Path) -> None:
    report, found = made_report(plots=[Plot("plot.png", "Caption")]), read_report(folder)
    assert found.tables == report.tables
    assert as_json(found) == (folder / "report.json").read_text()
    rows = found.table("steps").records()
    assert rows[0]["median"] == Measured(9.8123, rounds=(9.7, 9.8, 9.9))
    assert rows[0]["EER"] is None and rows[1]["EER"] == Measured(29.4, 25.0, 33.9)
    text = (folder / "report.md").read_text()
    assert all(part in text for part in ("9.81", "29.4 (25.0 to 33.9)", "plot.png", "load average 3.1", "made"))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"version": None}, {"more": 1}, {"title": 3}, {"created": "today"}, {"tables": [{}]},
        {"plots": [{"file": "../x.png", "caption": ""}]},
    ],
)  # fmt: skip
def test_other_schemas_are_refused(folder: Path, change: dict[str, Any]) -> None:
    values = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(values | change))
    with pytest.raises(ShrikeError) as caught:
        read_report(folder)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(folder: Path) -> None:
    data = (folder / "report.json").read_bytes()
    damaged = [data[:length] for length in range(0, len(data) - 2, 97)] + [b"[]", b'{"version": NaN}', b"\xff"]
    for content in damaged:
        (folder / "report.json").write_bytes(content)
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
def test_measured_is_finite_and_its_interval_has_both_ends(values: Any) -> None:
    with pytest.raises(ShrikeError):
        Measured(*values)


def test_columns_are_written_as_headings() -> None:
    assert columns("model*; of budget, % .1; min t-DCF 2019 < .4; speed, inputs/s >; about") == (
        Column("model", key=True), Column("of budget", "%", digits=1),
        Column("min t-DCF 2019", "", "lower", digits=4), Column("speed", "inputs/s", "higher"), Column("about"),
    )  # fmt: skip


def test_a_report_appears_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), report_folder(tmp_path / "new") as temporary:
        write_report(temporary, made_report())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_only_a_report_is_overwritten_and_only_when_asked(folder: Path, tmp_path: Path) -> None:
    before = (folder / "report.json").read_text()
    with pytest.raises(ShrikeError), report_folder(folder):
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
    (tmp_path / "file").write_text("")
    for place in ("thesis", "file", "file/below"):
        with pytest.raises(ShrikeError), report_folder(tmp_path / place, overwrite=True):
            pass
    assert (tmp_path / "thesis" / "chapter.md").read_text() == "years of work"


def test_the_command_has_no_path_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [f"{tmp_path}/runs/a b.pt", "/data/LA", "--cache=/var/cache", "~/models/m.onnx", "../shared/corpus"]
    expected = "python -m benchmarks.latency 'runs/a b.pt' LA --cache=cache m.onnx ../shared/corpus"
    assert command_line("benchmarks.latency", arguments) == expected


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(9.8123, None, "9.812"), (12345.678, None, "12,346"), (0.00123456, None, "0.001235"), (0.0, None, "0.000"),
     (1.5e-7, None, "1.500e-07"), (-3.14159, 1, "-3.1"), (1234567, None, "1,234,567"), (99.99951, None, "100.00")],
)  # fmt: skip
def test_numbers_have_four_digits_by_default(value: float, digits: int | None, text: str) -> None:
    assert number(value, digits) == text


def test_tables_are_aligned_and_rows_are_lines_of_json() -> None:
    lines = table_text(made_report().table("steps")).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4
    assert as_json(made_report()).count('["f0", "u8", ') == 1


# ---- documents

DOCUMENT = """# Ours
<!-- report: docs/made table=steps columns=form,median where=form=u8 -->
old
<!-- end report -->
between
<!-- report: docs/made table=steps source=no -->
<!-- end report -->
"""


def test_blocks_are_filled_and_stale_ones_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "README.md"
    document.write_text(DOCUMENT)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["report", *arguments])
        return command.main()

    assert run("--into", str(document), "--check") == 3 and document.read_text() == DOCUMENT
    assert run(str(folder), "--into", str(document)) == 0
    text = document.read_text()
    assert "| u8   |       9.81 |" in text and "float" not in text.partition("between")[0]
    assert text.count("(docs/made/report.md)") == 1
    assert run("--into", str(document), "--check") == 0
    document.write_text(text.replace("9.81", "9.18", 1))
    capsys.readouterr()
    assert run("--into", str(document), "--check") == 3 and "README.md:2: " in capsys.readouterr().err
    assert run(str(folder)) == 0 and capsys.readouterr().out == (folder / "report.md").read_text()


def test_blocks_of_other_reports_stay(folder: Path, tmp_path: Path) -> None:
    document = tmp_path / "docs" / "page.md"  # the report is found from a document beside it as well
    document.write_text(DOCUMENT)
    assert fill(document, [tmp_path / "docs" / "other"])[0] == DOCUMENT
    assert len(fill(document, [folder])[1]) == 2


@pytest.mark.parametrize(
    "marker",
    ["docs/none table=steps", "docs/made", "docs/made table=other", "docs/made table=steps columns=form,speeed",
     "docs/made table=steps colour=red", "docs/made table='steps"],
)  # fmt: skip
def test_a_wrong_marker_is_refused_with_its_line(folder: Path, tmp_path: Path, marker: str) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"\n<!-- report: {marker} -->\n<!-- end report -->\n")
    with pytest.raises(ShrikeError, match=r"page\.md:2: "):
        fill(document)


@pytest.mark.parametrize("damage", ["<!-- end report -->\n", "<!-- report: docs/made table=steps -->\n"])
def test_an_unpaired_marker_is_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    for text in (DOCUMENT + damage, damage + DOCUMENT, DOCUMENT.replace("between\n", damage)):
        (tmp_path / "page.md").write_text(text)
        with pytest.raises(ShrikeError):
            fill(tmp_path / "page.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_our_documents_agree_with_their_reports(document: Path) -> None:
    assert not fill(document)[1]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda path: path.name)
def test_published_reports_are_of_this_schema_and_their_pages_current(published: Path) -> None:
    report = read_report(published)
    assert as_json(report) == (published / "report.json").read_text("utf-8")
    assert page(report) == (published / "report.md").read_text("utf-8")
    assert all((published / plot.file).is_file() for plot in report.plots)
