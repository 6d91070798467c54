"""Order of training clips: natural, balanced over classes or over sources, and pairs of an original and its copy.

    sampling = Sampling("balanced-sources", groups=groups(partition, cache.trials), pairs=None)
    plan = training_plan(cache, batch, seed, epoch, sampling)       # (batches, batch, 2): clip and first frame

With pairs, half of each batch are originals and copies, cropped alike, and the other half follows the sampling:

    | originals (batch / 4) | their copies, same crops (batch / 4) | clips in the sampling's order (batch / 2) |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from train.data.cache import Cache
from train.data.corpus import Partition, find_metadata, read_metadata
from train.data.folds import sources
from train.data.protocols import Trial

Clips = NDArray[np.int64]


@dataclass(frozen=True)
class Sampling:
    """The rule by which an epoch draws its clips; groups and pairs only as far as it needs them."""

    kind: Literal["natural", "balanced", "balanced-sources"] = "natural"
    groups: Clips | None = None  # (clips,) a number for each source or system
    pairs: Clips | None = None  # (n, 2): clip of an original, clip of a copy

    def order(self, labels: Clips, rng: np.random.Generator) -> Clips:
        """Draw about as many clips as there are."""
        if self.kind == "natural":
            return rng.permutation(len(labels))
        # Half from each class; the rarer one is repeated, in a new order each time.
        half, classes = len(labels) // 2, [np.flatnonzero(labels == kind) for kind in (0, 1)]
        if self.kind == "balanced":
            drawn = [_drawn(clips, half, rng) for clips in classes]
        else:
            assert self.groups is not None
            drawn = [_drawn_evenly(clips, self.groups[clips], half, rng) for clips in classes]
        return np.stack(drawn, axis=1).ravel()


def training_plan(
    cache: Cache, batch: int, seed: int, epoch: int, sampling: Sampling | None = None, rank: int = 0, world: int = 1
) -> Clips:
    """Draw an epoch: clip and first frame of every row of every batch, (batches, batch, 2), in random order.

    An incomplete last batch is dropped. `batch` counts over all processes; each takes its columns of the same plan.
    """
    rng, sampling = np.random.default_rng([seed, epoch]), sampling or Sampling()
    lengths, width = cache.lengths, cache.frontend.width
    order = sampling.order(cache.labels, rng)
    batch = min(batch, len(order))
    batches, pairs = len(order) // batch, 0
    if sampling.pairs is not None:
        pairs = batch // 4 // world * world  # so that original and copy are columns of one process
    rest = batch - 2 * pairs
    clips = order[: batches * rest].reshape(batches, rest)
    if sampling.pairs is not None:
        drawn = sampling.pairs[_drawn(np.arange(len(sampling.pairs)), batches * pairs, rng)].reshape(batches, pairs, 2)
        clips = np.concatenate([drawn[:, :, 0], drawn[:, :, 1], clips], axis=1)
    room = np.where(lengths >= width, lengths - width + 1, lengths)[clips]  # a short clip's repetition starts anywhere
    share = rng.random(clips.size).reshape(clips.shape)
    share[:, pairs : 2 * pairs] = share[:, :pairs]
    owner = np.arange(clips.shape[1])
    if sampling.kind != "natural" and rest % (2 * world) == 0:
        owner[2 * pairs :] = np.arange(rest) // 2  # neighbours are of both classes, for one process
    return np.stack([clips, (share * room).astype(np.int64)], axis=2)[:, owner % world == rank]


def _drawn(clips: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rounds = -(-count // len(clips))
    return np.concatenate([rng.permutation(clips) for _ in range(rounds)])[:count]


def _drawn_evenly(clips: Clips, groups: Clips, count: int, rng: np.random.Generator) -> Clips:
    """Draw a clip of every group, in random order, again and again."""
    members = [clips[groups == group] for group in np.unique(groups)]
    rounds = -(-count // len(members))
    table = np.stack([_drawn(part, rounds, rng) for part in members])  # (groups, rounds)
    drawn: Clips = rng.permuted(table, axis=0).T.ravel()[:count]
    return drawn


def groups(partition: Partition, trials: Sequence[Trial]) -> Clips:
    """Number the groups that balanced-sources draws equally: sources of bona fide clips, systems of spoofs."""
    source = {
        trial.utterance: f"from {source}" if trial.bonafide else f"by {trial.attack}"
        for trial, source in zip(partition.trials, sources(partition), strict=True)
    }
    return np.unique([source[trial.utterance] for trial in trials], return_inverse=True)[1].astype(np.int64)


def pairs(partition: Partition, trials: Sequence[Trial]) -> Clips:
    """Find copies with their originals: spoofs whose original_path in metadata.csv is a bona fide clip's name."""
    rows = read_metadata(partition)[2] if find_metadata(partition) is not None else {}
    place = {trial.utterance: number for number, trial in enumerate(trials) if trial.bonafide}
    originals = [place.get(rows.get(trial.utterance, {}).get("original_path", "")) for trial in trials]
    found = [
        (original, number)
        for number, (trial, original) in enumerate(zip(trials, originals, strict=True))
        if original is not None and not trial.bonafide
    ]
    return np.array(found, np.int64).reshape(-1, 2)
