"""benchmarks.drift: minutes without a reset, where steps must be the whole, and what drifts is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import drift
from benchmarks.report import read_report
from export import onnx
from export.pipeline import Source
from runtime.support.errors import ShrikeError
from tests.export.conftest import make_checkpoint
from tests.runtime.made_model import made_model
from train.checkpoint import write_checkpoint

STEPS = 461 * 3  # of 16 frames in three minutes


@pytest.fixture(scope="module", params=["asoftmax", "ocsoftmax"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network that remembers and its step in float; one whose head takes cosines keeps a ring of embeddings."""
    folder = tmp_path_factory.mktemp("pair")
    checkpoint = make_checkpoint(level="running-mean", loss=request.param, streaming=True)
    write_checkpoint(folder / "model.pt", checkpoint)
    return folder / "model.pt", onnx.write(onnx.Options(Source(folder / "model.pt"), "fp32"))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    monkeypatch.setattr("sys.argv", ["benchmarks.drift", *map(str, arguments)])
    return drift.main()


def test_minutes_in_one_call_are_what_steps_say(
    pair: tuple[Path, Path], made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = (*pair, "--corpus", made_corpus, "--cache", made_cache, "--minutes", 3, "--out", tmp_path / "report")
    assert call(monkeypatch, *words) == 0
    report = read_report(tmp_path / "report")
    steps, file = report.table("drift").records()
    assert (steps["against"], file["scores"]) == ("the whole in one call", "fp32 file")
    assert 0 < steps["largest"] < 1e-4 and file["largest"] < 1e-4  # type: ignore[operator]
    assert steps["correlation"] == pytest.approx(1) and not report.notes
    assert f"{STEPS:,} of 16 frames" in report.conditions["steps"]
    assert capsys.readouterr().out.startswith("| scores")


def test_what_grows_and_what_differs_is_a_fault() -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(0, 1, STEPS)
    noise = np.tile(rng.normal(0, 0.01, STEPS // 3), 3)
    table, faults = drift.compare(whole, whole, whole + noise, 3, "int8")
    assert faults == [] and table.records()[1]["first minute"] == pytest.approx(0.01, rel=0.1)
    _, faults = drift.compare(whole, whole, whole + noise * np.linspace(1, 2, STEPS), 3, "int8")
    assert len(faults) == 1 and faults[0].startswith("INT8 drifts: on the same minute of sound its error is 0.01")
    _, faults = drift.compare(whole, whole + 1e-3, whole + 1e-3, 3, "int8")
    assert len(faults) == 1 and faults[0].startswith("float steps differ from the whole by 0.001, ")


def test_what_does_not_fit_is_one_sentence(
    pair: tuple[Path, Path], made_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, exported = pair
    windows = made_model(tmp_path)
    write_checkpoint(tmp_path / "model.pt", make_checkpoint())
    write_checkpoint(tmp_path / "flat.pt", make_checkpoint(streaming=True))
    for model, file, sentence in (
        (trained, windows, "model.onnx looks at whole windows"),
        (tmp_path / "model.pt", exported, "model.pt looks at whole windows"),
        (tmp_path / "flat.pt", exported, "has another front-end than"),
    ):
        with pytest.raises(ShrikeError, match=sentence):
            call(monkeypatch, model, file, "--corpus", made_corpus, "--out", tmp_path / "report")
    with pytest.raises(ShrikeError, match="--minutes 2: 3 to 1440 were expected"):
        drift.Options(trained, exported, made_corpus, minutes=2)
