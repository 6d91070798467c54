"""How sharp a checkpoint's loss is on any trial list, source by source, and whether sharp sources are the hard ones.

    python -m benchmarks.sharpness train/models/f0.pt --corpus ../shared/corpus
    python -m benchmarks.sharpness runs/sam/model.pt --corpus /data/ASVspoof2019/LA --partition eval --by attack

A source is a family of systems (metadata.csv) or an attack (protocol); the bona fide trials are shared by all of them.
Sharpness is what benchmarks/landscape.py says; a source's EER is that of its spoofs against all bona fide.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from benchmarks.landscape import Rise
    from train.checkpoint import Checkpoint
    from train.data.corpus import Partition, Trial
    from train.evaluate.scorefile import ScoreTable

OUT = "runs/reports/sharpness-%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class Options:
    """Measure the sharpness of a checkpoint, and its correlation with the EER over sources."""

    model: tyro.conf.Positional[Path]
    """A model.pt of python -m train."""
    corpus: Path
    """Folder of the corpus, as for python -m train."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Which of its protocols."""
    protocol: Path | None = None
    """A protocol file instead of the corpus's own."""
    only: str = ""
    """Only trials whose row in the corpus's metadata.csv says so, as in mp3=0."""
    by: str = "family"
    """Column of the corpus's metadata.csv, or attack: what makes a source."""
    rho: float = 0.05
    """Radius of the ball around the weights, as in training."""
    adaptive: bool = False
    """Measure the ball in each weight's size, as ASAM does (its paper takes --rho 0.5)."""
    batch: int = 8
    """Trials at once, half of them bona fide; a source needs half as many spoofs."""
    directions: int = 4
    """Random directions beside the steepest one."""
    bootstrap: int = 1000
    """Resamples behind every 95 % interval."""
    seed: int = 0
    """Everything random follows from it: batches, directions, resamples."""
    out: Path | None = None
    """Folder of the report; by default a new one under runs/reports."""
    overwrite: bool = False
    """Replace the report that stands there."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept between runs; safe to delete."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 0
    """CPU threads of the network; 0 leaves PyTorch's choice."""

    def __post_init__(self) -> None:
        for holds, sentence in [
            (self.rho > 0, f"--rho {self.rho}: a radius above 0 was expected"),
            (self.batch >= 2 and self.batch % 2 == 0, f"--batch {self.batch}: an even number was expected"),
            (self.directions > 0, f"--directions {self.directions}: at least 1"),
            (self.bootstrap > 0, f"--bootstrap {self.bootstrap}: at least 1"),
        ]:
            if not holds:
                raise ShrikeError(sentence)


def main() -> None:
    options = parse(Options, "benchmarks.sharpness", __doc__)
    from benchmarks import host
    from benchmarks.markdown import table_text
    from benchmarks.report import check_place, report_folder, write_report
    from benchmarks.sharpness_report import compose
    from train.checkpoint import read_checkpoint
    from train.data.corpus import open_corpus, select
    from train.progress import say

    out = options.out or Path(time.strftime(OUT))
    check_place(out, options.overwrite)
    checkpoint = read_checkpoint(options.model)
    partition = select(open_corpus(options.corpus, options.partition, options.protocol), options.only)
    if partition.unlabelled:
        raise ShrikeError(f"{partition.protocol} has no labels; sharpness and EER need them")
    say(partition.describe())
    sources = name_sources(partition, options.by)
    table, rises = measure(options, checkpoint, partition.trials, sources)
    conditions = {
        "model": options.model.name, "trained with": checkpoint.settings.recipe(), "partition": partition.describe(),
        "trials": partition.identity(), "source": options.by, "rho": options.rho, "adaptive": options.adaptive,
        "batch": options.batch, "random directions": options.directions, "resamples": options.bootstrap,
        "seed": options.seed, "loss": "cross-entropy of the logits", "batch norm": "statistics of training",
    }  # fmt: skip
    with report_folder(out, options.overwrite) as temporary:
        report = compose(options, table, sources, rises, host.describe(), conditions, temporary)
        write_report(temporary, report)
    print("\n\n".join(table_text(each) for each in report.tables))
    say(f"report: {out}/report.md")


def name_sources(partition: "Partition", by: str) -> dict[str, str]:
    """Utterance -> source, of the spoofs."""
    from benchmarks.groups import column_of

    spoofs = [trial for trial in partition.trials if trial.bonafide is False]
    names = [trial.utterance for trial in spoofs]
    values = [trial.attack for trial in spoofs] if by == "attack" else column_of(partition, names, by).tolist()
    return dict(zip(names, values, strict=True))


def measure(
    options: Options, checkpoint: "Checkpoint", trials: Sequence["Trial"], sources: dict[str, str]
) -> tuple["ScoreTable", dict[str, list["Rise"]]]:
    """Scores of all trials, and the rises of every source's batches."""
    from dataclasses import replace

    import numpy as np

    from benchmarks.landscape import Landscape, draw_batches
    from train.augment.features import Augment
    from train.data.cache import build_cache
    from train.data.dataset import Windows
    from train.device import select_device
    from train.evaluate.scorefile import ScoreTable
    from train.evaluate.scoring import score_cache
    from train.progress import Progress

    settings = checkpoint.settings
    here = replace(settings.run, device=options.device, precision="fp32", threads=options.threads)
    settings = replace(settings, run=here)
    compute = select_device(settings)
    cache = build_cache(settings.frontend, trials, options.cache)
    classroom = checkpoint.distillation_model().to(compute.device)
    augment = Augment(settings.augmentation, settings.frontend).to(compute.device).eval()
    table = ScoreTable.of(cache.trials, score_cache(classroom, augment, cache, settings, compute)[:, -1])

    named = np.array([sources.get(name, "") for name in table.utterance])
    spoof = {name: np.flatnonzero(named == name) for name in sorted(set(named[~table.is_bonafide].tolist()))}
    batches = draw_batches(np.flatnonzero(table.is_bonafide), spoof, options.batch, options.seed)
    if not any(batches.values()):
        raise ShrikeError(f"no source has {options.batch // 2} spoofs; choose a smaller --batch, or another --by")
    landscape = Landscape(classroom.deployed()[0], options.rho, options.adaptive, options.directions, options.seed)
    windows = Windows(cache)
    rises: dict[str, list[Rise]] = {}
    with Progress("sharpness", sum(map(len, batches.values())), "batches") as bar:
        for source, drawn in batches.items():
            rises[source] = []
            for clips in drawn:
                batch = windows[np.stack([clips, np.zeros_like(clips)], axis=1)]
                rises[source].append(
                    landscape.rise(augment(batch.features.to(compute.device)), batch.target.to(compute.device))
                )
                bar.advance()
    return table, {source: found for source, found in rises.items() if found}


if __name__ == "__main__":
    run(main)
