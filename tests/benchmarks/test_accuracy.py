"""Accuracy: the organisers' figures in one command, every form of a model, and runs that are killed."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper

from benchmarks.accuracy import __main__ as accuracy
from benchmarks.accuracy import systems
from benchmarks.accuracy.systems import LlrMap, System, labels, open_model, parse_input
from benchmarks.accuracy.tables import Tables
from benchmarks.accuracy.trials import TrialList, draws, open_trials
from benchmarks.cases import of_file
from benchmarks.report import Report, read_report
from runtime.support.errors import ShrikeError
from tests.export.conftest import make_checkpoint
from tests.listing import table as listing
from tests.runtime.made_model import made_model
from train import score as train_score
from train.checkpoint import write_checkpoint
from train.data.cache import build_cache
from train.data.corpus import open_corpus
from train.evaluate.metrics import eer
from train.evaluate.scorefile import ScoreTable, read_scores, write_scores

ASV = "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz"


def measure(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: Any) -> Report:
    words = ["x", *map(str, arguments), "--out", str(out), "--bootstrap", "20"]
    monkeypatch.setattr(sys, "argv", words)
    accuracy.main()
    return read_report(out)


def rows(report: Report, table: str, **where: str) -> list[dict[str, Any]]:
    return [row for row in report.table(table).records() if all(row[name] == value for name, value in where.items())]


def made_table(bonafide: list[float], spoof: list[float], attacks: list[str] | None = None) -> ScoreTable:
    names = np.array([f"u{number}" for number in range(len(bonafide) + len(spoof))])
    kinds = np.array(["-"] * len(bonafide) + (attacks or ["A01"] * len(spoof)))
    return ScoreTable(names, kinds, np.arange(len(names)) < len(bonafide), np.array([*bonafide, *spoof]))


@pytest.fixture(scope="module")
def model_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model(tmp_path_factory.mktemp("deploy"))


# ---- score files


def test_one_command_gives_the_organisers_figures(
    corpus_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus_root / "scores"
    if not (folder / "EXPECTED.tsv").is_file():
        pytest.skip(f"needs the published scores in {folder}")
    name = "resnet18-lfcc-ocsoftmax"
    words = ("--scores", folder / f"{name}.txt.gz", folder / ASV, "--asv", folder / ASV, "--flip", name)
    report = measure(monkeypatch, tmp_path / "report", *words)
    with open(folder / "EXPECTED.tsv", encoding="utf-8") as file:
        expected = {row["system"]: row for row in csv.DictReader(file, delimiter="\t")}[name]
    columns = {"min_tdcf_2019": "min t-DCF 2019", "min_tdcf_2021": "min t-DCF 2021", "min_dcf": "min DCF",
               "act_dcf": "act DCF", "cllr": "Cllr", "bonafide": "bona fide"}  # fmt: skip
    (row,), attacks = rows(report, "systems"), rows(report, "attacks")
    measured = {name: row[column] for name, column in columns.items()} | {"eer": row["EER"].value}
    measured |= {f"eer_{attack['attack']}": attack["EER"].value for attack in attacks}
    assert len(attacks) == 13 and row["EER"].low < row["EER"].value < row["EER"].high
    assert measured == pytest.approx({name: float(expected[name]) for name in measured}, rel=0, abs=1e-6)


def test_inverted_scores_are_noted_and_only_flipped_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scores(tmp_path / "odd.scores.txt", made_table([0.0, 1.0, 5.0], [4.0, 6.0, 7.0]))
    report = measure(monkeypatch, tmp_path / "as-they-are", "--scores", tmp_path / "odd.scores.txt")
    assert rows(report, "systems")[0]["EER"].value == pytest.approx(100 * 2 / 3)
    assert any("--flip odd" in note for note in report.notes)
    report = measure(monkeypatch, tmp_path / "flipped", "--scores", tmp_path / "odd.scores.txt", "--flip", "odd")
    assert rows(report, "systems")[0]["EER"].value == pytest.approx(100 / 3)


def test_a_system_does_not_differ_from_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = made_table(rng.normal(1, 1, 60).tolist(), rng.normal(0, 1, 60).tolist())
    turned = ScoreTable(*(column[::-1] for column in vars(table).values()))
    write_scores(tmp_path / "a.txt", table)
    write_scores(tmp_path / "b.txt", replace(turned, score=3 * turned.score + 1))
    report = measure(monkeypatch, tmp_path / "report", "--scores", tmp_path / "a.txt", tmp_path / "b.txt")
    (row,) = rows(report, "differences")
    assert (row["EER change"].value, row["EER change"].low, row["EER change"].high) == (0, 0, 0)
    assert row["significant"] == "no" and row["trials"] == 120 and row["correlation"] == pytest.approx(1)
    Tables([System("a", "", table), System("b", "", turned)], bootstrap=5).differences()
    with pytest.raises(ShrikeError):  # no trial in common
        other = replace(table, utterance=np.array([f"v{n}" for n in range(120)]))
        Tables([System("a", "", table), System("b", "", other)], bootstrap=5).differences()


# ---- models


@pytest.mark.parametrize(("windows", "streaming"), [("first", False), ("mean", False), ("first", True), ("mean", True)])
def test_every_form_gets_the_scores_of_training(
    windows: str, streaming: bool, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some clips are shorter than a window."""
    trained, expected = tmp_path / "run" / "model.pt", tmp_path / "torch.txt"
    trained.parent.mkdir()
    checkpoint = make_checkpoint(level="running-mean", streaming=True) if streaming else make_checkpoint()
    write_checkpoint(trained, checkpoint)
    shared = ["--corpus", str(made_corpus), "--partition", "dev", "--windows", windows, "--cache", str(made_cache)]
    monkeypatch.setattr(sys, "argv", ["x", str(trained), *shared, "--out", str(expected), "--device", "cpu"])
    train_score.main()
    report = measure(monkeypatch, tmp_path / "report", trained, *shared, "--workers", "1", "--by", "speaker",
                     "--scores", expected)  # fmt: skip
    found, wanted = read_scores(tmp_path / "report" / "run-model.pt.scores.txt"), read_scores(expected)
    assert found.utterance.tolist() == wanted.utterance.tolist() and np.ptp(wanted.score) > 0
    assert np.allclose(found.score, wanted.score, atol=1e-4)
    assert rows(report, "systems")[0]["EER"].value == pytest.approx(100 * eer(found.bonafide, found.spoof))
    assert {row["attack"] for row in rows(report, "attacks")} == {"S00", "S01", "S02"}
    (change,) = rows(report, "differences", system="torch")
    assert change["against"] == "run/model.pt" and change["correlation"] > 0.9999
    by_speaker = [rows(report, "by-speaker", system=name) for name in ("run/model.pt", "torch")]
    assert by_speaker[0] and [row["spoof"] for row in by_speaker[0]] == [row["spoof"] for row in by_speaker[1]]


def test_scores_do_not_depend_on_processes_and_the_card_calibrates(
    model_onnx: Path, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = (model_onnx, "--corpus", made_corpus, "--partition", "train", "--cache", made_cache)
    one = measure(monkeypatch, tmp_path / "one", *shared, "--workers", "1")
    measure(monkeypatch, tmp_path / "two", *shared, "--workers", "2")
    name = f"{model_onnx.parent.name}-model.onnx.scores.txt"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    (row,), table = rows(one, "systems"), read_scores(tmp_path / "one" / name)
    llr = 2.0 * table.score + 0.5  # the made card's map
    cost = [np.log2(1 + np.exp(-llr[table.is_bonafide])).mean(), np.log2(1 + np.exp(llr[~table.is_bonafide])).mean()]
    assert row["Cllr calibrated"] == pytest.approx(sum(cost) / 2) and row["Cllr calibrated"] != row["Cllr"]
    assert not (tmp_path / "one.partial").exists()


def test_subsets_of_2021(
    model_onnx: Path, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [("alaw", "bonafide", "progress"), ("alaw", "spoof", "progress"), ("none", "bonafide", "progress"),
              ("none", "spoof", "progress"), ("none", "bonafide", "eval"), ("none", "spoof", "eval")]  # fmt: skip
    lines = [
        f"spk dev_{n:03d} {codec} loc A07 {key} notrim {subset}\n" for n, (codec, key, subset) in enumerate(trials)
    ]
    (tmp_path / "2021.txt").write_text("".join(lines))
    words = (model_onnx, "--corpus", made_corpus, "--partition", "eval", "--protocol", tmp_path / "2021.txt", "--cache",
             made_cache, "--workers", "1", "--subset", "progress", "--by", "condition")  # fmt: skip
    report = measure(monkeypatch, tmp_path / "report", *words)
    assert [row["bona fide"] for row in rows(report, "systems")] == [2]
    assert [(row["condition"], row["bona fide"]) for row in rows(report, "by-condition")] == [("alaw", 1), ("none", 1)]


# ---- stopped runs


def test_partial_scores_are_used_and_a_torn_line_is_not(
    model_onnx: Path, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, file = of_file(model_onnx, "model"), tmp_path / "partial" / "model.txt"
    cache = build_cache(subject.frontend, open_corpus(made_corpus, "train").trials, made_cache, 1)
    computed: list[int] = []

    def open_clips(cache: Any) -> systems.ScoreClips:
        score = open_model(subject, False, cache)
        return lambda clips: computed.extend(clips) or score(clips)

    bound_to = {"model": "sha256", "windows": "first"}
    whole = systems.score_trials("model", cache, open_clips, file, bound_to, 1)
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + len(cache) == 25
    file.write_text("".join(lines[:10]) + lines[10][:-3])  # killed while a line was written
    computed.clear()
    assert systems.score_trials("model", cache, open_clips, file, bound_to, 1).tolist() == whole.tolist()
    assert sorted(computed) == list(range(9, 24))
    computed.clear()
    systems.score_trials("model", cache, open_clips, file, {**bound_to, "model": "another"}, 1)
    assert len(computed) == 24  # nothing of the other model was used


def test_a_killed_run_resumes_to_the_same_scores(
    model_onnx: Path, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    def command(out: str) -> list[str]:
        words = [model_onnx, "--corpus", made_corpus, "--partition", "train", "--cache", made_cache, "--workers", "2"]
        return [sys.executable, "-m", "benchmarks.accuracy", *map(str, words), "--bootstrap", "5", "--out", out]

    name = f"{model_onnx.parent.name}-model.onnx"
    file = tmp_path / "killed.partial" / f"{name}.txt"
    with subprocess.Popen(command(str(tmp_path / "killed")), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if file.exists() and file.read_text().count("\n") > 1:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
    for out in ("killed", "whole"):
        if not (tmp_path / out).exists():
            subprocess.run(command(str(tmp_path / out)), check=True, capture_output=True)
    scores = [(tmp_path / out / f"{name}.scores.txt").read_bytes() for out in ("killed", "whole")]
    assert scores[0] == scores[1] and not file.parent.exists()


# ---- columns, names and curves


def made_trials(columns: dict[str, list[str]], utterances: list[str]) -> TrialList:
    """Trials of one corpus with these columns."""
    rows = {name: {key: values[n] for key, values in columns.items()} for n, name in enumerate(utterances)}
    listed: Any = TrialList((SimpleNamespace(root=Path("made")),))  # type: ignore[arg-type]
    vars(listed)["rows"] = rows
    return cast(TrialList, listed)


def test_a_column_of_spoofs_and_one_of_both_classes() -> None:
    table = made_table([1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 2.5, 3.5])
    columns = {"corpus": ["made"] * 8, "source": ["s"] * 8,
               "family": ["-"] * 4 + ["old"] * 2 + ["new"] * 2, "mp3": list("00110002")}  # fmt: skip
    made = Tables([System("s", "", table)], made_trials(columns, table.utterance.tolist()), 5)

    def found(column: str) -> dict[str, tuple[int, int, float | None]]:
        rows: list[Any] = made.by(column).records()
        return {r[column]: (r["bona fide"], r["spoof"], r["EER"].value if r["EER"] else None) for r in rows}

    assert found("family") == {"new": (4, 2, 50.0), "old": (4, 2, 0.0)}  # against all bona fide trials
    assert found("mp3") == {"0": (2, 3, pytest.approx(100 * eer([1, 2], [0, 0.5, 2.5]))), "1": (2, 0, None),
                            "2": (0, 1, None)}  # fmt: skip


def test_intervals_over_sources_are_wider_where_clips_of_a_source_are_alike() -> None:
    """Twelve sources of each class; every clip has its source's score. Clips as units pretend to know more."""
    rng = np.random.default_rng(4)
    real, fake = (np.repeat(rng.normal(mean, 1, 12), 10) for mean in (1, 0))
    table = made_table(real.tolist(), fake.tolist())
    sources = [f"{kind}{n // 10}" for kind in ("r", "f") for n in range(120)]
    trials = made_trials({"source": sources}, table.utterance.tolist())
    system = System("s", "", table, LlrMap(1.0, -0.5, "dev", sure=0.6))
    by_source, by_clip = (Tables([system], listed, 400).measure(system) for listed in (trials, None))
    widths = {name: [row[name].high - row[name].low for row in (by_source, by_clip)]  # type: ignore[union-attr]
              for name in ("EER", "real called spoof")}  # fmt: skip
    assert all(wide > 2 * narrow for wide, narrow in widths.values())
    assert by_source["sources"] == 24 and by_clip["sources"] is None
    assert by_source["Cllr / min"] >= 1  # type: ignore[operator]
    assert by_source["real called spoof"].value == pytest.approx(100 * np.mean(1 / (1 + np.exp(real - 0.5)) >= 0.6))  # type: ignore[union-attr]


def test_resamples_draw_whole_sources() -> None:
    keys, sources = np.arange(60) < 30, np.array([f"s{n % 6}" for n in range(60)])
    drawn = np.concatenate(list(draws(keys, sources, 50, 0)))
    for name in set(sources.tolist()):
        assert (drawn[:, sources == name] == drawn[:, sources == name][:, :1]).all()
    few = np.where(keys, sources, "one")  # a class from one source is drawn by clips
    drawn = np.concatenate(list(draws(keys, few, 50, 0)))
    assert (drawn[:, ~keys].sum(axis=1) == 30).all() and np.ptp(drawn[:, ~keys], axis=1).min() > 0


def test_by_takes_any_column_of_the_corpus(corpus_root: Path) -> None:
    trials = open_trials([corpus_root], "dev")
    names, rows = [trial.utterance for trial in trials.trials], listing(corpus_root)
    assert trials.column(names, "mp3").tolist() == [rows[name]["mp3"] for name in names]
    assert set(trials.column(names, "condition").tolist()) == {"-"}
    with pytest.raises(ShrikeError):
        trials.column(names, "colour")


def made_peer(path: Path, sign: float = 1.0, columns: int = 2) -> Path:
    """An ONNX file for waveforms (batch, 4000): loudness as its bona fide logit, or its one score."""
    weight = np.array([[0.0, sign]] if columns == 2 else [[sign]], np.float32)
    nodes = [
        helper.make_node("Mul", ["sound", "sound"], ["power"]),
        helper.make_node("ReduceMean", ["power"], ["loud"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["loud", "weight"], ["scores"]),
    ]
    ends = [helper.make_tensor_value_info("sound", TensorProto.FLOAT, [1, 4000]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, columns])]  # fmt: skip
    graph = helper.make_graph(nodes, "peer", ends[:1], ends[1:], [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_a_peer_beside_a_model_over_two_corpora(
    model_onnx: Path, made_corpus: Path, made_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the samples of a clip, cut or repeated; its scores are calibrated on dev; --flip turns its sign."""
    other = tmp_path / "other"
    shutil.copytree(made_corpus, other)
    for path in [*other.glob("flac/*"), *other.glob("protocols/*")]:  # the same clips under other names
        if path.suffix == ".txt":
            path.write_text(re.sub(r"(train|dev|eval)_", r"other_\1_", path.read_text()))
        else:
            path.rename(path.with_name(f"other_{path.name}"))
    peers = made_peer(tmp_path / "two.onnx"), made_peer(tmp_path / "one.onnx", columns=1)
    words = (model_onnx, "--corpus", made_corpus, other, "--partition", "train", "--cache", made_cache, "--workers", 1,
             "--peer", *peers, "--peer-input", "waveform:4000")  # fmt: skip
    report = measure(monkeypatch, tmp_path / "report", *words)
    two, one = (read_scores(tmp_path / "report" / f"{path.name}.scores.txt") for path in peers)
    assert one.score.tolist() == two.score.tolist() and len(one.score) == 48
    clip = soundfile.read(made_corpus / "flac" / f"{one.utterance[0]}.flac", dtype="float32")[0]
    assert one.score[0] == pytest.approx(np.mean(np.resize(clip[:4000], 4000) ** 2), rel=1e-3)
    parts = rows(report, "by-part", system="two.onnx")
    assert [row["part"] for row in parts] == ["corpus" if made_corpus.name == "corpus" else made_corpus.name, "other"]
    assert parts[0]["EER"].value == parts[1]["EER"].value  # the same sound
    assert all(row["Cllr calibrated"] >= row["min Cllr"] for row in rows(report, "systems"))
    turned = measure(monkeypatch, tmp_path / "turned", *words, "--flip", "two.onnx")
    (before,), (after,) = (rows(found, "systems", system="two.onnx") for found in (report, turned))
    assert after["EER"].value == pytest.approx(100 - before["EER"].value, abs=5)
    assert after["Cllr calibrated"] == pytest.approx(before["Cllr calibrated"])


@pytest.mark.parametrize("text", ["waveform", "waveform:0", "mel:64600", "waveform:-1", "waveform:99999999"])
def test_an_input_of_peers_is_checked(text: str) -> None:
    with pytest.raises(ShrikeError):
        parse_input(text)


def test_labels_differ() -> None:
    assert labels(["f0", "runs/a/model.pt", "runs/b/model.pt"]) == ["f0", "a/model.pt", "b/model.pt"]
    assert labels(["x/a/model.onnx", "y/a/model.onnx"]) == ["x/a/model.onnx", "y/a/model.onnx"]
    assert labels(["/data/rawgat"]) == ["rawgat"]
