"""The table of experiments agrees with the files of the runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from runtime.card import model_card as cards
from runtime.card.model_card import read_card, write_card
from scripts.experiments_table import read_run, table, time_rows
from tests.runtime.made_model import made_model
from train.checkpoint import Checkpoint, RunProgress, build_network, versions, write_checkpoint
from train.config import Data, Distillation, Model, Optimiser, Run, TrainConfig
from train.evaluate.scorefile import ScoreTable, write_scores


def fake_run(folder: Path, seed: int, dev: float, frontend: str = "f0", evaluation: float | None = None) -> Path:
    """A run's folder without the training: a real checkpoint whose history and scores are set by hand."""
    settings = TrainConfig(
        Data(Path("corpus"), frontend=frontend),  # type: ignore[arg-type]
        Model("senet9", 0.25),
        Distillation("off"),
        optimiser=Optimiser(seed=seed),
        run=Run(folder),
    )
    torch.manual_seed(0)
    network = build_network(settings)
    entry = {"epoch": seed + 4, "dev_eer": dev, "dev_loss": 1.0}
    checkpoint = Checkpoint(settings, network.state_dict(), {}, {}, RunProgress(), [entry], {}, versions())
    write_checkpoint(folder / "model.pt", checkpoint)
    if evaluation is not None:  # 100 of each; `evaluation` of both are on the wrong side
        wrong = round(100 * evaluation)
        bonafide = np.r_[np.full(wrong, -1.0), np.full(100 - wrong, 1.0)] + np.arange(100) * 1e-6
        labels = np.repeat([True, False], 100)
        names, attacks = np.arange(200).astype(str), np.where(labels, "-", "A01")
        scores = ScoreTable(names, attacks, labels, np.r_[bonafide, -bonafide])
        write_scores(folder / "eval.scores.txt", scores)
    return folder


def test_seeds_of_equal_settings_are_one_row_with_mean_and_spread(tmp_path: Path) -> None:
    f0 = [fake_run(tmp_path / f"f0-{seed}", seed, dev, "f0", 0.3) for seed, dev in enumerate((0.20, 0.22, 0.24))]
    wide = [fake_run(tmp_path / "wide", 0, 0.35, "wide")]
    lines = table([read_run(folder) for folder in (*f0, *wide)]).splitlines()
    assert lines[0] == "| frontend | parameters | multiply-adds | seeds | best epochs | dev EER % | eval EER % |"
    assert lines[2].startswith("| f0 | 77,836 | 101 M | ")
    assert lines[2].endswith(" | 0, 1, 2 | 4, 5, 6 | 22.00 ± 2.00 (best 20.00) | 30.00 ± 0.00 (best 30.00) |")
    assert lines[3].endswith(" | 0 | 4 | 35.00 | - |")


def test_a_deployed_model_adds_the_accuracy_of_its_card_and_its_time(tmp_path: Path) -> None:
    plain, other = fake_run(tmp_path / "f0", 0, 0.2), fake_run(tmp_path / "wide", 0, 0.3, "wide")
    path = made_model(plain / "deploy")
    card = read_card(path)
    accuracy = cards.Accuracy(True, "", "dev", 100, 0.21, 0.22, (-0.01, 0.03), None, None, 0.99, 0.1)
    write_card(path, replace(card, accuracy=accuracy))
    results = [read_run(plain), read_run(other)]
    header, _, first, second = table(results, times=time_rows(results)).splitlines()
    assert "| ms | seeds |" in header and "dev windows, float | dev windows, INT8 |" in header
    assert "| 20.00 | 21.00 | 22.00 | - |" in first and "| 30.00 | - | - | - |" in second
    milliseconds = float(first.split(" | ")[3])
    assert milliseconds > 0
