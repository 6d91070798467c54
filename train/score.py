"""Score a corpus with a checkpoint: a score file in ASVspoof's form, and what it amounts to.

python -m train.score runs/model/model.pt --corpus /data/ASVspoof2019/LA --partition eval --out eval.scores.txt
python -m train.evaluate.summary eval.scores.txt --asv ASVspoof2019.LA.asv.eval.gi.trl.scores.txt
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from runtime.support.atomic import atomic_file
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError


@dataclass(frozen=True)
class Options:
    """Score every trial of a partition with a checkpoint."""

    model: tyro.conf.Positional[Path]
    """A model.pt of python -m train."""
    corpus: Path
    """Folder of the corpus, as for python -m train."""
    partition: Literal["train", "dev", "eval"] = "eval"
    """Which of its protocols."""
    protocol: Path | None = None
    """A protocol file instead of the corpus's own."""
    subset: tuple[Literal["progress", "eval", "hidden"], ...] = ("eval",)
    """Of ASVspoof 2021's protocols, which subsets; the official figures are of eval alone."""
    only: str = ""
    """Only trials whose row in the corpus's metadata.csv says so, as in mp3=0."""
    exit: int = 4
    """4: the whole network. 1 to 3: what its shallow stages learned from it."""
    windows: Literal["first", "mean"] = "first"
    """first: the first 600 frames, as published. mean: over windows that overlap by half, to the end of the clip."""
    out: Path | None = None
    """File of the scores; without it they are only summarised."""
    asv: Path | None = None
    """The organisers' speaker-verification scores, for min t-DCF."""
    bootstrap: int = 1000
    """Resamples behind every 95 % interval; 0 leaves them out."""
    seed: int = 0
    """Everything random follows from it: the resamples."""
    json: bool = False
    """Results as JSON on stdout, rates as fractions, instead of a table in percent."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept between runs; safe to delete."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the network computes in."""
    threads: int = 0
    """CPU threads of the network; 0 leaves PyTorch's choice."""


def main() -> None:
    options = parse(Options, "train.score", __doc__)
    from train.augment.features import Augment
    from train.checkpoint import read_checkpoint
    from train.data.cache import build_cache
    from train.data.corpus import open_corpus, select
    from train.device import select_device
    from train.evaluate.scorefile import ScoreTable, read_asv_scores, write_scores
    from train.evaluate.scoring import score_cache
    from train.evaluate.summary import show, summarise
    from train.progress import say

    checkpoint = read_checkpoint(options.model)
    settings = checkpoint.settings
    run_here = replace(settings.run, device=options.device, precision=options.precision, threads=options.threads)
    settings = replace(settings, run=run_here)
    distilled = settings.distillation.distill == "on"
    if options.exit not in ((1, 2, 3, 4) if distilled else (4,)):
        known = "1 to 4" if distilled else "4 alone: it was trained with --distill off"
        raise ShrikeError(f"--exit {options.exit}: {options.model} has {known}")
    partition = open_corpus(options.corpus, options.partition, options.protocol, options.subset)
    partition = select(partition, options.only)
    if partition.unlabelled and not options.out:
        raise ShrikeError("these trials have no labels, so nothing can be summarised; give --out FILE for their scores")
    asv = read_asv_scores(options.asv) if options.asv and not partition.unlabelled else None
    say(partition.describe())

    compute = select_device(settings)
    cache = build_cache(settings.frontend, partition.trials, options.cache)
    classroom = checkpoint.distillation_model().to(compute.device)
    augment = Augment(settings.augmentation, settings.frontend).to(compute.device)
    scores = score_cache(classroom, augment, cache, settings, compute, mean=options.windows == "mean")
    scores = scores[:, options.exit - 5]  # the last column is exit 4
    if options.out and partition.unlabelled:
        with atomic_file(options.out) as temporary:  # the two columns that ASVspoof 2021 takes as a submission
            lines = (f"{t.utterance} {value!r}\n" for t, value in zip(cache.trials, scores.tolist(), strict=True))
            temporary.write_text("".join(lines), "utf-8")
    elif options.out:
        write_scores(options.out, ScoreTable.of(cache.trials, scores))
    if options.out:
        say(f"{len(cache):,} scores in {options.out}")
    if not partition.unlabelled:
        show(summarise(ScoreTable.of(cache.trials, scores), asv, options.bootstrap, options.seed), options.json)


if __name__ == "__main__":
    run(main)
