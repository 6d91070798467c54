"""Score a corpus with a checkpoint, or summarise a score file: EER, min t-DCF, DCF and Cllr, pooled and per attack.

python -m train.score runs/model/model.pt --corpus /data/ASVspoof2019/LA --partition eval --out eval.scores.txt
python -m train.score eval.scores.txt --asv ASVspoof2019.LA.asv.eval.gi.trl.scores.txt
python -m train.score scores.txt.gz --flip --json
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from runtime.support.atomic import atomic_file
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from train.evaluate.scorefile import ScoreTable


@dataclass(frozen=True)
class Options:
    """Score the trials of a partition, and print the measures that the ASVspoof organisers compute."""

    model: tyro.conf.Positional[Path]
    """A model.pt of python -m train, or a score file: lines `UTTERANCE ATTACK KEY SCORE`, plain or .gz."""
    corpus: Path | None = None
    """Folder of the corpus to score with model.pt, as for python -m train."""
    partition: Literal["train", "dev", "eval"] = "eval"
    """Partition to score."""
    protocol: Path | None = None
    """Protocol file to use instead of the corpus's own."""
    subset: tuple[Literal["progress", "eval", "hidden"], ...] = ("eval",)
    """Subsets of ASVspoof 2021's protocols to score; the official figures use eval."""
    only: str = ""
    """Score only trials whose row in the corpus's metadata.csv matches, as in mp3=0."""
    exit: int | None = None
    """Exit of a distilled network, 1 is the shallowest; by default the last one, the whole network."""
    windows: Literal["first", "mean"] = "first"
    """first: the first 600 frames, as published. mean: over windows that overlap by half, to the end of the clip."""
    out: Path | None = None
    """Score file to write, .gz packs it; without it scores are only summarised."""
    asv: Path | None = None
    """The organisers' speaker-verification scores, for min t-DCF: lines `ATTACK KEY SCORE`."""
    flip: bool = False
    """Multiply the scores of a score file by -1, for a system whose higher scores mean spoof."""
    bootstrap: int = 1000
    """Resamples behind every 95 % interval; 0 leaves them out."""
    seed: int = 0
    """Seed of the resamples."""
    json: bool = False
    """Results as JSON on stdout, rates as fractions, instead of a table in percent."""
    cache: Path = Path("~/.cache/shrike")
    """Folder of the feature cache; safe to delete."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the network."""
    threads: int = 0
    """CPU threads of the network; 0 leaves PyTorch's choice."""


def main() -> None:
    options = parse(Options, "train.score", __doc__)
    from train.evaluate.scorefile import read_asv_scores, read_scores, write_scores
    from train.evaluate.summary import show, summarise
    from train.progress import say

    checkpoint = options.model.suffix == ".pt"
    if checkpoint and options.flip:
        raise ShrikeError("--flip: applies to score files; a checkpoint's higher scores mean bona fide")
    if not checkpoint and options.corpus:
        raise ShrikeError(f"{options.model}: a checkpoint (.pt) was expected with --corpus")
    asv = read_asv_scores(options.asv) if options.asv else None
    if checkpoint:
        table = score_corpus(options)
        if table is None:
            return
    else:
        table = read_scores(options.model)
        table = table.flipped() if options.flip else table
        say(f"{options.model}: {table.bonafide.size:,} bona fide and {table.spoof.size:,} spoofed trials")
        if options.out:
            write_scores(options.out, table)
    summary = summarise(table, asv, options.bootstrap, options.seed)
    if summary.eer > 0.5 and not checkpoint:
        say("the EER is above 50 %; if higher scores mean spoof, add --flip")
    show(summary, options.json)


def score_corpus(options: Options) -> "ScoreTable | None":
    """Score a partition with a checkpoint and write --out; return None for trials without labels."""
    from train.checkpoint import read_checkpoint
    from train.data.corpus import open_corpus, select
    from train.evaluate.scorefile import ScoreTable, write_scores
    from train.evaluate.scoring import score_trials
    from train.progress import say

    if options.corpus is None:
        raise ShrikeError(f"--corpus: expected with a checkpoint; give the corpus that {options.model} shall score")
    checkpoint = read_checkpoint(options.model)
    settings = checkpoint.settings
    distilled, last = settings.distillation.distill == "on", settings.model.exits
    exit = last if options.exit is None else options.exit
    if exit not in (range(1, last + 1) if distilled else (last,)):
        known = f"1 to {last}" if distilled else f"{last}, as the network was trained with --distill off"
        raise ShrikeError(f"--exit {exit}: expected {known}")
    partition = open_corpus(options.corpus, options.partition, options.protocol, options.subset)
    partition = select(partition, options.only)
    if partition.unlabelled and not options.out:
        raise ShrikeError("trials without labels cannot be summarised; give --out FILE for their scores")
    say(partition.describe())

    run_here = replace(settings.run, device=options.device, precision=options.precision, threads=options.threads)
    trials, scores = score_trials(checkpoint, partition.trials, run_here, options.cache, options.windows == "mean")
    scores = scores[:, exit - last - 1]  # the last column is the last exit
    table = None if partition.unlabelled else ScoreTable.of(trials, scores)
    if options.out:
        if table is None:
            with atomic_file(options.out) as temporary:  # the two columns that ASVspoof 2021 takes as a submission
                lines = (f"{t.utterance} {value!r}\n" for t, value in zip(trials, scores.tolist(), strict=True))
                temporary.write_text("".join(lines), "utf-8")
        else:
            write_scores(options.out, table)
        say(f"{len(trials):,} scores in {options.out}")
    return table


if __name__ == "__main__":
    run(main)
