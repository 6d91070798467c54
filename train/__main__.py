"""Train a self-distilled fake-speech detector, or its plain baseline.

python -m train --corpus /data/ASVspoof2019/LA --network ecanet18
python -m train --corpus /data/ASVspoof2019/LA --network ecanet18 --distill off --out runs/plain
python -m train --corpus /data/LA /data/pages /data/vocoded --only open=1 --sampling balanced --pair-loss 0.5
torchrun --nproc-per-node 2 -m train --corpus /data/ASVspoof2019/LA
python -m train ... --resume
python -m train --list-networks --frontend wide --streaming
"""

import datetime
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from runtime.audio.features import Preset
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby
from train.config import TrainConfig

Made = TypeVar("Made")


@dataclass(frozen=True)
class ListNetworks:
    """Print parameters, multiply-adds and shapes of every network as a Markdown table."""

    list_networks: bool = False
    """Print the table instead of training."""
    frontend: Preset = "f0"
    """f0: the lowest 45 bins, 0-417 Hz, as published. wide: 60 bands over 0-7 kHz. mel: Whisper's log-mel.
    mel7k: its bands below 7 kHz."""
    width: float = 1.0
    """Factor on every channel count."""
    stem_stride: tuple[int, int] = (1, 1)
    """Strides of the first convolution along bands and frames."""
    streaming: bool = False
    """List streaming networks: multiply-adds of one step of 16 frames, and bytes of state in float."""


def main() -> int:
    if "--list-networks" in sys.argv:
        table = parse(ListNetworks, "train", __doc__)
        from train.networks.cost import cost_table

        print(cost_table(table.frontend, table.width, table.streaming, table.stem_stride))
        return 0
    settings = parse(TrainConfig, "train", __doc__)
    out, last = settings.run.out, settings.run.out / "last.pt"
    if last.exists() and not settings.run.resume:
        raise ShrikeError(f"{out} already contains a run; add --resume to continue it, or use another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # now, not after the first epoch
        raise ShrikeError(f"--out {out}: cannot create the folder ({error.strerror}); use another") from error
    teacher = settings.distillation.teacher_model
    if teacher and not teacher.is_file():  # features are computed first, which may take hours
        raise ShrikeError(f"--teacher-model {teacher}: expected a model.pt of python -m train{nearby(teacher)}")
    start = settings.model.init
    if start and not start.is_file():
        raise ShrikeError(f"--init {start}: expected a model.pt of python -m train{nearby(start)}")
    labels = settings.distillation.soft_labels
    if labels and not labels.is_file():
        raise ShrikeError(f"--soft-labels {labels}: expected a file of python -m train.teach{nearby(labels)}")
    rooms = settings.augmentation.rir
    if rooms not in ("", "synthetic") and not Path(rooms).is_dir():
        raise ShrikeError(f"--rir {rooms}: expected a folder of impulse responses, or synthetic{nearby(rooms)}")

    from torch import distributed as dist  # torch is loaded only after the command line is parsed

    from train.augment.chain import build_chain
    from train.checkpoint import read_initial
    from train.data.cache import build_cache, build_sound_cache, build_versions, joined
    from train.data.corpora import open_corpora
    from train.data.corpus import Partition
    from train.data.corpus_index import CorpusIndex
    from train.data.dataset import SoundWindows, VersionWindows, Windows
    from train.data.folds import leave_out
    from train.data.sampling import Sampling, groups, pairs
    from train.device import select_device
    from train.loop import Trainer
    from train.losses.soft_labels import read_soft_labels
    from train.progress import say

    if labels:
        read_soft_labels(labels)  # an error now, not after the features
    if start:
        read_initial(start, settings)
    compute = select_device(settings)
    if compute.world > 1:
        # A day's timeout: processes wait in a barrier while the first one computes the features.
        dist.init_process_group("nccl" if compute.device.type == "cuda" else "gloo", timeout=datetime.timedelta(days=1))
    trainer: Trainer | None = None
    try:
        data = settings.data
        trees = [CorpusIndex(root) for root in data.corpus]
        train = open_corpora(trees, "train", data.train_protocol, data.only)
        if data.leave_out:
            train, _ = leave_out(train, data.leave_out)
        dev = open_corpora(trees, "dev", data.dev_protocol)

        def cache(partition: Partition, build: Callable[..., Made]) -> list[Made]:
            """Build one of each corpus in the first process, with logs; the others wait, then open the same ones."""
            if compute.first:
                say(partition.describe())
            elif compute.world > 1:
                dist.barrier()
            quiet = not compute.first
            made = [build(settings.frontend, trials, data.cache, quiet=quiet) for _, trials in partition.by_corpus()]
            if compute.first and compute.world > 1:
                dist.barrier()
            return made

        corpus = {"train": train.identity(), "dev": dev.identity()}
        chain = build_chain(settings.augmentation, settings.frontend.rate, quiet=not compute.first)
        # Augmentation of sound precedes the front-end, so training then reads sound; dev reads features.
        if chain is None:
            windows = Windows(joined(cache(train, build_cache)))
        elif settings.augmentation.versions:
            corpora = cache(train, partial(build_versions, settings=settings.augmentation, chain=chain))
            windows = VersionWindows([joined(made) for made in zip(*corpora, strict=True)])
        else:
            windows = SoundWindows(joined(cache(train, build_sound_cache)), chain, settings.optimiser.seed)
        trials = windows.cache.trials
        judged = cache(dev, build_cache)
        sampling = Sampling(
            data.sampling,
            groups(train, trials) if data.sampling == "balanced-sources" else None,
            pairs(train, trials) if settings.distillation.pair_loss else None,
        )
        parts = [(root, len(part)) for (root, _), part in zip(dev.by_corpus(), judged, strict=True)]
        trainer = Trainer(settings, compute, windows, joined(judged), corpus, sampling, parts)
        if settings.run.resume and last.exists():
            trainer.resume(last)
        best = trainer.run()
        if compute.first:
            say(f"best: epoch {best['epoch']}, dev EER {100 * best['dev_eer']:.2f} %")
            score = f"python -m train.score {out / 'model.pt'} --corpus {data.corpus[0]} --partition eval"
            say(f"to score eval once: {score}")
            print(out / "model.pt")
    finally:
        if compute.world > 1:
            # References to the group keep its threads alive, which sometimes abort the process at exit.
            trainer = None
            gc.collect()
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    run(main)
