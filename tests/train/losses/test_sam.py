"""Sharpness-aware minimisation: the gradient of the right point, and nothing else changed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from tests.train.small_run import same, small_run, whole_and_resumed
from train.config import Distillation, Optimiser
from train.losses.distillation import DistillationModel
from train.losses.optimiser import adam
from train.losses.sam import Descent, SharpnessAware, descent
from train.networks import build

CURVATURE = torch.tensor([1.0, 4.0])


class Bowl(nn.Module):
    """1/2 Σ a w²: its gradient is a w."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))

    def forward(self) -> Tensor:
        return (CURVATURE * self.weight**2).sum() / 2

    def backward(self) -> dict[str, Tensor]:
        loss = self()
        loss.backward()
        return {"total": loss.detach()}


def sgd(module: nn.Module, lr: float = 1.0) -> torch.optim.SGD:
    return torch.optim.SGD(module.parameters(), lr)


def test_the_step_takes_the_gradient_of_the_balls_highest_point() -> None:
    bowl = Bowl(3.0, 1.0)
    losses = SharpnessAware(bowl, sgd(bowl), clip=0.0, rho=0.5).step(bowl.backward)
    # g = (3, 4), |g| = 5, e = 0.5 g / 5 = (0.3, 0.4); the gradient at (3.3, 1.4) is (3.3, 5.6)
    assert torch.allclose(bowl.weight, torch.tensor([3.0 - 3.3, 1.0 - 5.6]))
    assert float(losses["total"]) == pytest.approx((9 + 4) / 2)
    assert float(losses["rise"]) == pytest.approx((3.3**2 + 4 * 1.4**2) / 2 - 6.5)


def test_the_adaptive_ball_is_wide_where_weights_are_large() -> None:
    bowl = Bowl(2.99, 0.99)
    SharpnessAware(bowl, sgd(bowl), clip=0.0, rho=0.5, adaptive=True).step(bowl.backward)
    size, gradient = (3.0, 1.0), (2.99, 3.96)  # t = |w| + 0.01, g = a w
    length = math.hypot(*(t * g for t, g in zip(size, gradient, strict=True)))
    above = [w + 0.5 * t * t * g / length for w, t, g in zip((2.99, 0.99), size, gradient, strict=True)]
    assert torch.allclose(bowl.weight, torch.tensor([2.99 - above[0], 0.99 - 4 * above[1]]))


def test_clipping_is_of_the_gradient_that_is_used() -> None:
    bowl = Bowl(3.0, 1.0)
    SharpnessAware(bowl, sgd(bowl), clip=1.0, rho=0.5).step(bowl.backward)
    length = math.hypot(3.3, 5.6)
    assert torch.allclose(bowl.weight, torch.tensor([3.0 - 3.3 / length, 1.0 - 5.6 / length]), atol=1e-5)


@pytest.mark.parametrize("adaptive", [False, True])
def test_without_a_gradient_nothing_moves(adaptive: bool) -> None:
    bowl = Bowl(0.0, 0.0)
    SharpnessAware(bowl, sgd(bowl), clip=5.0, rho=0.5, adaptive=adaptive).step(bowl.backward)
    assert torch.equal(bowl.weight, torch.zeros(2))


def test_the_weights_come_back_to_the_last_bit_even_from_an_error() -> None:
    bowl = Bowl(0.1, 0.7)
    before = bowl.weight.detach().clone()
    step = SharpnessAware(bowl, sgd(bowl, lr=0.0), clip=0.0, rho=0.3)
    step.step(bowl.backward)
    assert torch.equal(bowl.weight, before)
    passes = iter([bowl.backward])

    def fails_above() -> dict[str, Tensor]:
        return next(passes)()

    with pytest.raises(StopIteration):
        step.step(fails_above)
    assert torch.equal(bowl.weight, before)


def test_the_settings_choose() -> None:
    bowl = Bowl(1.0, 1.0)
    assert type(descent(bowl, sgd(bowl), Optimiser())) is Descent
    optimiser = sgd(bowl)
    assert descent(bowl, optimiser, Optimiser(sam="plain")) == SharpnessAware(bowl, optimiser, 5.0, 0.05)
    chosen = descent(bowl, optimiser, Optimiser(sam="adaptive", rho=0.5, clip=0.0))
    assert chosen == SharpnessAware(bowl, optimiser, 0.0, 0.5, adaptive=True)


# ---- in the loop -----------------------------------------------------------------------------------------------------


def trained(corpus: Path, cache: Path, out: Path, **options: Any) -> dict[str, Tensor]:
    trainer = small_run(corpus, cache, out, epochs=1, **options)
    trainer.run()
    return trainer.model.state_dict()


def test_a_ball_without_width_is_plain_adam_bit_for_bit(made_corpus: Path, made_cache: Path, tmp_path: Path) -> None:
    """With batch norm, dropout, augmentation and clipping: the second pass is then the first once more."""
    plain = trained(made_corpus, made_cache, tmp_path / "plain")
    still = trained(made_corpus, made_cache, tmp_path / "still", sam="plain", rho=0.0)
    wide = trained(made_corpus, made_cache, tmp_path / "wide", sam="plain", rho=0.05)
    assert all(torch.equal(plain[name], still[name]) for name in plain)
    assert any(not torch.equal(plain[name], wide[name]) for name in plain)


def test_batch_norms_see_a_step_once() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).train()
    features = torch.randn(8, 3)

    def backward() -> dict[str, Tensor]:
        loss = module(features).square().mean()
        loss.backward()
        return {"total": loss.detach()}

    norm = module[1]
    assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
    seen = module[0](features).detach()
    mean, variance = 0.1 * seen.mean(0), 0.9 + 0.1 * seen.var(0)
    SharpnessAware(module, adam(module, Optimiser()), clip=0.0, rho=0.5).step(backward)
    assert torch.allclose(norm.running_mean, mean) and torch.allclose(norm.running_var, variance)
    assert int(norm.num_batches_tracked or 0) == 1


@pytest.mark.parametrize(
    "name, loss",
    [(name, "asoftmax") for name in ("ecanet9", "senet9", "ecamobile", "mpif50")]
    + [("senet9", loss) for loss in ("amsoftmax", "ocsoftmax", "crossentropy")],
)
def test_networks_and_losses_of_all_kinds_come_back_and_move_on(name: str, loss: str) -> None:
    torch.manual_seed(0)
    distilled = DistillationModel(build(name, 0.1, loss=loss), Distillation(loss=loss)).train()  # type: ignore[arg-type]
    features, target = torch.randn(4, 1, 45, 32), torch.tensor([0, 1, 0, 1])

    def backward() -> dict[str, Tensor]:
        losses: dict[str, Tensor] = distilled(features, target, 0)
        losses["total"].backward()
        return {name: value.detach() for name, value in losses.items()}

    before = [weight.detach().clone() for weight in distilled.parameters()]
    still = torch.optim.SGD(distilled.parameters(), lr=0.0)
    losses = SharpnessAware(distilled, still, clip=5.0, rho=0.05).step(backward)
    assert all(torch.equal(a, b) for a, b in zip(before, distilled.parameters(), strict=True))
    assert float(losses["rise"]) != 0.0 and bool(torch.isfinite(losses["rise"]))
    counts = {int(value) for key, value in distilled.state_dict().items() if key.endswith("num_batches_tracked")}
    assert counts == {1}
    SharpnessAware(distilled, adam(distilled, Optimiser()), clip=5.0, rho=0.05).step(backward)
    assert all(torch.isfinite(weight).all() for weight in distilled.parameters())


@pytest.mark.parametrize("sam", ["plain", "adaptive"])
def test_a_stopped_run_resumes_to_the_same_weights(
    made_corpus: Path, made_cache: Path, tmp_path: Path, sam: str
) -> None:
    whole, resumed = whole_and_resumed(made_corpus, made_cache, tmp_path, sam=sam, rho=0.1)
    assert same(whole, resumed)
    assert {"total", "rise"} <= set(whole.history[0]["loss"])
    assert set(whole.optimiser["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}  # Adam's; SAM keeps nothing


def test_sam_trains_in_bf16_and_compiled(made_corpus: Path, made_cache: Path, tmp_path: Path) -> None:
    """As `torch.compile` does it, without waiting for its compiler."""
    trainer = small_run(made_corpus, made_cache, tmp_path / "half", sam="plain", epochs=1, batch=12)
    trainer.compute = type(trainer.compute)(trainer.compute.device, bf16=True)
    trainer.model.stages = torch.compile(trainer.model.stages, backend="aot_eager")
    trainer.run()
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())
    assert abs(trainer.history.entries[0]["loss"]["rise"]) > 0


# ---- under torchrun --------------------------------------------------------------------------------------------------


def smooth() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def take_steps(module: nn.Module, lesson: nn.Module, features: Tensor) -> list[Tensor]:
    step = SharpnessAware(module, adam(module, Optimiser(lr=0.01)), clip=5.0, rho=0.3)

    def backward() -> dict[str, Tensor]:
        loss = (lesson(features) - 1).square().mean()
        loss.backward()
        return {"total": loss.detach()}

    for _ in range(3):
        step.step(backward)
    return [weight.detach().clone() for weight in module.parameters()]


def in_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    module, features = smooth(), torch.load(f"{folder}/features.pt")
    lesson = nn.parallel.DistributedDataParallel(module)
    torch.save(take_steps(module, lesson, features[rank::2]), f"{folder}/weights{rank}.pt")
    dist.destroy_process_group()


def test_processes_take_the_step_of_one_process_with_the_whole_batch(tmp_path: Path) -> None:
    features = torch.randn(8, 3, generator=torch.Generator().manual_seed(3))
    torch.save(features, tmp_path / "features.pt")
    torch.multiprocessing.spawn(in_process, (str(tmp_path),), nprocs=2)
    one, other = (torch.load(tmp_path / f"weights{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    module = smooth()
    alone = take_steps(module, module, features)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one, alone, strict=True))
