"""Print one protocol of several corpora's trials, so that a model trains on all of them.

    python -m scripts.join_protocols train ../shared/corpus:open=1 ../shared/asvspoof > runs/train.txt
    python -m train --corpus ../shared --train-protocol runs/train.txt --dev-protocol runs/dev.txt

Behind a colon stand the columns of that corpus's metadata.csv that trials need, as for --only of train. --corpus is
then a folder that holds all of them; no two of them may have an utterance of the same name.
"""

from dataclasses import dataclass
from typing import Literal

import tyro

from runtime.support.command import parse, run

KEYS = {True: "bonafide", False: "spoof"}


@dataclass(frozen=True)
class Options:
    """Join protocols of several corpora."""

    partition: tyro.conf.Positional[Literal["train", "dev"]]
    """Which of their protocols."""
    corpora: tyro.conf.Positional[tuple[str, ...]]
    """Folders of corpora, each alone or with a selection, as in FOLDER:open=1."""


def main() -> None:
    options = parse(Options, "scripts.join_protocols", __doc__)
    from train.data.corpus import open_corpus, select
    from train.progress import say

    for corpus in options.corpora:
        folder, _, only = corpus.partition(":")
        partition = select(open_corpus(folder, options.partition), only)
        say(f"{folder}: {partition.describe()}")
        for trial in partition.trials:
            assert trial.bonafide is not None, "train and dev have labels"
            print(trial.speaker, trial.utterance, "-", trial.attack, KEYS[trial.bonafide])


if __name__ == "__main__":
    run(main)
