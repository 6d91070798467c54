"""Sharpness of a checkpoint's loss, source by source, and its rank correlation with the EER.

    python -m benchmarks.sharpness train/models/f0.pt --corpus ../shared/corpus
    python -m benchmarks.sharpness runs/sam/model.pt --corpus /data/ASVspoof2019/LA --partition eval --by attack

A source is a family of systems (metadata.csv) or an attack (protocol); all share the bona fide trials. Sharpness is
m-sharpness (Foret et al., ICLR 2021) as the code of Huang et al. (Interspeech 2025) computes it: in eval mode, for a
batch of m trials with the gradient g of its own loss, loss(w + rho g / |g|) - loss(w), where the loss is
cross-entropy of the logits whatever the network was trained with.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.report import Measured, Report, ReportOptions, Table, new_report, produce
from runtime.card.schema import require
from runtime.support.command import parse, run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from train.data.corpus import Partition
    from train.evaluate.scorefile import ScoreTable

FEWEST_SOURCES = 4  # for a rank correlation

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Rises = dict[str, list[tuple[float, float]]]  # by source: loss and its rise on every batch


@dataclass(frozen=True)
class Options(ReportOptions):
    """Measure the sharpness of a checkpoint, and its correlation with the EER over sources."""

    model: tyro.conf.Positional[Path]
    """model.pt of python -m train."""
    corpus: Path
    """Folder of the corpus, as for python -m train."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Protocol of the corpus."""
    protocol: Path | None = None
    """Protocol file to use instead of the corpus's own."""
    only: str = ""
    """Select trials by columns of the corpus's metadata.csv, as mp3=0."""
    by: str = "family"
    """Column of the corpus's metadata.csv that names a source, or attack."""
    rho: float = 0.05
    """Radius of the ball around the weights, as in training."""
    adaptive: bool = False
    """Scale the ball by each weight's size, as ASAM (its paper uses --rho 0.5)."""
    batch: int = 8
    """Trials of a batch, half of them bona fide; a source needs half as many spoofs."""
    bootstrap: int = 1000
    """Resamples of every 95 % interval."""
    seed: int = 0
    """Seed of batches and resamples."""
    cache: Path = Path("~/.cache/shrike")
    """Folder of cached features; safe to delete."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 0
    """CPU threads of the network; 0: PyTorch's choice."""

    def __post_init__(self) -> None:
        require(self.rho > 0, f"--rho {self.rho}: expected a radius above 0")
        require(self.batch >= 2 and self.batch % 2 == 0, f"--batch {self.batch}: expected an even number, 2 or more")
        require(self.bootstrap > 0, f"--bootstrap {self.bootstrap}: expected 1 or more")


def main() -> None:
    options = parse(Options, "benchmarks.sharpness", __doc__)
    produce(options, "sharpness", lambda folder: report(options))


def report(options: Options) -> Report:
    from benchmarks.accuracy.trials import TrialList
    from train.data.corpus import open_corpus, select
    from train.progress import say

    partition = select(open_corpus(options.corpus, options.partition, options.protocol), options.only)
    require(not partition.unlabelled, f"{partition.protocol}: {partition.unlabelled} trials without a label")
    say(partition.describe())
    sources = {trial.utterance: trial.attack for trial in partition.trials if trial.bonafide is False}
    if options.by != "attack":
        sources = dict(zip(sources, TrialList((partition,)).column(list(sources), options.by).tolist(), strict=True))
    scores, rises, recipe = measure(options, partition, sources)
    table, notes = source_table(options, scores, sources, rises)
    conditions = {
        "model": options.model.name, "trained with": recipe, "partition": partition.describe(),
        "trials": partition.identity(), "source": options.by, "rho": options.rho, "adaptive": options.adaptive,
        "batch": options.batch, "resamples": options.bootstrap, "seed": options.seed,
        "loss": "cross-entropy of the logits", "batch norm": "statistics of training",
    }  # fmt: skip
    return new_report("sharpness", f"Sharpness of {options.model.name}", conditions, [table], notes)


# ---- measuring


def measure(
    options: Options, partition: "Partition", sources: dict[str, str]
) -> tuple["ScoreTable", Rises, dict[str, Any]]:
    """Scores of all trials, the rises of every source's batches, and the training's settings."""
    from train.augment.features import Augment
    from train.checkpoint import read_checkpoint
    from train.data.cache import build_cache
    from train.data.dataset import Windows
    from train.device import select_device
    from train.evaluate.scorefile import ScoreTable
    from train.evaluate.scoring import score_cache
    from train.progress import Progress

    checkpoint = read_checkpoint(options.model)
    run = replace(checkpoint.settings.run, device=options.device, precision="fp32", threads=options.threads)
    settings = replace(checkpoint.settings, run=run)
    compute, cache = select_device(settings), build_cache(settings.frontend, partition.trials, options.cache)
    model = checkpoint.distillation_model().to(compute.device)
    augment = Augment(settings.augmentation, settings.frontend).to(compute.device).eval()
    table = ScoreTable.of(cache.trials, score_cache(model, augment, cache, settings, compute)[:, -1])
    named = np.array([sources.get(name, "") for name in table.utterance])
    spoof = {name: np.flatnonzero(named == name) for name in sorted(set(named[~table.is_bonafide].tolist()))}
    drawn = draw_batches(np.flatnonzero(table.is_bonafide), spoof, options.batch, options.seed)
    pairs = [(source, clips) for source, batches in drawn.items() for clips in batches]
    few = f"--batch {options.batch}: no source has {options.batch // 2} spoofs; lower it, or change --by"
    require(bool(pairs), few)
    network, windows, rises = model.deployed()[0], Windows(cache), Rises()
    with Progress("sharpness", len(pairs), "batches") as bar:
        for source, clips in pairs:
            batch = windows.read(np.stack([clips, np.zeros_like(clips)], axis=1))
            features, target = augment(batch.features.to(compute.device)), batch.target.to(compute.device)
            rises.setdefault(source, []).append(rise(network, features, target, options))
            bar.advance()
    return table, rises, checkpoint.settings.recipe()


def rise(network: "nn.Module", features: "Tensor", target: "Tensor", options: Options) -> tuple[float, float]:
    """Loss on a batch (batch, 1, bands, frames), (batch,) of 0 and 1, and its rise; the weights are restored."""
    import torch
    from torch.nn.functional import cross_entropy

    from train.losses.sam import ascent, moved

    weights = [weight.requires_grad_() for weight in network.eval().parameters()]
    loss = cross_entropy(network(features), target)
    steps = ascent(weights, torch.autograd.grad(loss, weights), options.rho, options.adaptive)
    with torch.no_grad(), moved(weights, steps):
        return float(loss), float(cross_entropy(network(features), target) - loss)


def draw_batches(bonafide: Indices, spoof: Mapping[str, Indices], size: int, seed: int) -> dict[str, list[Indices]]:
    """Batches of every source, (size,) each: half of it spoof without repetition, half of the bona fide in turn.

    All batches are equally large because sharpness grows as they shrink: sources of many and of few clips could not be
    compared otherwise. A remainder below a batch is not used.
    """
    rng, half, drawn = np.random.default_rng(seed), size // 2, dict[str, list[Indices]]()
    wanted = half * sum(len(clips) // half for clips in spoof.values())
    rounds = max(1, -(-wanted // len(bonafide)))
    real = itertools.chain.from_iterable([rng.permutation(bonafide) for _ in range(rounds)])
    for source, clips in spoof.items():
        fake = rng.permutation(clips)[: len(clips) // half * half].reshape(-1, half)
        drawn[source] = [np.array([*row, *itertools.islice(real, half)]) for row in fake]
    return drawn


# ---- results


def source_table(
    options: Options, table: "ScoreTable", sources: dict[str, str], rises: Rises
) -> tuple[Table, list[str]]:
    """Source by source, and notes, among them the rank correlation of sharpness and EER."""
    from train.evaluate.bootstrap import bootstrap_eer, interval_of
    from train.evaluate.metrics import eer

    named = np.array([sources.get(name, "") for name in table.utterance])
    rows, rng = list[dict[str, Any]](), np.random.default_rng(options.seed)

    def mean(values: list[float]) -> Measured:
        means = rng.choice(values, (options.bootstrap, len(values))).mean(axis=1)
        low, high = interval_of(means) if len(values) > 1 else (None, None)
        return Measured(float(np.mean(values)), low, high, tuple(values))

    for source, found in rises.items():
        bonafide, spoof = table.score[table.is_bonafide], table.score[~table.is_bonafide & (named == source)]
        low, high = bootstrap_eer(bonafide, spoof, options.bootstrap, options.seed)
        rows.append({
            "source": source, "spoofs": len(spoof), "batches": len(found),
            "sharpness": mean([rise for _, rise in found]), "loss": mean([loss for loss, _ in found]),
            "EER": Measured(100 * eer(bonafide, spoof), 100 * low, 100 * high),
        })  # fmt: skip
    about = f"sharpness: rise of the loss at rho = {options.rho:g} up the gradient of batches of {options.batch}."
    heads = "source*; spoofs; batches; sharpness < .4; loss < .3; EER, % < .1"
    notes = ["All sources share the bona fide trials.", "Figures of one corpus do not transfer to another."]
    if left := sorted(set(sources.values()) - set(rises)):
        notes.append(f"left out, with fewer than {options.batch // 2} spoofs: {', '.join(left)}")
    if beyond := [source for source, batches in rises.items() if any(rise < 0 for _, rise in batches)]:
        notes.append(f"--rho {options.rho:g} is too wide: the loss up the gradient is lower in batches of {beyond}")
    value = spearman(*(np.array([row[name].value for row in rows]) for name in ("sharpness", "EER")))
    if len(rows) >= FEWEST_SOURCES and np.isfinite(value):
        notes.append(f"rank correlation (Spearman) of sharpness and EER over sources: {value:.2f}")
    return Table.of("sources", "Source by source", about, heads, rows), notes


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation, equal values sharing their mean rank; NaN where all values of one are equal."""

    ranks = []
    for values in (a, b):
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[place])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if all(map(np.ptp, ranks)) else float("nan")


if __name__ == "__main__":
    run(main)
