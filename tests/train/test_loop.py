"""`python -m train` and `train.score` on a small corpus; killed and distributed runs are processes of their own."""

import importlib
import io
import json
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.support.command import run
from train.checkpoint import read_checkpoint
from train.evaluate import metrics
from train.evaluate.scorefile import read_scores

SMALL = ["--network", "senet9", "--width", "0.25", "--batch", "6", "--threads", "1", "--dropout", "0.2"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RANDOM = ["--gain", "6", "--noise", "-90", "-50", "--mask-bands", "5", "--mask-frames", "50"]  # all that is random


def command(corpus: Path, cache: Path, out: Path, *more: str) -> list[str]:
    return ["-m", "train", "--corpus", str(corpus), "--cache", str(cache), "--out", str(out), *SMALL, *more]


def python(arguments: list[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command: torchrun in processes, everything else in this one, which has loaded torch already."""
    if arguments[1].startswith("torch"):
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    else:
        main = importlib.import_module({"train": "train.__main__"}.get(arguments[1], arguments[1])).main
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", arguments[1:])
            with pytest.raises(SystemExit) as end:
                run(main)
        done = subprocess.CompletedProcess(arguments, int(end.value.code or 0), out.getvalue(), err.getvalue())
    assert done.returncode == code, done.stderr
    return done


def weights(path: Path) -> dict[str, torch.Tensor]:
    checkpoint = read_checkpoint(path)
    return {**checkpoint.weights, **{f"helpers.{name}": value for name, value in checkpoint.helpers.items()}}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def undisturbed(made_corpus: Path, made_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    done = python(command(made_corpus, made_cache, out, "--epochs", "3", "--schedule", "cosine", *RANDOM))
    assert done.stdout == f"{out / 'model.pt'}\n"  # the result alone; the log is on stderr
    return out


def test_a_run_leaves_what_people_look_for(undisturbed: Path) -> None:
    names = {path.name for path in undisturbed.iterdir()}
    assert names == {"model.pt", "last.pt", "history.jsonl", "curves.png", "tensorboard", "dev.scores.txt"}
    assert list((undisturbed / "tensorboard").glob("events.*"))
    assert (undisturbed / "curves.png").read_bytes()[:4] == b"\x89PNG"
    history = [json.loads(line) for line in (undisturbed / "history.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in history] == [1, 2, 3] and history[-1]["step"] == 12
    parts = {"total", "hard", "soft1", "soft2", "soft3", "feature1", "feature2", "feature3"}
    assert all(set(entry["loss"]) == parts for entry in history)
    assert set(history[0]["dev_exits"]) == {"exit1", "exit2", "exit3"}


def test_model_is_the_best_epoch_and_its_scores_are_the_ones_beside_it(undisturbed: Path) -> None:
    model, last = read_checkpoint(undisturbed / "model.pt"), read_checkpoint(undisturbed / "last.pt")
    best = min(last.history, key=lambda entry: (entry["dev_eer"], entry["dev_loss"]))
    assert model.progress.epoch == best["epoch"] == model.history[-1]["epoch"]
    assert model.optimiser == {} and last.optimiser and last.progress.epoch == 3
    table = read_scores(undisturbed / "dev.scores.txt")
    assert metrics.eer(table.bonafide, table.spoof) == pytest.approx(best["dev_eer"])
    assert set(model.corpus) == {"train", "dev"} and set(model.versions) == {"shrike", "torch", "python"}


def kill_in_epoch(arguments: list[str], out: Path, how: signal.Signals, epochs: int) -> subprocess.Popen[str]:
    """Start a run and send a signal while the epoch after `epochs` complete ones is under way."""
    child = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (out / "history.jsonl").exists() or len((out / "history.jsonl").read_text().splitlines()) < epochs:
        assert time.monotonic() < deadline and child.poll() is None, child.stderr and child.stderr.read()
        time.sleep(0.02)
    while not (out / "last.pt").exists():
        time.sleep(0.02)
    child.send_signal(how)
    return child


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_a_killed_run_resumes_to_the_very_weights_of_an_undisturbed_one(
    undisturbed: Path, made_corpus: Path, made_cache: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "killed"
    arguments = command(made_corpus, made_cache, out, "--epochs", "3", "--schedule", "cosine", *RANDOM)
    child = kill_in_epoch(arguments, out, how, epochs=1)
    log = child.communicate()[1]
    if how is not signal.SIGKILL:
        assert child.returncode == 143
        assert "with --resume" in log and "Traceback" not in log
        assert read_checkpoint(out / "last.pt").progress.batch > 0  # in the middle of an epoch
    python([*arguments, "--resume"])
    assert same(weights(out / "last.pt"), weights(undisturbed / "last.pt"))
    assert same(weights(out / "model.pt"), weights(undisturbed / "model.pt"))
    ours, theirs = (read_checkpoint(folder / "last.pt").history for folder in (out, undisturbed))
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-9) and one["dev_eer"] == other["dev_eer"]


def test_a_run_is_never_overwritten_nor_continued_as_another(
    undisturbed: Path, made_corpus: Path, made_cache: Path
) -> None:
    arguments = command(made_corpus, made_cache, undisturbed, "--epochs", "3", "--schedule", "cosine", *RANDOM)
    assert "add --resume" in python(arguments, 2).stderr
    other = python([*arguments, "--resume", "--lr", "0.5", "--alpha", "0.1"], 2).stderr
    assert "--lr was 0.001, is 0.5" in other and "--alpha was 0.7, is 0.1" in other
    assert len(other.splitlines()[-1]) < 400 and other.splitlines()[-1].startswith("error: ")
    assert python([*arguments, "--resume"]).stdout == f"{undisturbed / 'model.pt'}\n"  # complete: nothing to do


def test_baseline_has_no_helpers(made_corpus: Path, made_cache: Path, tmp_path: Path) -> None:
    python(command(made_corpus, made_cache, tmp_path / "plain", "--epochs", "1", "--distill", "off", "--margin", "off"))
    checkpoint = read_checkpoint(tmp_path / "plain" / "model.pt")
    assert checkpoint.helpers == {} and set(checkpoint.history[0]["loss"]) == {"total", "hard"}


def test_two_processes_train_one_model(made_corpus: Path, made_cache: Path, tmp_path: Path) -> None:
    """DDP on gloo: half of every batch each, one gradient, one cache, one evaluation."""
    out = tmp_path / "two"
    arguments = command(made_corpus, tmp_path / "cache", out, "--epochs", "2", "--device", "cpu")
    done = python([*TORCHRUN, *arguments])
    assert done.stdout.count(str(out / "model.pt")) == 1  # one process speaks
    assert done.stderr.count("epoch   1") == 1 and done.stderr.count("features of 24 clips") == 1
    history = read_checkpoint(out / "last.pt").history
    assert history[-1]["step"] == 8  # as many steps as one process would take
    scored = python(
        ["-m", "train.score", str(out / "model.pt"), "--corpus", str(made_corpus), "--partition", "dev", "--cache",
         str(made_cache), "--json", "--bootstrap", "0", "--threads", "1"]
    )  # fmt: skip
    best = min(history, key=lambda entry: (entry["dev_eer"], entry["dev_loss"]))
    assert json.loads(scored.stdout)["eer"] == pytest.approx(best["dev_eer"])  # the shared evaluation missed no clip


@pytest.mark.long
def test_processes_stop_together_and_resume_to_the_same_weights(
    made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    runs = {}
    for out in (whole, parted):
        arguments = command(made_corpus, made_cache, out, "--epochs", "3", "--device", "cpu", *RANDOM)
        runs[out] = [*TORCHRUN, *arguments]
    python(runs[whole])
    child = kill_in_epoch(runs[parted], parted, signal.SIGTERM, epochs=1)
    log = child.communicate()[1]
    assert child.returncode != 0 and log.count("with --resume") == 1
    assert 1 <= read_checkpoint(parted / "last.pt").progress.epoch < 3
    python([*runs[parted], "--resume"])
    assert same(weights(parted / "last.pt"), weights(whole / "last.pt"))


def score(undisturbed: Path, made_corpus: Path, made_cache: Path, *more: str, code: int = 0) -> Any:
    start = [
        "-m",
        "train.score",
        str(undisturbed / "model.pt"),
        "--corpus",
        str(made_corpus),
        "--cache",
        str(made_cache),
    ]
    return python([*start, "--threads", "1", *more], code)


def test_score_writes_asvspoofs_form_and_repeats_the_runs_dev_scores(
    undisturbed: Path, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.txt"
    done = score(undisturbed, made_corpus, made_cache, "--partition", "dev", "--out", str(out), "--json")
    table, beside = read_scores(out), read_scores(undisturbed / "dev.scores.txt")
    assert (table.utterance == beside.utterance).all() and abs(table.score - beside.score).max() < 1e-5
    assert json.loads(done.stdout)["eer"] == metrics.eer(table.bonafide, table.spoof)


def test_shallow_exits_and_all_windows_score_differently(
    undisturbed: Path, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    tables = []
    for number, more in enumerate([(), ("--exit", "1"), ("--windows", "mean")]):
        score(undisturbed, made_corpus, made_cache, "--out", str(tmp_path / f"{number}.txt"), "--bootstrap", "0", *more)
        tables.append(read_scores(tmp_path / f"{number}.txt").score)
    assert (tables[0] != tables[1]).all()
    assert (tables[0] != tables[2]).any() and (tables[0] == tables[2]).any()  # only long clips have more windows
    assert "1 to 4" in score(undisturbed, made_corpus, made_cache, "--exit", "5", code=2).stderr


def test_trials_without_labels_get_the_two_columns_of_a_submission(
    undisturbed: Path, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("eval_000\neval_001\n")
    out = tmp_path / "scores.txt"
    log = score(undisturbed, made_corpus, made_cache, "--protocol", str(names), code=2).stderr
    assert "--out" in log
    done = score(undisturbed, made_corpus, made_cache, "--protocol", str(names), "--out", str(out))
    lines = [line.split() for line in out.read_text().splitlines()]
    assert [line[0] for line in lines] == ["eval_000", "eval_001"] and all(len(line) == 2 for line in lines)
    assert done.stdout == ""


def test_it_learns(made_corpus: Path, made_cache: Path, tmp_path: Path) -> None:
    """A pitch that wanders against one that stands still: easy for f0, and a loop that does not learn stays at 50 %."""
    out = tmp_path / "learned"
    python(
        command(
            made_corpus, made_cache, out, "--epochs", "8", "--lr", "3e-3", "--dropout", "0", "--level", "window-mean"
        )
    )
    checkpoint = read_checkpoint(out / "model.pt")
    losses = [entry["loss"]["hard"] for entry in read_checkpoint(out / "last.pt").history]
    assert losses[-1] < 0.5 * losses[0]
    assert checkpoint.history[-1]["dev_eer"] < 0.2
