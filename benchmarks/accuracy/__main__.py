"""Accuracy of models of any form on a labelled corpus, beside published systems, in one report.

    python -m benchmarks.accuracy f0 wide --corpus /data/ASVspoof2019/LA --partition eval --asv ASV_SCORES.txt
    python -m benchmarks.accuracy runs/a/model.pt runs/a/model.onnx --corpus ../shared/corpus --by family mp3
    python -m benchmarks.accuracy --scores published/*.txt.gz --asv ASV_SCORES.txt.gz --flip resnet18-lfcc-ocsoftmax

EER, min t-DCF (2019 and 2021), min and actual DCF, Cllr raw and calibrated, per attack and per column, with bootstrap
intervals, differences to the first system, score files and DET curves. A stopped run resumes when it is called again.
docs/accuracy.md describes the columns.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import tyro

from runtime.card.schema import require
from runtime.support.command import parse, run

if TYPE_CHECKING:
    from benchmarks.accuracy.tables import System
    from train.data.corpus import Partition


@dataclass(frozen=True)
class Options:
    """Measure the accuracy of models over a corpus, or of systems by their score files."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """model.pt, model.onnx, model.engine, f0 or wide; the first is the reference."""
    corpus: Path | None = None
    """Folder of the corpus, as for python -m train; needed for models and for --by."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Protocol of the corpus."""
    protocol: Path | None = None
    """Protocol file to use instead of the corpus's own."""
    subset: tuple[Literal["progress", "eval", "hidden"], ...] = ("eval",)
    """Subsets of ASVspoof 2021's protocols; the official figures are of eval alone."""
    only: str = ""
    """Select trials by columns of the corpus's metadata.csv, as mp3=0."""
    exit: int | None = None
    """Exit of checkpoints, 1 is the shallowest; by default the last one, the whole network."""
    windows: Literal["first", "mean"] = "first"
    """first: the first 600 frames, as published. mean: mean over windows that overlap by half."""
    scores: tuple[Path, ...] = ()
    """Score files of other systems, lines `UTTERANCE ATTACK KEY SCORE`, plain or .gz."""
    flip: tuple[str, ...] = ()
    """Names of systems of --scores to multiply by -1, because higher means spoof there."""
    asv: Path | None = None
    """The organisers' speaker-verification scores, for min t-DCF; skipped among --scores."""
    by: tuple[str, ...] | None = None
    """Columns to split by: of metadata.csv, or speaker, condition, subset; default: family, if there is one."""
    bootstrap: int = 1000
    """Resamples of every 95 % interval; 0 omits them."""
    seed: int = 0
    """Seed of the resamples."""
    workers: int = 0
    """Processes for features and scores, one thread each; 0: one for each core."""
    cache: Path = Path("~/.cache/shrike")
    """Folder of cached features; safe to delete."""
    out: Path = Path("runs/reports/accuracy")
    """Folder of the report; scores of a stopped run are in OUT.partial."""
    overwrite: bool = False
    """Replace an existing report."""

    def __post_init__(self) -> None:
        require(bool(self.models or self.scores), "MODELS: expected at least one, or score files with --scores")
        require(not self.models or self.corpus is not None, "--corpus: missing; models need the labelled trials")
        require(self.corpus is not None or not self.by, "--by: needs --corpus; score files have attacks only")
        require(self.bootstrap >= 0, f"--bootstrap {self.bootstrap}: expected 0 or more")
        require(self.seed >= 0, f"--seed {self.seed}: expected 0 or more")
        require(self.workers >= 0, f"--workers {self.workers}: expected 0 or more")


def main() -> None:
    options = parse(Options, "benchmarks.accuracy", __doc__)
    from benchmarks.accuracy import tables
    from benchmarks.host import describe
    from benchmarks.report import Plot, check_place, finish, new_report, report_folder, write_report
    from benchmarks.report.plots import draw_det
    from train.data.corpus import find_metadata, read_metadata
    from train.evaluate.scorefile import read_asv_scores, write_scores
    from train.evaluate.summary import summarise

    check_place(options.out, options.overwrite)
    asv = read_asv_scores(options.asv) if options.asv else None
    with TemporaryDirectory() as exported:
        systems, partition = score_models(options, Path(exported))
    systems += read_systems(options)
    found = [summarise(system.scores, asv, options.bootstrap, options.seed) for system in systems]
    shown, name = [tables.system_table(systems, found)], "published scores"
    conditions: dict[str, Any] = {"bootstrap": options.bootstrap, "seed": options.seed, "windows": options.windows}
    if options.bootstrap and len(systems) > 1:
        shown.append(tables.difference_table(systems, options.bootstrap, options.seed))
    shown.append(tables.attack_table(systems, found))
    if partition is not None:
        usual = find_metadata(partition) is not None and "family" in read_metadata(partition)[1]
        listed = {trial.utterance for trial in partition.trials}
        there = [system for system in systems if listed.issuperset(system.scores.utterance.tolist())]
        for column in (("family",) * usual if options.by is None else options.by) if there else ():
            shown.append(tables.column_table(there, partition, column, options.bootstrap, options.seed))
        name = f"{partition.name} of {partition.root.name}"
        conditions |= {"corpus": partition.root.name, "protocol": partition.protocol.name}
        conditions |= {"trials": partition.describe(), "trials sha256": partition.identity()}
    conditions["speaker verification"] = options.asv.name if options.asv else None
    conditions["systems"] = {
        s.name: {"form": s.form, "sha256": s.sha256, "calibrated on": s.calibrated_on, "left out": s.left_out}
        for s in systems
    }
    with report_folder(options.out, options.overwrite) as folder:
        for system in systems:
            write_scores(folder / f"{tables.file_name(system.name)}.scores.txt", system.scores)
        draw_det({system.name: system.scores for system in systems}, folder / "det.png")
        plot = Plot("det.png", "DET curves on probit axes; the dot is the EER.")
        notes = tables.notes(systems, found)
        report = new_report("accuracy", f"Accuracy on {name}", describe(), conditions, shown, notes, [plot])
        write_report(folder, report)
    for path in partial_folder(options).glob("*.txt") if options.models else ():  # the run is complete
        path.unlink()
    if options.models and not os.listdir(partial_folder(options)):
        partial_folder(options).rmdir()
    finish(report, options.out, hidden=[table.name for table in shown[1:]])


def score_models(options: Options, folder: Path) -> "tuple[list[System], Partition | None]":
    """Every model over the partition; checkpoints are exported to `folder`, scores of a stopped run are used."""
    if options.corpus is None:
        return [], None
    import onnxruntime

    from benchmarks.accuracy.scoring import score_trials
    from benchmarks.accuracy.tables import System, file_name
    from benchmarks.cases import resolve
    from runtime.card.checksums import sha256_file
    from runtime.card.model_card import read_card
    from train.data.cache import build_cache
    from train.data.corpus import open_corpus, select
    from train.data.processes import cores
    from train.evaluate.scorefile import ScoreTable
    from train.progress import say

    whole = open_corpus(options.corpus, options.partition, options.protocol, options.subset)
    partition, jobs, systems = select(whole, options.only), options.workers or cores(), list[System]()
    say(partition.describe())
    labelled = bool(partition.bonafide and partition.spoof and not partition.unlabelled)
    require(
        labelled, f"{partition.protocol}: expected both classes, all labelled; python -m train.score scores any list"
    )
    for number, (name, label) in enumerate(zip(options.models, labels(options.models), strict=True)):
        checkpoint = name.endswith(".pt")
        require(
            checkpoint or options.exit is None, f"--exit {options.exit}: expected a checkpoint; {name} has one exit"
        )
        (subject,) = resolve(name, ("float",), folder / str(number), exit=options.exit)
        subject = replace(subject, model=label)
        cache = build_cache(subject.frontend, partition.trials, options.cache, jobs)
        form = f"checkpoint, exit {options.exit or 'last'}" if checkpoint else subject.form
        form += "" if subject.form.startswith("TensorRT") else f", ONNX Runtime {onnxruntime.__version__}"
        sha256 = sha256_file(Path(name) if checkpoint else subject.path)
        bound_to = {"model": sha256, "form": form, "trials": partition.identity(), "features": cache.identity,
                    "windows": options.windows}  # fmt: skip
        scores = score_trials(subject, cache, partial_folder(options) / f"{file_name(label)}.txt", bound_to, jobs)
        card, missing = None if checkpoint else read_card(subject.path), len(partition.missing) + len(cache.skipped)
        systems.append(System(label, form, ScoreTable.of(cache.trials, scores), card, sha256, missing))
    return systems, partition


def read_systems(options: Options) -> "list[System]":
    """Systems of score files."""
    from benchmarks.accuracy.tables import System
    from train.evaluate.scorefile import read_scores

    paths = [path for path in options.scores if not (options.asv and path.exists() and path.samefile(options.asv))]
    require(bool(paths) or not options.scores, f"--scores: only the file of --asv {options.asv}; expected the systems'")
    names = labels([re.sub(r"(\.(gz|txt|tsv|scores))+$", "", str(path)) for path in paths])
    for name in options.flip:
        require(name in names, f"--flip {name}: not among --scores; expected one of {', '.join(names) or 'none'}")
    systems = [System(name, "score file", read_scores(path)) for name, path in zip(names, paths, strict=True)]
    flipped = {s.name: replace(s, form="score file, flipped", scores=s.scores.flipped()) for s in systems}
    return [flipped[system.name] if system.name in options.flip else system for system in systems]


def labels(names: Sequence[str]) -> list[str]:
    """Short names for models: the shortest differing ends of their paths, and never just model.pt."""
    parts, shown = [[part for part in Path(name).parts if part != "/"] for name in names], []
    for mine in parts:
        ends = range(2 if Path(mine[-1]).stem == "model" else 1, len(mine))
        shortest = next((n for n in ends if [other[-n:] for other in parts].count(mine[-n:]) == 1), len(mine))
        shown.append("/".join(mine[-shortest:]))
    return shown


def partial_folder(options: Options) -> Path:
    return options.out.with_name(f"{options.out.name}.partial")


if __name__ == "__main__":
    run(main)
