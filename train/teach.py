"""Make soft labels: every training clip is scored by models that were trained without its source.

python -m train.teach runs/windowed/model.pt --folds 5 --out runs/soft
python -m train.teach runs/seed0/model.pt runs/encoder/model.pt --out runs/soft
python -m train.teach runs/fold-*/model.pt --out runs/soft

A checkpoint names a teacher: its configuration is trained once per fold (--leave-out), and each model scores the fold
that it left out. Checkpoints that were trained with --leave-out are used as they are; they must cover all folds. Scores
become log-likelihood ratios, fitted on all clips of a teacher, and several teachers are averaged. Writes
soft-labels.json for python -m train --soft-labels. Repeat the command to continue.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from runtime.support.command import PATHS, parse, run
from runtime.support.config_file import find_options, to_words
from runtime.support.errors import ShrikeError
from train.config import TrainConfig, read_fold

FILE = "soft-labels.json"

Ratios = dict[str, float]  # by utterance


@dataclass(frozen=True)
class Options:
    """Make soft labels of training clips by teachers that were trained without the clips' sources."""

    models: tyro.conf.Positional[Annotated[tuple, PATHS]]
    """Checkpoints model.pt of python -m train, one or several teachers."""
    out: Path = Path("runs/soft")
    """Folder of soft-labels.json and of the runs per fold."""
    folds: int = 5
    """Folds by source: a teacher's configuration is trained so many times."""
    windows: Literal["first", "mean"] = "mean"
    """mean: a clip's score is the mean over windows that overlap by half. first: its first window."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 0
    """CPU threads of the network; 0 leaves PyTorch's choice."""


def main() -> None:
    options = parse(Options, "train.teach", __doc__)
    if not options.models:
        raise ShrikeError("expected a checkpoint, as in python -m train.teach runs/model/model.pt")
    if options.folds < 2:
        raise ShrikeError(f"--folds {options.folds}: expected at least 2")
    from train.losses.soft_labels import write_soft_labels
    from train.progress import say

    teachers = [fold_models(paths, options) for paths in group(options.models)]
    facts, ratios = [], list[Ratios]()
    for models in teachers:
        made, fact = teach(models, options)
        say(f"{fact['name']}: EER {100 * fact['eer']:.2f} % on {len(made):,} clips of folds that it had not seen")
        ratios.append(made)
        facts.append(fact)
    if odd := {name for made in ratios for name in made.keys() ^ ratios[0].keys()}:
        raise ShrikeError(f"{len(odd):,} clips have no score of some teacher; train all teachers on the same trials")
    mean = {name: sum(made[name] for made in ratios) / len(ratios) for name in ratios[0]}
    write_soft_labels(options.out / FILE, mean, facts)
    print(options.out / FILE)


def group(paths: tuple[Path, ...]) -> list[list[Path]]:
    """Group checkpoints by their options apart from the fold: each group is a teacher."""
    from train.checkpoint import read_checkpoint

    groups: dict[str, list[Path]] = {}
    for path in paths:
        settings = read_checkpoint(path).settings
        recipe = {**settings.recipe(), "leave_out": bool(settings.data.leave_out)}
        groups.setdefault(json.dumps(recipe, sort_keys=True), []).append(path)
    return list(groups.values())


def fold_models(paths: list[Path], options: Options) -> list[Path]:
    """Return a teacher's checkpoints, one for each fold; train those that are missing."""
    from train.checkpoint import read_checkpoint

    settings = read_checkpoint(paths[0]).settings
    if not settings.data.leave_out:
        if len(paths) > 1:
            raise ShrikeError(f"{paths[1]}: has the options of {paths[0]}; expected another teacher")
        return [train_fold(settings, paths[0], number + 1, options) for number in range(options.folds)]
    folds = sorted(fold for path in paths if (fold := read_fold(read_checkpoint(path).settings.data.leave_out)))
    count = folds[0][1]
    if folds != [(number + 1, count) for number in range(count)]:
        found = ", ".join(f"{number}/{of}" for number, of in folds)
        raise ShrikeError(f"{paths[0]} and others leave out {found}; expected each of {count} folds once")
    return paths


def train_fold(settings: TrainConfig, path: Path, number: int, options: Options) -> Path:
    """Train a configuration without a fold, in a process of its own; a complete run only checks itself."""
    out = options.out / f"{path.absolute().parent.name}-{number}-of-{options.folds}"
    here = replace(settings.run, out=out, resume=True, device=options.device, threads=options.threads)
    data = replace(settings.data, leave_out=f"{number}/{options.folds}")
    done = subprocess.run(
        [sys.executable, "-m", "train", *command_line(replace(settings, data=data, run=here))], stdout=2
    )
    if done.returncode:
        raise ShrikeError(
            f"fold {number} of {path} ended with exit code {done.returncode}; repeat the command to continue"
        )
    return out / "model.pt"


def command_line(settings: TrainConfig) -> list[str]:
    """Return the command line of python -m train with these settings."""
    values = {name: value for part in settings.to_dict().values() for name, value in part.items()}
    words = list[str]()
    for option in find_options(TrainConfig):
        value = values[option.name.replace("-", "_")]
        if value is not None:
            words += to_words(option, value, "settings")
        elif option.default is not None:
            raise ShrikeError(f"--{option.name} None: cannot be trained again by a command; expected {option.default}")
    return words


def teach(paths: list[Path], options: Options) -> tuple[Ratios, Mapping[str, Any]]:
    """Score every fold by the model that left it out; return the ratios of all clips, and facts about the teacher."""
    import numpy as np

    from runtime.card.checksums import sha256_file
    from train.evaluate.calibration import fit_llr
    from train.evaluate.metrics import eer

    names, parts = list[str](), list[Any]()
    for path in paths:
        trials, scores = score_fold(path, options)
        names += [trial.utterance for trial in trials]
        parts.append(np.stack([scores, [trial.bonafide is True for trial in trials]]))
    scores, labels = np.concatenate(parts, axis=1)
    assert len(set(names)) == len(names), "folds overlap"
    scale, offset = fit_llr(scores, labels.astype(np.int64))
    if scale <= 0:
        raise ShrikeError(f"{paths[0]} and its other folds are no better than chance on clips that they had not seen")
    facts = {
        "name": paths[0].absolute().parent.name,
        "folds": len(paths),
        "eer": float(eer(scores[labels == 1], scores[labels == 0])),
        "files": [sha256_file(path) for path in paths],
    }
    return dict(zip(names, (scale * scores + offset).tolist(), strict=True)), facts


def score_fold(path: Path, options: Options) -> tuple[list[Any], Any]:
    """Score the clips of the fold that a checkpoint left out: its trials and (n,) scores."""
    from train.checkpoint import read_checkpoint
    from train.data.corpora import open_corpora
    from train.data.folds import leave_out
    from train.evaluate.scoring import score_trials

    checkpoint = read_checkpoint(path)
    data = checkpoint.settings.data
    everything = open_corpora(data.corpus, "train", data.train_protocol, data.only)
    rest, fold = leave_out(everything, data.leave_out)
    if rest.identity() != checkpoint.corpus["train"]:
        where = ", ".join(map(str, data.corpus))
        raise ShrikeError(f"{path}: {where} has other training trials than when it was trained; train it again")
    here = replace(checkpoint.settings.run, device=options.device, threads=options.threads)
    trials, scores = score_trials(checkpoint, fold.trials, here, data.cache, options.windows == "mean")
    return trials, scores[:, -1]


if __name__ == "__main__":
    run(main)
