"""Accuracy reports: the organisers' figures in one command, every form of a model, and runs that are killed."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import accuracy, groups, plots, scoring
from benchmarks.report import Report, read_report
from runtime.support.errors import ShrikeError
from tests.export.conftest import make_checkpoint
from tests.listing import table
from tests.runtime.made_model import made_model
from train.checkpoint import write_checkpoint
from train.data.cache import FeatureCache, build_cache
from train.data.corpus import open_corpus
from train.evaluate.metrics import eer
from train.evaluate.scorefile import ScoreTable, read_scores, write_scores

ASV = "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz"


def measure(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: Any) -> Report:
    """The report of one call of the command."""
    words = ["benchmarks.accuracy", *map(str, arguments), "--out", str(out), "--bootstrap", "20"]
    monkeypatch.setattr("sys.argv", words)
    accuracy.main()
    return read_report(out)


def rows(report: Report, table: str, **where: str) -> list[dict[str, Any]]:
    return [row for row in report.table(table).records() if all(row[name] == value for name, value in where.items())]


def made_table(bonafide: list[float], spoof: list[float], attacks: list[str] | None = None) -> ScoreTable:
    names = np.array([f"u{number}" for number in range(len(bonafide) + len(spoof))])
    kinds = np.array(["-"] * len(bonafide) + (attacks or ["A01"] * len(spoof)))
    return ScoreTable(names, kinds, np.arange(len(names)) < len(bonafide), np.array([*bonafide, *spoof]))


@pytest.fixture(scope="module")
def model_pt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "model.pt"
    write_checkpoint(path, make_checkpoint())
    return path


@pytest.fixture(scope="module")
def model_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model(tmp_path_factory.mktemp("deploy"))


# ---------------------------------------------------------------- systems that are known by their scores


def test_one_command_gives_what_the_organisers_code_gives(
    corpus_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus_root / "scores"
    if not (folder / "EXPECTED.tsv").is_file():
        pytest.skip(f"needs the published scores in {folder}")
    files = [folder / f"{name}.txt.gz" for name in ("rawgat-st-mul", "resnet18-lfcc-ocsoftmax")]
    words = ("--scores", *files, folder / ASV, "--asv", folder / ASV, "--flip", "resnet18-lfcc-ocsoftmax")
    report = measure(monkeypatch, tmp_path / "report", *words)
    with open(folder / "EXPECTED.tsv", encoding="utf-8") as file:
        expected = {row["system"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert [row["system"] for row in rows(report, "systems")] == ["rawgat-st-mul", "resnet18-lfcc-ocsoftmax"]
    columns = {"min_tdcf_2019": "min t-DCF 2019", "min_tdcf_2021": "min t-DCF 2021", "min_dcf": "min DCF",
               "act_dcf": "act DCF", "cllr": "Cllr", "bonafide": "bona fide"}  # fmt: skip
    for row in rows(report, "systems"):
        of_attacks = rows(report, "attacks", system=row["system"])
        measured = {name: row[column] for name, column in columns.items()} | {"eer": row["EER"].value}
        measured |= {f"eer_{attack['attack']}": attack["EER"].value for attack in of_attacks}
        wanted = expected[row["system"]]
        assert len(of_attacks) == 13 and row["EER"].low < row["EER"].value < row["EER"].high
        assert measured == pytest.approx({name: float(wanted[name]) for name in measured}, rel=0, abs=1e-6)
    assert rows(report, "differences")[0]["told apart"] == "worse"
    assert "rawgat-st-mul" in capsys.readouterr().out


def test_scores_that_run_the_other_way_are_said_and_never_turned_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scores(tmp_path / "odd.scores.txt", made_table([0.0, 1.0, 5.0], [4.0, 6.0, 7.0]))
    report = measure(monkeypatch, tmp_path / "as-they-are", "--scores", tmp_path / "odd.scores.txt")
    assert rows(report, "systems")[0]["EER"].value == pytest.approx(100 * 2 / 3)
    assert any("--flip odd" in note for note in report.notes)
    report = measure(monkeypatch, tmp_path / "flipped", "--scores", tmp_path / "odd.scores.txt", "--flip", "odd")
    assert rows(report, "systems")[0]["EER"].value == pytest.approx(100 / 3)
    assert not any("--flip" in note for note in report.notes)


def test_a_system_does_not_differ_from_itself_and_an_order_kept_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    table = made_table(rng.normal(1, 1, 60).tolist(), rng.normal(0, 1, 60).tolist())
    turned = ScoreTable(*(column[::-1] for column in vars(table).values()))
    files = {"a": table, "b": ScoreTable(*list(vars(turned).values())[:3], 3 * turned.score + 1)}
    for name, of_file in files.items():
        write_scores(tmp_path / f"{name}.txt", of_file)
    report = measure(monkeypatch, tmp_path / "report", "--scores", tmp_path / "a.txt", tmp_path / "b.txt")
    (row,) = rows(report, "differences")
    assert (row["EER change"].value, row["EER change"].low, row["EER change"].high) == (0, 0, 0)
    assert row["told apart"] == "no" and row["trials"] == 120 and row["correlation"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "nothing to measure"),
        (("f0",), "--corpus"),
        (("--scores", "a.txt", "--by", "family"), "--by needs --corpus"),
        (("--scores", "a.txt", "--flip", "b"), "no such system"),
        (("nonsense", "--corpus", "."), "no"),
    ],
)
def test_what_a_user_gets_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_scores("a.txt", made_table([1.0], [0.0]))
    with pytest.raises(ShrikeError, match=sentence):
        measure(monkeypatch, tmp_path / "report", *words)
    assert not (tmp_path / "report").exists()


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("windows", ["first", "mean"])
def test_every_form_gets_the_scores_that_training_gives(
    windows: str, model_pt: Path, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train import score

    expected = tmp_path / "torch.txt"
    shared = ["--corpus", str(made_corpus), "--partition", "dev", "--windows", windows, "--cache", str(made_cache)]
    monkeypatch.setattr("sys.argv", ["train.score", str(model_pt), *shared, "--out", str(expected), "--device", "cpu"])
    score.main()
    words = (model_pt, *shared, "--workers", "1", "--by", "speaker", "--scores", expected)
    report = measure(monkeypatch, tmp_path / "report", *words)
    label = f"{model_pt.parent.name}/model.pt"
    found = read_scores(tmp_path / "report" / f"{label.replace('/', '-')}.scores.txt")
    torch_scores = read_scores(expected)
    assert found.utterance.tolist() == torch_scores.utterance.tolist()
    assert np.allclose(found.score, torch_scores.score, atol=1e-4)
    assert rows(report, "systems")[0]["EER"].value == pytest.approx(100 * eer(found.bonafide, found.spoof))
    assert {row["attack"] for row in rows(report, "attacks")} == {"S00", "S01", "S02"}
    (change,) = rows(report, "differences", system="torch")
    assert change["against"] == label and change["correlation"] > 0.9999
    by_speaker = [rows(report, "by-speaker", system=name) for name in (label, "torch")]
    assert by_speaker[0] and [row["spoof"] for row in by_speaker[0]] == [row["spoof"] for row in by_speaker[1]]


@pytest.mark.parametrize("windows", ["first", "mean"])
def test_networks_that_remember_get_the_scores_that_training_gives(
    windows: str, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a checkpoint and as an exported file, step by step; some clips are shorter than a window."""
    from export.options import ModelOptions
    from export.pipeline import export_onnx
    from train import score

    trained = tmp_path / "model.pt"
    write_checkpoint(trained, make_checkpoint(level="running-mean", streaming=True))
    export_onnx(ModelOptions(trained, out=str(tmp_path / "door.onnx"), cache=made_cache), "fp32")
    expected = tmp_path / "torch.txt"
    shared = ["--corpus", str(made_corpus), "--partition", "dev", "--windows", windows, "--cache", str(made_cache)]
    monkeypatch.setattr("sys.argv", ["train.score", str(trained), *shared, "--out", str(expected), "--device", "cpu"])
    score.main()
    words = (trained, tmp_path / "door.onnx", *shared, "--workers", "1", "--by", "speaker")
    measure(monkeypatch, tmp_path / "report", *words)
    wanted = read_scores(expected).score
    found = [read_scores(path).score for path in sorted((tmp_path / "report").glob("*.scores.txt"))]
    assert len(found) == 2 and np.ptp(wanted) > 0
    for scores in found:
        assert np.allclose(scores, wanted, atol=1e-4)


def test_processes_do_not_change_a_score_and_the_card_calibrates(
    model_onnx: Path, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = (model_onnx, "--corpus", made_corpus, "--partition", "train", "--cache", made_cache)
    one = measure(monkeypatch, tmp_path / "one", *shared, "--workers", "1")
    measure(monkeypatch, tmp_path / "two", *shared, "--workers", "2")
    name = f"{model_onnx.parent.name}-model.onnx.scores.txt"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    (row,) = rows(one, "systems")
    table = read_scores(tmp_path / "one" / name)
    llr = 2.0 * table.score + 0.5  # the made card's map
    cost = [np.log2(1 + np.exp(-llr[table.is_bonafide])).mean(), np.log2(1 + np.exp(llr[~table.is_bonafide])).mean()]
    assert row["Cllr calibrated"] == pytest.approx(sum(cost) / 2)
    assert row["Cllr calibrated"] != row["Cllr"]
    assert not (tmp_path / "one.partial").exists()


def test_subsets_of_2021_can_be_reached(
    model_onnx: Path, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        f"spk dev_{number:03d} {codec} loc A07 {key} notrim {subset}\n"
        for number, (codec, key, subset) in enumerate(
            [("alaw", "bonafide", "progress"), ("alaw", "spoof", "progress"), ("none", "bonafide", "progress"),
             ("none", "spoof", "progress"), ("none", "bonafide", "eval"), ("none", "spoof", "eval")]
        )
    ]  # fmt: skip
    protocol = tmp_path / "2021.txt"
    protocol.write_text("".join(lines))
    words = (model_onnx, "--corpus", made_corpus, "--partition", "eval", "--protocol", protocol, "--cache", made_cache)
    report = measure(monkeypatch, tmp_path / "report", *words, "--subset", "progress", "--by", "condition")
    assert [row["bona fide"] for row in rows(report, "systems")] == [2]
    assert [(row["condition"], row["bona fide"]) for row in rows(report, "by-condition")] == [("alaw", 1), ("none", 1)]


# ---------------------------------------------------------------- runs that are stopped


@pytest.fixture
def cache(made_corpus: Path, made_cache: Path, model_onnx: Path) -> FeatureCache:
    frontend = scoring.find_artefact(str(model_onnx)).frontend
    return build_cache(frontend, open_corpus(made_corpus, "train").trials, made_cache, 1)


def test_what_was_kept_is_not_computed_again_and_a_torn_line_is(
    model_onnx: Path, made_corpus: Path, cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact, kept = scoring.find_artefact(str(model_onnx)), tmp_path / "partial" / "model.txt"
    bound = scoring.binding(artefact, open_corpus(made_corpus, "train"), cache, mean=False)
    whole = scoring.score_trials(artefact, cache, kept, bound, 1, "model")
    lines = kept.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + len(cache) == 25
    kept.write_text("".join(lines[:10]) + lines[10][:-3])  # killed while a line was written
    asked: list[int] = []
    real = scoring._score_clips
    monkeypatch.setattr(
        scoring, "_score_clips", lambda e, c, clips, *how: asked.extend(clips) or real(e, c, clips, *how)
    )
    again = scoring.score_trials(artefact, cache, kept, bound, 1, "model")
    assert again.tolist() == whole.tolist() and sorted(asked) == list(range(9, 24))
    assert sorted(kept.read_text().splitlines()[1:]) == sorted(line.strip() for line in lines[1:])
    asked.clear()
    scoring.score_trials(artefact, cache, kept, {**bound, "model": "another"}, 1, "model")
    assert len(asked) == 24  # nothing of the other model was taken


def test_killed_without_mercy_it_goes_on_to_the_same_report(
    model_onnx: Path, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    def command(out: str) -> list[str]:
        words = [model_onnx, "--corpus", made_corpus, "--partition", "train", "--cache", made_cache, "--workers", "2"]
        return [sys.executable, "-m", "benchmarks.accuracy", *map(str, words), "--bootstrap", "20", "--out", out]

    name = f"{model_onnx.parent.name}-model.onnx"
    kept = tmp_path / "killed.partial" / f"{name}.txt"
    with subprocess.Popen(command(str(tmp_path / "killed")), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if kept.exists() and kept.read_text().count("\n") > 1:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
    for out in ("killed", "whole"):
        if not (tmp_path / out).exists():
            subprocess.run(command(str(tmp_path / out)), check=True, capture_output=True)
    killed, whole = (read_report(tmp_path / out) for out in ("killed", "whole"))
    assert killed.tables == whole.tables
    assert (tmp_path / "killed" / f"{name}.scores.txt").read_bytes() == (
        tmp_path / "whole" / f"{name}.scores.txt"
    ).read_bytes()


# ---------------------------------------------------------------- groups, names, curves


def test_a_column_of_spoofs_alone_is_read_against_all_bona_fide_and_a_shared_one_within() -> None:
    table = made_table([1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 2.5, 5.0])
    family = np.array(["-"] * 4 + ["old", "old", "new", "new"])
    old, new = sorted(groups.by_value(table, family, 10), key=lambda group: group.value, reverse=True)
    assert (old.bonafide, old.spoof, old.eer) == (4, 2, 0) and (new.bonafide, new.spoof, new.eer) == (4, 2, 0.5)
    mp3 = np.array(["0", "0", "1", "1", "0", "0", "0", "2"])
    zero, one, two = groups.by_value(table, mp3, 10)
    assert (zero.bonafide, zero.spoof, zero.eer) == (2, 3, eer([1, 2], [0, 0.5, 2.5]))
    assert (one.eer, two.eer) == (None, None)  # one class only: nothing to measure


def test_by_takes_any_column_of_the_corpus(corpus_root: Path) -> None:
    partition = open_corpus(corpus_root, "dev")
    names = [trial.utterance for trial in partition.trials]
    rows = table(corpus_root)
    assert groups.usual_columns(partition) == ("family",)
    assert groups.column_of(partition, names, "mp3").tolist() == [rows[name]["mp3"] for name in names]
    assert set(groups.column_of(partition, names, "condition").tolist()) == {"-"}
    with pytest.raises(ShrikeError, match="family"):
        groups.column_of(partition, names, "colour")


def test_names_tell_systems_apart() -> None:
    assert scoring.labels(["f0", "runs/a/model.pt", "runs/b/model.pt"]) == ["f0", "a/model.pt", "b/model.pt"]
    assert scoring.labels(["x/a/model.onnx", "y/a/model.onnx"]) == ["x/a/model.onnx", "y/a/model.onnx"]
    assert scoring.labels(["/data/rawgat"]) == ["rawgat"]


def test_a_thinned_curve_is_the_same_line() -> None:
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.integers(0, 2, 500)).astype(float)
    y = np.arange(500) - x  # a staircase: each step goes right or up
    few_x, few_y = plots._thinned(x, y)
    assert len(few_x) < len(x) and (few_x[0], few_y[0], few_x[-1], few_y[-1]) == (x[0], y[0], x[-1], y[-1])
    steps = np.abs(np.diff(few_x)), np.abs(np.diff(few_y))
    assert (np.minimum(*steps) == 0).all() and (steps[0] + steps[1]).sum() == 499  # straight pieces, nothing cut off
