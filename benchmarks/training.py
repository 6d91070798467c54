"""Throughput of the feature cache and of training, the overhead of the training loop, and the cost of changed sound.

    python -m benchmarks.training --corpus ../shared/corpus
    python -m benchmarks.training --corpus /data/LA --network ecanet18 --batch 64 --precision bf16

Steps of the loop (read, augment, forward, backward, clip, Adam) take turns with bare forward and backward passes of the
same network on one batch in memory, so that a noisy machine disturbs both alike.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.stats import Case, measure, ratio
from runtime.audio.features import Preset
from runtime.support.command import parse, run
from train.augment import RESAMPLE
from train.config import Augmentation

CLIPS, SOUND_CLIPS = 1024, 64  # of the measurements of the feature cache, and of changed sound
EPOCHS = 6  # for each version of a clip's changed sound: epochs / --versions of python -m train
CHANGES = Augmentation(
    speed=5.0, rir="synthetic", snr=(5.0, 30.0), rawboost="lnl,isd,ssi", band="random", resample=",".join(RESAMPLE),
    codecs="alaw,mulaw,gsm,vorbis,mp3", dither=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Measure the throughput of the feature cache and of training."""

    corpus: Path
    """Folder of the corpus, as for python -m train."""
    network: str = "ecanet9"
    """Network by name; python -m train --list-networks prints all."""
    width: float = 1.0
    """Factor on every channel count."""
    frontend: Preset = "f0"
    """f0: the lowest 45 bins, 0-417 Hz, as published. wide: 60 bands over 0-7 kHz. mel: Whisper's log-mel.
    mel7k: its bands below 7 kHz."""
    distill: Literal["on", "off"] = "off"
    """off: plain training. on: self-distillation, whose shallow classifiers count as the loop's overhead."""
    batch: int = 32
    """Trials of a batch."""
    rounds: int = 12
    """Loop steps and bare passes that are counted, each after one that is not."""
    stem_stride: tuple[int, int] = (1, 1)
    """Strides of the first convolution along bands and frames."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the network; auto: bf16 on a GPU that has it, else fp32."""
    threads: int = 0
    """CPU threads of the network; 0: PyTorch's choice."""


def main() -> None:
    options = parse(Options, "benchmarks.training", __doc__)
    import numpy as np
    import torch

    from train.augment.chain import build_chain
    from train.config import Data, Distillation, Model, Optimiser, Run, TrainConfig
    from train.data.cache import build_cache, build_sound_cache
    from train.data.corpus import open_corpus
    from train.data.dataset import Windows
    from train.data.sampling import training_plan
    from train.data.shards import version_kind
    from train.device import select_device
    from train.loop import Trainer
    from train.progress import say

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainConfig(
            Data((options.corpus,), frontend=options.frontend),
            Model(options.network, options.width, options.stem_stride), Distillation(options.distill),
            optimiser=Optimiser(batch=options.batch),
            run=Run(Path(folder) / "run", device=options.device, precision=options.precision, threads=options.threads),
        )  # fmt: skip
        compute, trials = select_device(settings), open_corpus(options.corpus, "train").trials
        trials = trials[:: max(1, len(trials) // CLIPS)][:CLIPS]  # of both classes, whatever the order
        began = time.perf_counter()
        cache = build_cache(settings.frontend, trials, Path(folder))
        cached = len(cache) / (time.perf_counter() - began)

        windows = Windows(cache)
        trainer = Trainer(settings, compute, windows, cache, {})
        bare = Trainer(replace(settings, distillation=Distillation("off")), compute, windows, cache, {}).model
        trainer.training_step.train()
        bare.train()
        epochs = -(-(2 * options.rounds + 2) * options.batch // len(cache)) + 1
        plan = [crops for epoch in range(epochs) for crops in training_plan(cache, options.batch, 0, epoch)]
        reader = trainer.batches(0, plan)
        fixed = next(reader)
        features = fixed.features.to(compute.device).float().contiguous(memory_format=compute.layout)
        target = fixed.target.to(compute.device)
        wait = torch.cuda.synchronize if compute.device.type == "cuda" else lambda: None

        def bare_pass() -> None:
            with torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bf16):
                loss = bare(features, target, 0)["total"]
            bare.zero_grad(set_to_none=True)
            loss.backward()
            wait()

        def loop_step() -> None:
            trainer.step(next(reader), 0, options.rounds)
            wait()

        sound = build_sound_cache(settings.frontend, trials[:: max(1, len(trials) // SOUND_CLIPS)], Path(folder))
        chain = build_chain(CHANGES, settings.frontend.rate)
        assert chain is not None
        rows = version_kind(settings.frontend, CHANGES, chain, 0).rows
        clips = [sound.samples(clip).astype(np.float32) / np.float32(2**15) for clip in range(len(sound))]
        rows(clips[0])  # loads what the chain needs
        began = time.process_time()
        for clip in clips[1:]:
            rows(clip)
        changed = (time.process_time() - began) / (len(clips) - 1)

        cases = [Case("loop", loop_step), Case("bare", bare_pass)]
        loop, floor = measure(cases, 0.0, runs=options.rounds, rounds=options.rounds, warm_up=0.0)
        trainer.history.close()
    _, middle, _ = ratio(floor.medians, loop.medians, paired=True)
    share = changed / EPOCHS / (statistics.median(loop.cpu) / options.batch)
    precision = "bf16" if compute.bf16 else "fp32"
    say(f"{options.network} on {options.frontend}, {compute.device}, {precision}, batch {options.batch}")
    print(f"feature cache        {cached:8.1f} clips/s")
    print(f"training loop        {options.batch / loop.median:8.1f} clips/s")
    print(f"forward + backward   {options.batch / floor.median:8.1f} clips/s")
    print(f"changed sound        {1000 * changed:8.1f} ms of CPU a clip, seven changes of half of the clips each")
    print(f"changed sound / step {100 * share:8.1f} % of its CPU time, {EPOCHS} epochs a version")
    print(f"loop / bare time     {middle:8.3f} (median of {options.rounds} neighbouring pairs)")


if __name__ == "__main__":
    run(main)
