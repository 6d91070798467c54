"""Soft labels: folds that share no source, scores by models that left the clip's fold out, and training on them."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.support.command import parse
from runtime.support.errors import ShrikeError
from tests.train.small_run import same, small_run, whole_and_resumed
from train import __main__ as command
from train import teach
from train.config import Augmentation, Data, Distillation, Model, Optimiser, Run, TrainConfig
from train.data.corpus import Partition, open_corpus
from train.data.folds import assign, leave_out, sources
from train.losses.distillation import DistillationModel, distance
from train.losses.soft_labels import LIMIT, SoftLabels, read_soft_labels, write_soft_labels
from train.networks import build

# ---- folds


@given(sizes=st.lists(st.integers(1, 40), min_size=3, max_size=30), count=st.integers(2, 3), seed=st.integers(0, 99))
def test_a_source_is_in_one_fold_whatever_the_order_of_trials(sizes: list[int], count: int, seed: int) -> None:
    groups = [f"source {number}" for number, size in enumerate(sizes) for _ in range(size)]
    bonafide = np.array([int(name.split()[1]) % 2 == 0 for name in groups])
    folds = assign(groups, bonafide, count)
    assert set(folds) == set(range(count)) and len(set(zip(groups, folds, strict=True))) == len(sizes)
    order = np.random.default_rng(seed).permutation(len(groups))
    assert np.array_equal(assign([groups[n] for n in order], bonafide[order], count), folds[order])


def test_folds_cover_every_trial_once_and_hold_both_classes(made_corpus: Path) -> None:
    whole = open_corpus(made_corpus, "train")
    assert len(set(sources(whole))) == 8  # five speakers and three systems
    parts = [leave_out(whole, f"{number}/3") for number in (1, 2, 3)]
    held = [trial for _, fold in parts for trial in fold.trials]
    assert sorted(trial.utterance for trial in held) == sorted(trial.utterance for trial in whole.trials)
    for rest, fold in parts:
        assert rest.bonafide and rest.spoof and not set(sources(rest)) & set(sources(fold))
    with pytest.raises(ShrikeError, match="--leave-out 9/9"):
        leave_out(whole, "9/9")


def test_sources_are_those_of_the_metadata(made_corpus: Path, tmp_path: Path) -> None:
    whole = open_corpus(made_corpus, "train")
    lines = [f"{trial.utterance},page {number % 4}," for number, trial in enumerate(whole.trials[:-1])]
    lines[3] = f"{whole.trials[3].utterance},vocoder,{whole.trials[0].utterance}"  # a copy of the first
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "metadata.csv").write_text("\n".join(["utt,source,original_path", *lines]))
    moved = [replace(trial, path=tmp_path / "one" / "flac" / f"{trial.utterance}.flac") for trial in whole.trials]
    elsewhere = replace(
        moved[0], utterance="x", path=tmp_path / "two" / "flac" / "x.flac"
    )  # another corpus below the same root
    found = sources(Partition("train", tmp_path, tmp_path / "train.txt", (*moved, elsewhere), ()))
    assert found[:5] == ["page 0", "page 1", "page 2", "page 0", "page 0"]
    assert found[-2:] == [whole.trials[-1].attack, f"speaker {elsewhere.speaker}"]


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "3", "a/b", "1/2/3"])
def test_a_fold_that_is_none_is_refused(fold: str) -> None:
    with pytest.raises(ShrikeError, match="--leave-out"):
        TrainConfig(Data(Path("c"), leave_out=fold))


# ---- the file


def test_a_file_holds_the_ratios_and_the_rest_gets_its_label(made_corpus: Path, tmp_path: Path) -> None:
    trials = open_corpus(made_corpus, "train").trials
    write_soft_labels(tmp_path / "soft.json", {trials[0].utterance: -1.25, "elsewhere": 3.0}, [])
    labels = SoftLabels(tmp_path / "soft.json", trials)
    ratios = labels.logits[:, 1] - labels.logits[:, 0]
    assert labels.found == 1 and float(ratios[0]) == -1.25
    assert ratios[1:].tolist() == [LIMIT if trial.bonafide else -LIMIT for trial in trials[1:]]
    assert torch.equal(labels(torch.tensor([2, 0])), labels.logits[[2, 0]])
    with pytest.raises(ShrikeError, match=r"soft\.json"):
        SoftLabels(tmp_path / "soft.json", open_corpus(made_corpus, "dev").trials)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"labels": {"a": 1.0}}', '{"format": "shrike-soft-labels", "version": 2, "labels": {"a": 1.0}}',
     '{"format": "shrike-soft-labels", "version": 1, "labels": {"a": NaN}}',
     '{"format": "shrike-soft-labels", "version": 1, "labels": {"a": "1"}}',
     '{"format": "shrike-soft-labels", "version": 1, "labels": {}}'],
)  # fmt: skip
def test_another_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "soft.json").write_text(content)
    with pytest.raises(ShrikeError, match="--soft-labels"):
        read_soft_labels(tmp_path / "soft.json")


# ---- the loss


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("distill", ["on", "off"])
def test_soft_labels_share_the_loss_against_the_label(distill: Any, streaming: bool) -> None:
    torch.manual_seed(0)
    network = build("ecanet9", 0.1, gate_seconds=1.0 if streaming else None)
    model = DistillationModel(network, Distillation(distill, soft_weight=0.25, soft_temperature=2.0)).eval()
    features, target = torch.randn(4, 1, 45, 160), torch.tensor([0, 1, 0, 1])
    soft = torch.randn(4, 2)
    plain, mixed = model(features, target, 0), model(features, target, 0, None, soft)
    rows = len(network.steps(160))
    logits = network.head(network.embeddings(features)[-1])
    apart = distance(logits, soft.repeat_interleave(rows, dim=0), 2.0)
    assert torch.allclose(mixed["soft_label"], apart, atol=1e-5)
    assert torch.allclose(mixed["hard"], 0.75 * plain["hard"] + 0.25 * apart, atol=1e-5)
    assert all(torch.equal(plain[name], mixed[name]) for name in plain if name not in ("hard", "total"))


def test_a_run_on_soft_labels_resumes_with_the_same_file_alone(
    made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "soft.json"
    write_soft_labels(path, {trial.utterance: 0.5 for trial in open_corpus(made_corpus, "train").trials[:20]}, [])
    whole, parted = whole_and_resumed(made_corpus, made_cache, tmp_path, distillation={"soft_labels": path})
    assert same(whole, parted) and "soft_label" in whole.history[0]["loss"]
    write_soft_labels(path, {"train_000": 0.5}, [])
    again = small_run(made_corpus, made_cache, tmp_path / "parted", {"soft_labels": path})
    with pytest.raises(ShrikeError, match="soft labels"):
        again.resume(tmp_path / "parted" / "last.pt")
    with pytest.raises(ShrikeError, match="--specmix"):
        TrainConfig(
            Data(made_corpus), distillation=Distillation(soft_labels=path), augmentation=Augmentation(specmix=0.5)
        )


# ---- the command


def settings_of(corpus: Path, cache: Path, out: Path, seed: int = 0) -> TrainConfig:
    return TrainConfig(
        Data(corpus, cache=cache), Model("senet9", 0.1, (2, 2)), Distillation("off"), Augmentation(gain=3.0),
        Optimiser(epochs=1, batch=6, seed=seed), Run(out, threads=1),
    )  # fmt: skip


def test_a_configuration_survives_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "a b", tmp_path, tmp_path / "out")
    odd = replace(settings.augmentation, snr=(5.0, 30.0), codecs="gsm,opus")
    settings = replace(settings, augmentation=odd, run=replace(settings.run, resume=True))
    monkeypatch.setattr(sys, "argv", ["train", *teach.command_line(settings)])
    assert parse(TrainConfig, "train", "") == settings


def test_every_clip_is_scored_by_the_model_that_had_not_seen_its_source(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    started: list[str] = []

    def in_this_process(words: list[str], **_: Any) -> SimpleNamespace:
        started.append(next(word for word in words if word.startswith("--leave-out=")))
        monkeypatch.setattr(sys, "argv", words[2:])
        command.main()
        return SimpleNamespace(returncode=0)

    def labels_of(*models: Path, out: Path) -> dict[str, float]:
        monkeypatch.setattr(sys, "argv", ["teach", *map(str, models), "--out", str(out), "--folds", "2", "--threads=1"])
        teach.main()
        assert capsys.readouterr().out.splitlines()[-1] == str(out / teach.FILE)
        return read_soft_labels(out / teach.FILE)

    monkeypatch.setattr(teach.subprocess, "run", in_this_process)
    for seed in (0, 1):
        words = teach.command_line(settings_of(made_corpus, made_cache, tmp_path / f"seed{seed}", seed))
        monkeypatch.setattr(sys, "argv", ["train", *words])
        command.main()
    teachers = [tmp_path / f"seed{seed}" / "model.pt" for seed in (0, 1)]
    monkeypatch.setattr("train.evaluate.calibration.fit_llr", lambda scores, labels: (1.0, 0.0))  # chance is no teacher
    both = labels_of(*teachers, out=tmp_path / "both")
    assert started == ["--leave-out=1/2", "--leave-out=2/2"] * 2
    utterances = {trial.utterance for trial in open_corpus(made_corpus, "train").trials}
    assert both.keys() == utterances
    facts = json.loads((tmp_path / "both" / teach.FILE).read_text())["teachers"]
    assert [(fact["folds"], len(fact["files"])) for fact in facts] == [(2, 2), (2, 2)]
    # The models of the folds are used as they are, in any order; a missing one is noticed.
    folds = [tmp_path / "both" / f"seed{seed}-{number}-of-2" / "model.pt" for seed in (0, 1) for number in (2, 1)]
    assert labels_of(*folds, out=tmp_path / "again") == pytest.approx(both, abs=2e-4) and len(started) == 4
    one, other = (labels_of(*folds[at : at + 2], out=tmp_path / f"{at}") for at in (0, 2))
    assert {name: (one[name] + other[name]) / 2 for name in one} == pytest.approx(both, abs=2e-4)
    with pytest.raises(ShrikeError, match="2/2"):
        labels_of(folds[0], out=tmp_path / "none")
