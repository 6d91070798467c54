"""The training loop: epochs over batches, dev after each, two checkpoints, and exact resume after any interruption.

All randomness of step n follows from (seed, n): weights from the seed, order and crops from (seed, epoch), dropout and
augmentation from a generator that every step seeds anew. A resumed run equals the uninterrupted run, bit for bit.
"""

import hashlib
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from runtime.card.checksums import sha256_file
from runtime.support.errors import ShrikeError
from train.augment.features import Augment, specmix
from train.checkpoint import (
    Checkpoint,
    RunProgress,
    build_network,
    load_strictly,
    read_checkpoint,
    read_initial,
    versions,
    write_checkpoint,
)
from train.checks import LossSums, check_classes, check_pairs, explain_out_of_memory
from train.config import TrainConfig, differences
from train.data.cache import FeatureCache
from train.data.dataset import Batch, Batches, SoundWindows, VersionWindows, Windows
from train.data.sampling import Sampling, training_plan
from train.device import ComputeDevice
from train.evaluate import metrics
from train.evaluate.scorefile import ScoreTable, write_scores
from train.evaluate.scoring import score_cache
from train.history import History
from train.losses.distillation import DistillationModel
from train.losses.external_teacher import ExternalTeacher
from train.losses.optimiser import adam, learning_rate
from train.losses.sam import descent
from train.losses.soft_labels import SoftLabels
from train.networks.encoder import EncoderNetwork
from train.networks.whisper import load_encoder
from train.progress import Progress, say

CHECK_EVERY = 20  # steps between reads of the loss, which wait for a GPU


class Trainer:
    """One run of `python -m train` on windows of a built cache."""

    def __init__(
        self,
        settings: TrainConfig,
        compute: ComputeDevice,
        windows: Windows,
        dev: FeatureCache,
        corpus: dict[str, str],
        sampling: Sampling | None = None,
        dev_parts: Sequence[tuple[str, int]] = (),
    ):
        """`dev_parts` are the corpora in `dev`, in order: folder and number of clips."""
        self.settings, self.compute, self.dev, self.corpus = settings, compute, dev, corpus
        self.train = train = windows.cache
        assert settings.augmentation.on_sound == isinstance(windows, SoundWindows | VersionWindows)
        self.batches = Batches(windows, settings.data.workers, compute.device)
        self.sampling, self.dev_parts = sampling or Sampling(), dev_parts
        check_classes(train, "train")
        check_classes(dev, "dev")
        check_pairs(self.sampling, settings.optimiser.batch, compute.world)
        torch.manual_seed(settings.optimiser.seed)
        self.model = DistillationModel(build_network(settings), settings.distillation)
        if isinstance(self.model.network, EncoderNetwork) and settings.model.encoder_weights is not None:
            load_encoder(self.model.network, settings.model.encoder_weights)
        if settings.model.init is not None:
            load_strictly(self.model.network, read_initial(settings.model.init, settings), "network")
            self.corpus = {**self.corpus, "init": sha256_file(settings.model.init)}
        self.model.to(compute.device, memory_format=compute.layout)  # type: ignore[call-overload]
        self.external_teacher: ExternalTeacher | None = None
        if settings.distillation.teacher_model is not None:
            self.external_teacher = ExternalTeacher(settings.distillation.teacher_model, settings.frontend, compute)
            self.corpus = {**self.corpus, "teacher": self.external_teacher.identity}
        self.soft_labels: SoftLabels | None = None
        if settings.distillation.soft_labels is not None:
            self.soft_labels = SoftLabels(settings.distillation.soft_labels, train.trials)
            self.corpus = {**self.corpus, "soft labels": self.soft_labels.identity}
            if compute.first:
                say(f"soft labels for {self.soft_labels.found:,} of {len(train):,} training clips")
        self.augment = Augment(settings.augmentation, settings.frontend).to(compute.device)
        encoder = isinstance(self.model.network, EncoderNetwork)
        self.optimiser = adam(self.model, settings.optimiser, settings.model.encoder_rate if encoder else None)
        self.descent = descent(self.model, self.optimiser, settings.optimiser)
        if settings.run.compile:
            self.model.stages = torch.compile(self.model.stages)
        self.training_step: nn.Module = self.model
        if compute.world > 1:
            devices = [compute.device] if compute.device.type == "cuda" else None
            self.training_step = nn.parallel.DistributedDataParallel(self.model, device_ids=devices)
        self.progress = RunProgress()
        self.history = History(settings.run.out, settings.to_dict(), write=compute.first)
        self._signal: str | None = None  # the signal that requested a stop

    # ---- one epoch -------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Train the remaining epochs; return the history entry of the best one."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._stop) for number in signals}
        try:
            while self.progress.epoch < self.settings.optimiser.epochs:
                self._epoch()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.history.close()
        return self.history.best()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name

    def _epoch(self) -> None:
        settings, compute, progress = self.settings.optimiser, self.compute, self.progress
        plan = training_plan(
            self.train, settings.batch, settings.seed, progress.epoch, self.sampling, compute.rank, compute.world
        )
        steps = len(plan) * settings.epochs
        sums = LossSums(progress.sums or {}, progress.batch)
        began, clips = time.perf_counter(), 0
        self.training_step.train()
        self.augment.train()
        title = f"epoch {progress.epoch + 1}/{settings.epochs}"
        with Progress(title, len(plan), "batches", silent=not compute.first) as bar:
            bar.advance(progress.batch)
            for batch in self.batches(progress.epoch, list(plan[progress.batch :])):
                with explain_out_of_memory(settings.batch):
                    losses = self.step(batch, self.progress.step, steps)
                sums.add(losses)
                clips += len(batch.target) * compute.world
                self.progress = replace(self.progress, batch=self.progress.batch + 1, step=self.progress.step + 1)
                last = self.progress.batch == len(plan)
                if self.progress.batch % CHECK_EVERY == 0 or last:
                    bar.advance(0, f"loss {sums.check(title):.3f}")
                bar.advance()
                if self._should_stop(last):
                    self._leave(sums)
        seconds = time.perf_counter() - began
        judged, dev_table = self._evaluate()
        entry = {
            "epoch": progress.epoch + 1,
            "step": self.progress.step,
            "seconds": seconds,
            "clips_per_second": clips / seconds,
            "lr": self.optimiser.param_groups[0]["lr"],
            **self.model.hard.schedule(self.progress.step),
            "loss": sums.means(),
            **judged,
        }
        self.progress = RunProgress(progress.epoch + 1, 0, self.progress.step)
        better = self.history.add(entry)
        if compute.first:
            if better:
                self._save("model.pt", optimiser=False)
                write_scores(self.settings.run.out / "dev.scores.txt", dev_table)
            self._save("last.pt", optimiser=True)

    def step(self, batch: Batch, step: int, steps: int) -> dict[str, Tensor]:
        """Take optimiser step `step` of the run's `steps` on a batch; return the losses by name."""
        settings, mixing, compute = self.settings.optimiser, self.settings.augmentation, self.compute
        # Per process, so that torchrun's processes drop different features.
        torch.manual_seed(_mix(settings.seed, step, compute.rank))
        # Raw log power, of the cache or of changed sound: (batch, 1, bands, 600).
        features, level = self.augment.with_level(batch.features.to(compute.device, non_blocking=True))
        target = batch.target.to(compute.device, non_blocking=True)
        if mixing.specmix:
            features, target = specmix(features, target, mixing.specmix, mixing.specmix_label)
        features = features.contiguous(memory_format=compute.layout)
        external = self.external_teacher(features + level) if self.external_teacher is not None else None
        soft = self.soft_labels(batch.clips).to(compute.device) if self.soft_labels is not None else None
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings, step, steps) * group["factor"]

        def backward() -> dict[str, Tensor]:
            # Seeded here, so that SAM's second pass drops the same features as the first.
            torch.manual_seed(_mix(settings.seed, step, compute.rank, "network"))
            with torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bf16):
                losses: dict[str, Tensor] = self.training_step(features, target, step, external, soft)
            losses["total"].backward()
            return {name: loss.detach() for name, loss in losses.items()}

        losses = self.descent.step(backward)
        self.model.advance(step)
        return losses

    # ---- dev -------------------------------------------------------------------------------------------------------

    def _evaluate(self) -> tuple[dict[str, Any], ScoreTable]:
        """Compute dev loss and EER of the whole network and, if distilled, of every shallow exit; also the scores."""
        scores = score_cache(self.model, self.augment, self.dev, self.settings, self.compute)
        labels = self.dev.labels
        names = [f"exit{number + 1}" for number in range(scores.shape[1] - 1)] + ["dev_eer"]
        eers = {
            name: metrics.eer(column[labels == 1], column[labels == 0])
            for name, column in zip(names, scores.T, strict=True)
        }
        final = scores[:, -1]
        # Cross-entropy with equal weights of both classes, whatever the protocol's proportions.
        loss = np.mean([np.logaddexp(0, -final[labels == 1]).mean(), np.logaddexp(0, final[labels == 0]).mean()])
        entry = {"dev_eer": eers.pop("dev_eer"), "dev_loss": float(loss), "dev_exits": eers}
        if len(self.dev_parts) > 1:
            ends = np.cumsum([count for _, count in self.dev_parts])[:-1]
            parts = zip(self.dev_parts, np.split(final, ends), np.split(labels, ends), strict=True)
            entry["dev_corpora"] = {
                name: metrics.eer(part[y == 1], part[y == 0]) for (name, _), part, y in parts if 0 < y.sum() < len(y)
            }
        return entry, ScoreTable.of(self.dev.trials, final)

    # ---- stopping, saving, resuming --------------------------------------------------------------------------------

    def _should_stop(self, last: bool) -> bool:
        """True if any process got a signal; torchrun's processes agree on it every few steps, as that costs time."""
        if self.compute.world == 1:
            return self._signal is not None
        if self.progress.step % CHECK_EVERY and not last:
            return False
        stop = torch.tensor([self._signal is not None], dtype=torch.int32, device=self.compute.device)
        dist.all_reduce(stop, dist.ReduceOp.MAX)
        return bool(stop.item())

    def _leave(self, sums: LossSums) -> None:
        self.progress = replace(self.progress, sums=sums.totals())
        if self.compute.first:
            self._save("last.pt", optimiser=True)
            say(
                f"stopped by {self._signal or 'another process'} after {self.progress.step} steps; to continue from "
                f"{self.settings.run.out / 'last.pt'}, repeat the command with --resume"
            )
        if self.compute.world > 1:
            dist.barrier()  # torchrun ends all processes as soon as one exits
        raise SystemExit(143 if self._signal == "SIGTERM" else 130)

    def _save(self, name: str, optimiser: bool) -> None:
        weights, helpers = self.model.state() if optimiser else self.model.deployed_state()
        write_checkpoint(
            self.settings.run.out / name,
            Checkpoint(
                settings=self.settings,
                weights=weights,
                helpers=helpers,
                optimiser=self.optimiser.state_dict() if optimiser else {},
                progress=self.progress,
                history=self.history.entries,
                corpus=self.corpus,
                versions=versions(),
            ),
        )

    def resume(self, path: Path) -> None:
        """Continue from last.pt, which must be of the same run."""
        checkpoint = read_checkpoint(path)
        odd = differences(checkpoint.settings, self.settings)
        if checkpoint.corpus != self.corpus:
            names = checkpoint.corpus.keys() | self.corpus.keys()
            changed = [name for name in sorted(names) if checkpoint.corpus.get(name) != self.corpus.get(name)]
            odd.append(f"its training data or teacher differ ({', '.join(changed)})")
        if odd:
            raise ShrikeError(f"{path} is of another run: {'; '.join(odd)}; repeat its options, or use another --out")
        load_strictly(self.model.network, checkpoint.weights, "network")
        if self.model.helpers is not None:
            load_strictly(self.model.helpers, checkpoint.helpers, "helpers")
        try:
            self.optimiser.load_state_dict(checkpoint.optimiser)
        except (ValueError, KeyError) as error:
            raise ShrikeError(f"{path}: its optimiser state does not fit ({error}); use another --out") from error
        self.progress = checkpoint.progress
        self.history.restore(checkpoint.history)


def _mix(*numbers: int | str) -> int:
    """Hash several numbers to one seed, so that neighbouring steps are independent."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big") >> 1
