"""Teachers in whole runs: no gradient into a teacher, exact resume, and no helpers in the exported graph."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from export import graph
from export.model_graph import trace
from export.strip import strip
from runtime.support.errors import ShrikeError
from tests.train.small_run import same, small_run, whole_and_resumed
from train.checkpoint import read_checkpoint
from train.config import Data, Distillation, Optimiser, TrainConfig
from train.losses.distillation import DistillationModel, distance
from train.losses.optimiser import adam
from train.losses.sam import SharpnessAware
from train.losses.teachers import MeanTeacher
from train.networks import build

VARIANTS = [
    {"teacher": teacher, "feature": feature, "balance": balance}
    for teacher, feature, balance in product(
        ("deepest", "next", "average"), ("linear", "attention", "similarity", "relational"), ("fixed", "uncertainty")
    )
]


def distillation_model(**settings: Any) -> DistillationModel:
    torch.manual_seed(0)
    return DistillationModel(build("ecanet9", width=0.1), Distillation(**settings)).train()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 45, 64, generator=generator), torch.tensor([0, 1, 0, 1, 1, 0])


def average(distilled: DistillationModel) -> MeanTeacher:
    assert distilled.helpers is not None and isinstance(distilled.helpers.teacher, MeanTeacher)
    return distilled.helpers.teacher


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: "-".join(settings.values()))
def test_every_combination_learns_and_uses_all_its_weights(settings: dict[str, Any]) -> None:
    distilled = distillation_model(**settings)
    losses = distilled(*batch(), 0)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    students = 4 if settings["teacher"] == "average" else 3
    assert {f"soft{n}" for n in range(1, students + 1)} == {name for name in losses if name.startswith("soft")}
    assert {f"feature{n}" for n in range(1, students + 1)} == {name for name in losses if name.startswith("feature")}
    without = [name for name, weight in distilled.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []  # DDP waits for every gradient


@pytest.mark.parametrize("part", ["soft1", "soft2", "soft3", "feature1", "feature2", "feature3"])
@pytest.mark.parametrize("feature", ["linear", "attention", "similarity", "relational"])
def test_the_next_stage_teaches_and_does_not_learn_from_it(part: str, feature: str) -> None:
    distilled = distillation_model(teacher="next", feature=feature)
    distilled(*batch(), 0)[part].backward()
    stage = int(part[-1])
    assert any(weight.grad is not None for weight in distilled.network.stages[stage - 1].parameters())
    later = [*distilled.network.stages[stage:].parameters(), *distilled.network.head.parameters()]
    later += [*distilled.shallow[stage:].parameters()]
    assert all(weight.grad is None for weight in later)


def test_next_compares_neighbours() -> None:
    distilled = distillation_model(teacher="next")
    assert distilled.helpers is not None
    losses = distilled(*batch(), 0)
    pooled = distilled.network.embeddings(batch()[0])
    logits = [classify(x) for classify, x in zip([*distilled.shallow, distilled.network.head], pooled, strict=True)]
    for number in range(3):
        assert torch.allclose(losses[f"soft{number + 1}"], distance(logits[number], logits[number + 1], 3.0), atol=1e-6)
        projected = distilled.helpers.projections[number].weight @ pooled[number].T
        projected = projected.T + distilled.helpers.projections[number].bias
        expected = (projected - pooled[number + 1]).square().mean()
        assert torch.allclose(losses[f"feature{number + 1}"], expected, atol=1e-6)


def test_the_average_teaches_every_stage_and_does_not_learn() -> None:
    distilled = distillation_model(teacher="average")
    with torch.no_grad():
        distilled.network.head.weight.mul_(-1)  # pupil and teacher disagree
    losses = distilled(*batch(), 0)
    losses["total"].backward()
    teacher = average(distilled)
    assert all(weight.grad is None for weight in teacher.parameters())
    features = batch()[0]
    theirs = teacher.network(features)
    ours = distilled.network(features)
    assert torch.allclose(losses["soft4"], distance(ours, theirs, 3.0), atol=1e-6) and bool(losses["soft4"] > 0)
    assert not any(weight.requires_grad for weight in teacher.parameters())


def test_the_average_is_the_mean_of_all_steps_and_then_forgets() -> None:
    distilled = distillation_model(teacher="average", decay=0.75)
    weight, own = distilled.network.head.weight, average(distilled).network.head.weight
    values = []
    for step, value in enumerate((8.0, 4.0, 3.0, 1.0, 5.0)):
        with torch.no_grad():
            weight.fill_(value)
            distilled.shallow[0].weight.fill_(value)
        distilled.advance(step)
        values.append(float(own[0, 0]))
    # 1 - 1 / (step + 1) is 0, 1/2, 2/3, 3/4, 4/5, of which the last is more than the decay
    assert values == pytest.approx([8.0, 6.0, 5.0, 4.0, 0.75 * 4.0 + 0.25 * 5.0])
    assert torch.allclose(average(distilled).classifiers[0].weight, own[0, 0])


def test_the_averages_batch_norms_are_its_own() -> None:
    distilled = distillation_model(teacher="average")
    with torch.no_grad():
        distilled.network.stem[0].weight.mul_(3)  # type: ignore[union-attr]
    distilled(*batch(), 0)
    trained, own = distilled.network.stem[1], average(distilled).network.stem[1]
    assert int(own.num_batches_tracked) == 1 and not torch.equal(own.running_var, trained.running_var)
    features = batch()[0]
    seen = average(distilled).network.stem[0](features).var(dim=(0, 2, 3))  # what its own weights make of the batch
    assert torch.allclose(own.running_var, 0.9 + 0.1 * seen, atol=1e-4)
    distilled.advance(0)
    assert not torch.equal(own.running_var, trained.running_var)  # the average is of weights alone


@pytest.mark.parametrize("ship", ["trained", "average"])
def test_model_pt_holds_what_ships_and_last_pt_what_is_trained(
    made_corpus: Path, made_cache: Path, tmp_path: Path, ship: str
) -> None:
    trainer = small_run(made_corpus, made_cache, tmp_path / "run", {"teacher": "average", "ship": ship}, epochs=1)
    trainer.run()
    model, last = (read_checkpoint(tmp_path / "run" / name) for name in ("model.pt", "last.pt"))
    distilled = trainer.model
    trained, averaged = distilled.network.state_dict(), average(distilled).network.state_dict()
    assert any(not torch.equal(trained[name], averaged[name]) for name in trained)
    shipped = averaged if ship == "average" else trained
    assert all(torch.equal(model.weights[name], shipped[name]) for name in shipped)
    assert all(torch.equal(last.weights[name], trained[name]) for name in trained)
    for checkpoint in (model, last):  # whichever is exported or scored, it is the one that was judged
        network = checkpoint.network().state_dict()
        assert all(torch.equal(network[name], shipped[name]) for name in shipped)
    features = torch.randn(2, 1, 45, 600)
    judged = distilled.eval().scores(features)
    for checkpoint in (model, last):
        assert torch.allclose(
            checkpoint.distillation_model().scores(features), judged, atol=1e-4
        )  # in another memory layout
        for exit in (2, 4):
            logits = strip(checkpoint, exit)(features)
            assert torch.allclose(logits[:, 1] - logits[:, 0], judged[:, exit - 1], atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"teacher": "average", "feature": "attention", "balance": "uncertainty", "ship": "average"},
        {"teacher": "next", "feature": "similarity"},
        {"feature": "relational", "balance": "uncertainty"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def test_a_stopped_run_resumes_to_the_same_weights(
    made_corpus: Path, made_cache: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole, resumed = whole_and_resumed(made_corpus, made_cache, tmp_path, distillation=settings, sam="plain")
    assert same(whole, resumed)
    learned = {f"weight_{name}" for name in ("hard", "soft", "feature")}
    assert (learned <= set(whole.history[0]["loss"])) == (settings.get("balance") == "uncertainty")
    names = {name.partition(".")[0] for name in whole.helpers}
    wanted = {"classifiers"} | ({"teacher"} if settings.get("teacher") == "average" else set())
    assert names == wanted | ({"balance"} if settings.get("balance") == "uncertainty" else set())


@pytest.mark.parametrize("settings", VARIANTS[1::5], ids=lambda settings: "-".join(settings.values()))
def test_nothing_of_the_helpers_is_in_the_exported_graph(settings: dict[str, Any]) -> None:
    from train.checkpoint import Checkpoint, RunProgress

    distilled = distillation_model(**settings).eval()
    whole = TrainConfig(Data(Path("none")), distillation=Distillation(**settings))
    whole = TrainConfig.from_dict({**whole.to_dict(), "model": {"network": "ecanet9", "width": 0.1, "dropout": 0.0}})
    checkpoint = Checkpoint(whole, *distilled.state(), {}, RunProgress(), [], {}, {})
    plain = Checkpoint(
        TrainConfig.from_dict({**whole.to_dict(), "distillation": Distillation("off").__dict__}),
        checkpoint.weights, {}, {}, RunProgress(), [], {}, {},
    )  # fmt: skip
    frontend = whole.frontend
    ours, bare = (graph.weights_of(trace(strip(c), frontend).graph) for c in (checkpoint, plain))
    assert ours.keys() == bare.keys() and all(np.array_equal(ours[name], bare[name]) for name in ours)


def in_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    distilled = distillation_model(teacher="average", feature="attention", balance="uncertainty", decay=0.5)
    lesson = nn.parallel.DistributedDataParallel(distilled)
    step = SharpnessAware(distilled, adam(distilled, Optimiser()), clip=5.0, rho=0.1)
    features, target = (part[rank::2] for part in batch())
    for number in range(2):

        def backward(number: int = number) -> dict[str, Tensor]:
            losses: dict[str, Tensor] = lesson(features, target, number)
            losses["total"].backward()
            return losses

        step.step(backward)
        distilled.advance(number)
    torch.save({name: weight.detach() for name, weight in distilled.named_parameters()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_processes_keep_the_same_weights_learned_balance_and_average(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(in_process, (str(tmp_path),), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert all(float(one[f"helpers.balance.variances.{name}"].abs()) > 0 for name in ("hard", "soft", "feature"))


def test_an_average_ships_only_where_there_is_one() -> None:
    with pytest.raises(ShrikeError, match="--ship average"):
        TrainConfig(Data(Path("none")), distillation=Distillation(ship="average"))
    with pytest.raises(ShrikeError, match="--decay"):
        TrainConfig(Data(Path("none")), distillation=Distillation(decay=1.0))
