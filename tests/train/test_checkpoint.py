"""model.pt: strict, complete, and harmless whoever wrote it."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.support.errors import ShrikeError
from train.checkpoint import Checkpoint, RunProgress, read_checkpoint, versions, write_checkpoint
from train.config import Data, Distillation, Model, TrainConfig
from train.losses.distillation import DistillationModel
from train.networks import build


def checkpoint(distill: str = "on") -> Checkpoint:
    settings = TrainConfig(
        Data(corpus=Path("somewhere")),
        Model(network="senet9", width=0.25),
        Distillation(distill=distill),  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    distilled = DistillationModel(build("senet9", 0.25), settings.distillation)
    helpers = distilled.helpers.state_dict() if distilled.helpers is not None else {}
    return Checkpoint(
        settings, distilled.network.state_dict(), helpers, {}, RunProgress(3, 0, 99), [{"epoch": 3, "dev_eer": 0.1}],
        {"train": "ab", "dev": "cd"}, versions(),
    )  # fmt: skip


@pytest.mark.parametrize("distill", ["on", "off"])
def test_what_is_written_is_read(tmp_path: Path, distill: str) -> None:
    written = checkpoint(distill)
    write_checkpoint(tmp_path / "model.pt", written)
    read = read_checkpoint(tmp_path / "model.pt")
    assert (read.settings, read.progress, read.history) == (written.settings, written.progress, written.history)
    assert (read.corpus, read.versions) == (written.corpus, written.versions)
    features = torch.randn(2, 1, 45, 600)
    one, other = written.network()(features), read.network()(features)
    assert torch.equal(one, other)
    assert torch.equal(read.distillation_model().scores(features)[:, -1], one[:, 1] - one[:, 0])
    assert not read.network().training


def damaged(path: Path, change: Any) -> Path:
    write_checkpoint(path, checkpoint())
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda s: s.pop("history"), "history is missing"),
        (lambda s: s.update(more=1), "more does not belong there"),
        (lambda s: s.update(version=99), "version 99"),
        (lambda s: (s.update(version=1), s.pop("frontend")), "version 1"),
        (lambda s: s["frontend"].update(version=3), "version 3"),
        (lambda s: s["frontend"].update(bands=44), "front-end"),
        (lambda s: s.update(frontend=[1]), "model.pt"),
        (lambda s: s.update(format="other"), "Shrike"),
        (lambda s: s["weights"].pop("head.weight"), r"network\.head\.weight"),
        (lambda s: s["weights"].update(odd=torch.zeros(1)), r"network\.odd"),
        (lambda s: s["weights"].update({"head.weight": torch.zeros(2, 9)}), r"network\.head\.weight"),
        (lambda s: s["weights"]["head.weight"].fill_(float("nan")), r"network\.head\.weight"),
        (lambda s: s["helpers"].pop("classifiers.0.weight"), r"helpers\.classifiers\.0\.weight"),
        (lambda s: s.update(weights=[1, 2]), "weights"),
        (lambda s: s["settings"]["model"].update(network="resnet"), "--network"),
        (lambda s: s["settings"]["model"].update(width="wide"), "model.width"),
        (lambda s: s["settings"]["model"].update(depth=3), "depth"),
        (lambda s: s["settings"].pop("data"), "settings"),
        (lambda s: s["progress"].update(hour=3), "hour"),
    ],
)
def test_anything_that_does_not_fit_is_refused_by_name(tmp_path: Path, change: Any, sentence: str) -> None:
    path = damaged(tmp_path / "model.pt", change)
    with pytest.raises(ShrikeError, match=sentence) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value) and "model.pt" in str(error.value)


class Hostile:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("form", ["torch", "pickle", "hidden in a field"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    path, proof = tmp_path / "model.pt", tmp_path / "it-ran"
    if form == "torch":
        torch.save(Hostile(proof), path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(Hostile(proof)))
    else:
        damaged(path, lambda state: state["history"].append(Hostile(proof)))
    with pytest.raises(ShrikeError):
        read_checkpoint(path)
    assert not proof.exists()
    torch.load(path, weights_only=False) if form == "torch" else None
    assert proof.exists() == (form == "torch")  # the trap works: elsewhere it would have run


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip", bytes(1000)])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ShrikeError, match=r"model\.pt") as error:
        read_checkpoint(tmp_path / "model.pt")
    assert "\n" not in str(error.value)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model.pt", checkpoint())
    whole = (tmp_path / "model.pt").read_bytes()
    for share in (0.2, 0.9):
        (tmp_path / "model.pt").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ShrikeError):
            read_checkpoint(tmp_path / "model.pt")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pt", tmp_path):
        with pytest.raises(ShrikeError):
            read_checkpoint(path)


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    write_checkpoint(path, checkpoint())
    before = path.read_bytes()

    def half(state: Any, file: Path) -> None:
        Path(file).write_bytes(b"half of a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(ShrikeError):
        write_checkpoint(path, checkpoint())
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_weights_contain_no_helpers() -> None:
    assert not any(name.startswith(("helpers", "classifiers", "projections")) for name in checkpoint().weights)
