"""Training of networks that stream: a loss at every step, all ways to teach, exact resume, a clip's score."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from runtime.audio.features import PRESETS
from runtime.audio.features import level as numpy_level
from runtime.audio.score_times import STEP, scored
from runtime.support.errors import ShrikeError
from tests.train.small_run import same, small_run, whole_and_resumed
from train.augment.features import Augment
from train.checkpoint import read_checkpoint, write_checkpoint
from train.config import Augmentation, Data, Distillation, Model, TrainConfig
from train.data.cache import build_cache
from train.data.corpus import open_corpus
from train.device import ComputeDevice
from train.evaluate.scoring import score_cache
from train.losses.distillation import DistillationModel, distance
from train.losses.external_teacher import ExternalTeacher
from train.losses.stage_outputs import run_stages
from train.networks import build

CPU = ComputeDevice(torch.device("cpu"), False)


def distillation_model(**settings: Any) -> DistillationModel:
    torch.manual_seed(0)
    network = build("ecanet9", width=0.1, loss=settings.get("loss", "asoftmax"), gate_seconds=1.0)
    return DistillationModel(network, Distillation(**settings)).train()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 1, 45, 160, generator=generator), torch.tensor([0, 1, 0, 1])  # 160 frames: four steps


@pytest.mark.parametrize(
    "settings",
    [
        {"distill": "off", "loss": "ocsoftmax"},
        {"teacher": "next", "feature": "attention"},
        {"teacher": "average", "feature": "similarity", "balance": "uncertainty"},
        {"feature": "relational", "loss": "crossentropy"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def test_every_way_to_teach_learns_with_all_weights_and_the_starts(settings: dict[str, Any]) -> None:
    distilled = distillation_model(**settings)
    losses = distilled(*batch(), 0)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    trained = {name: weight for name, weight in distilled.named_parameters() if weight.requires_grad}
    if settings.get("distill") != "off":
        assert [name for name, weight in trained.items() if weight.grad is None] == []  # DDP waits for all
    starts = [weight.grad for name, weight in trained.items() if name.endswith("pool.start")]
    assert len(starts) == 4 and all(grad is not None and bool(grad.any()) for grad in starts)


def test_the_loss_is_the_mean_over_all_steps_of_all_clips() -> None:
    distilled, (features, target) = distillation_model(distill="off"), batch()
    distilled.eval()
    assert distilled.network.steps(160) == [112, 128, 144, 160]
    pooled = distilled.network.embeddings(features)[-1]
    logits = distilled.network.head(pooled).view(4, 4, 2)
    each = [distilled.hard(pooled.view(4, 4, -1)[:, k], logits[:, k], target, 0) for k in range(4)]
    assert float(distilled(features, target, 0)["hard"].detach()) == pytest.approx(
        float(torch.stack(each).mean().detach()), rel=1e-5
    )
    mixed = target * 0.6 + 0.2
    each = [distilled.hard(pooled.view(4, 4, -1)[:, k], logits[:, k], mixed, 0) for k in range(4)]
    assert float(distilled(features, mixed, 0)["hard"].detach()) == pytest.approx(
        float(torch.stack(each).mean().detach()), rel=1e-5
    )


def test_an_external_teacher_teaches_every_step_of_its_clip() -> None:
    distilled, (features, target) = distillation_model(), batch()
    external = torch.randn(4, 2, generator=torch.Generator().manual_seed(3))
    losses = distilled(features, target, 0, external)
    seen = run_stages(distilled.network.stage_outputs, [*distilled.shallow, distilled.network.head], features)
    for number, view in enumerate(seen):
        rows = torch.stack(
            [
                distance(row, one.expand_as(row), 3.0)
                for row, one in zip(view.logits.view(4, 4, 2), external, strict=True)
            ]
        )
        assert torch.allclose(losses[f"soft{number + 1}"], rows.mean(), atol=1e-5)
    assert "soft4" in losses and "feature4" not in losses


@pytest.mark.parametrize(
    "settings",
    [{"sam": "plain"}, {"distillation": {"teacher": "average", "ship": "average"}}],
    ids=["sam", "average"],
)
def test_a_resumed_run_is_the_undisturbed_run(
    settings: dict[str, Any], made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    whole, parted = whole_and_resumed(made_corpus, made_cache, tmp_path, streaming=True, **settings)
    assert same(whole, parted)
    read = read_checkpoint(tmp_path / "whole" / "model.pt")
    assert read.settings.model.streaming and read.network().steps(600)[-1] == 592


def test_a_run_with_specmix_in_bf16_and_compiled(made_corpus: Path, made_cache: Path, tmp_path: Path) -> None:
    """As `torch.compile` does it, without waiting for its compiler."""
    trainer = small_run(made_corpus, made_cache, tmp_path / "run", streaming=True)
    trainer.settings = TrainConfig(
        trainer.settings.data, trainer.settings.model, trainer.settings.distillation, Augmentation(specmix=0.5),
        trainer.settings.optimiser, trainer.settings.run,
    )  # fmt: skip
    trainer.compute = ComputeDevice(CPU.device, bf16=True)
    trainer.model.stages = torch.compile(trainer.model.stages, backend="aot_eager")
    best = trainer.run()
    assert np.isfinite(best["loss"]["total"]) and 0 <= best["dev_eer"] <= 1
    read_checkpoint(tmp_path / "run" / "model.pt")


def test_training_and_evaluation_are_compiled_once_each(made_corpus: Path, made_cache: Path, tmp_path: Path) -> None:
    trainer, graphs = small_run(made_corpus, made_cache, tmp_path, streaming=True, batch=5), []
    assert len(trainer.dev) % 5  # the last batch of an evaluation is a smaller one

    def compiler(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    trainer.model.stages = torch.compile(trainer.model.stages, backend=compiler)
    trainer.run()
    assert len(graphs) == 2


def test_compiled_stages_are_the_stages() -> None:
    network, (features, _) = build("senet9", 0.1, gate_seconds=1.0).eval(), batch()
    compiled = torch.compile(network.stage_outputs, backend="eager", fullgraph=True)
    for one, other in zip(compiled(features, False)[0], network.stage_outputs(features)[0], strict=True):
        assert torch.allclose(one, other, atol=1e-5)


# ---- a finished model as teacher -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_model(made_corpus: Path, made_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    small_run(made_corpus, made_cache, out, {"distill": "off"}, epochs=1).run()
    return out / "model.pt"


def test_a_finished_model_teaches_and_is_not_saved(
    whole_model: Path, made_corpus: Path, made_cache: Path, tmp_path: Path
) -> None:
    taught = {"teacher_model": whole_model}
    whole, parted = whole_and_resumed(made_corpus, made_cache, tmp_path, streaming=True, distillation=taught)
    assert same(whole, parted)
    assert "soft4" in whole.history[0]["loss"] and len(whole.corpus["teacher"]) == 64
    assert not any("external" in name for name in (*whole.weights, *whole.helpers))
    other = tmp_path / "model.pt"
    write_checkpoint(other, replace(read_checkpoint(whole_model), history=[]))
    again = small_run(made_corpus, made_cache, tmp_path / "parted", {"teacher_model": other}, streaming=True)
    with pytest.raises(ShrikeError, match="teacher"):
        again.resume(tmp_path / "parted" / "last.pt")
    whole_model_gone = read_checkpoint(tmp_path / "whole" / "model.pt")  # needs no teacher's file
    assert whole_model_gone.settings.distillation.teacher_model == whole_model


def test_an_external_teacher_has_a_level_of_its_own(whole_model: Path) -> None:
    teacher = ExternalTeacher(whole_model, PRESETS["f0"].with_level("running-mean"), CPU)
    raw = torch.randn(2, 1, 45, 600) * 3 - 8
    augment = Augment(Augmentation(noise=None), PRESETS["f0"].with_level("running-mean")).train()
    features, level = augment.with_level(raw)
    assert torch.allclose(features + level, raw, atol=1e-5)
    expected = read_checkpoint(whole_model).network()(raw)  # was trained with --level none
    assert torch.allclose(teacher(features + level), expected, atol=1e-4)
    with pytest.raises(ShrikeError, match="--frontend f0"):
        ExternalTeacher(whole_model, PRESETS["wide"], CPU)


# ---- the score of a clip ---------------------------------------------------------------------------------------------


def test_a_clips_score_equals_its_streams_and_repeats_nothing(made_corpus: Path, made_cache: Path) -> None:
    distilled = distillation_model().eval()
    frontend = PRESETS["f0"].with_level("running-mean")
    cache = build_cache(frontend, open_corpus(made_corpus, "dev").trials, made_cache, 1)
    settings = TrainConfig(Data(made_corpus, level="running-mean"), Model(streaming=True))
    scores = score_cache(distilled, Augment(Augmentation(), frontend), cache, settings, CPU)
    assert scores.shape == (len(cache), 4) and len(set(cache.lengths.clip(max=600).tolist())) > 1
    for clip, length in enumerate(cache.lengths.tolist()):
        frames = np.array(cache.window(clip)[: min(length, 600)], np.float32)
        assert length >= 112, "the short clip stands in the next test"
        after = min(length, 600) // STEP * STEP
        assert after == scored(length, frontend)
        features = torch.from_numpy(numpy_level(frames, "running-mean").T.copy())[None, None, :, :after]
        state = distilled.network.reset_state(1, 45)
        for part in features.split(STEP, dim=3):
            logits, state = distilled.network.step(part, state)
        assert float(logits[0, 1] - logits[0, 0]) == pytest.approx(scores[clip, -1], abs=1e-4)


def test_a_clip_without_one_step_repeats_its_frames_up_to_the_first() -> None:
    distilled = distillation_model().eval()
    short = torch.randn(1, 1, 45, 40, generator=torch.Generator().manual_seed(2))
    window = short.repeat(1, 1, 1, 15)
    after = torch.tensor([scored(40, PRESETS["f0"])])
    logits = distilled.network(window[..., :112])
    assert float(distilled.scores(window, after)[0, -1]) == pytest.approx(
        float((logits[0, 1] - logits[0, 0]).detach()), abs=1e-4
    )


@pytest.mark.parametrize(
    "data, model, distillation, word",
    [
        ({}, {"network": "res2net50", "streaming": True}, {}, "--streaming"),
        ({"level": "window-mean"}, {"streaming": True}, {}, "running-mean"),
        ({"level": "running-mean"}, {}, {}, "--streaming"),
        ({}, {"streaming": True, "gate_seconds": 0.0}, {}, "--gate-seconds"),
        ({}, {}, {"teacher_model": Path("x"), "distill": "off"}, "--teacher-model"),
    ],
)
def test_options_that_exclude_each_other_are_named(data: Any, model: Any, distillation: Any, word: str) -> None:
    with pytest.raises(ShrikeError, match=word):
        TrainConfig(Data(Path("c"), **data), Model(**model), Distillation(**distillation))


# ---- two processes ---------------------------------------------------------------------------------------------------


def in_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    distilled = distillation_model(loss="crossentropy")
    for module in distilled.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # or each process normalises by its own half
    lesson = torch.nn.parallel.DistributedDataParallel(distilled)
    features, target = batch()
    lesson(features[rank::2], target[rank::2], 0)["total"].backward()
    if rank == 0:
        torch.save({name: weight.grad for name, weight in distilled.named_parameters()}, f"{folder}/gradients.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(in_process, (str(tmp_path),), nprocs=2)
    distilled = distillation_model(loss="crossentropy")
    for module in distilled.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    distilled(*batch(), 0)["total"].backward()
    theirs = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for name, weight in distilled.named_parameters():
        assert weight.grad is not None
        assert torch.allclose(theirs[name], weight.grad, rtol=1e-3, atol=1e-5), name
