"""Several corpora as one partition.

    partition = open_corpora(["../shared/corpus", "../shared/asvspoof"], "train", only="open=1")

Each corpus has its own protocols. A selection applies to the corpora whose metadata.csv has its columns; the others
take part whole. No utterance may have the same name in two corpora. A corpus without a dev protocol, as one of vocoded
copies, trains only.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runtime.support.errors import ShrikeError
from train.data.corpus import Partition, find_metadata, open_corpus, read_metadata, select
from train.data.corpus_index import CorpusIndex, first_few
from train.data.selection import read_selection


def open_corpora(
    roots: Sequence[str | os.PathLike[str] | CorpusIndex], partition: str, protocol: Path | None = None, only: str = ""
) -> Partition:
    """Open a partition of one or several corpora. A protocol given counts for a single corpus."""
    if protocol is not None and len(roots) > 1:
        raise ShrikeError(f"{protocol}: expected one corpus for a protocol of its own, not {len(roots)}")
    trees = [root if isinstance(root, CorpusIndex) else CorpusIndex(root) for root in roots]
    if len(trees) == 1:
        return select(open_corpus(trees[0], partition, protocol), only)
    found = [open_corpus(tree, partition) for tree in trees if partition == "train" or tree.protocols[partition]]
    if not found:
        raise ShrikeError(f"none of {len(trees)} corpora has a {partition} protocol; expected one in at least one")
    return join([select(part, only) if has_columns(part, only) else part for part in found], only)


def has_columns(partition: Partition, only: str) -> bool:
    """True if the partition's metadata.csv has all columns of a selection."""
    wanted = read_selection(only)
    return bool(wanted) and find_metadata(partition) is not None and wanted.keys() <= set(read_metadata(partition)[1])


def join(parts: Sequence[Partition], only: str = "") -> Partition:
    """Join partitions of several corpora; `only` must have selected in one of them."""
    if only and not any(part.selection for part in parts):
        raise ShrikeError(f"--only {only}: expected these columns in the metadata.csv of at least one corpus")
    trials = tuple(trial for part in parts for trial in part.trials)
    names = [trial.utterance for trial in trials]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < 10_000 else ["some"]
        raise ShrikeError(f"several corpora have the same utterances: {first_few(twice)}; leave one of the corpora out")
    missing = tuple(name for part in parts for name in part.missing)
    selection = next((part.selection for part in parts if part.selection), "")
    return replace(parts[0], trials=trials, missing=missing, selection=selection, parts=tuple(parts))
