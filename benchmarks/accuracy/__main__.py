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

from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

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
    exit: int = 4
    """Exit of checkpoints: 4 is the whole network, 1 to 3 its shallow stages."""
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


def main() -> None:
    options = parse(Options, "benchmarks.accuracy", __doc__)
    check(options)
    from benchmarks.accuracy import tables
    from benchmarks.host import describe
    from benchmarks.report import Plot, check_place, finish, new_report, report_folder, write_report
    from benchmarks.report.plots import draw_det
    from train.evaluate.scorefile import read_asv_scores, write_scores

    check_place(options.out, options.overwrite)
    asv = read_asv_scores(options.asv) if options.asv else None
    with TemporaryDirectory() as exported:
        systems, partition = score_models(options, Path(exported))
    systems += read_systems(options)
    found = tables.summaries(systems, asv, options.bootstrap, options.seed)
    shown = [tables.system_table(systems, found)]
    if options.bootstrap and len(systems) > 1:
        shown.append(tables.difference_table(systems, options.bootstrap, options.seed))
    shown.append(tables.attack_table(systems, found))
    if partition is not None:
        listed = {trial.utterance for trial in partition.trials}
        there = [system for system in systems if listed.issuperset(system.scores.utterance.tolist())]
        columns = tables.usual_columns(partition) if options.by is None else options.by
        for column in columns if there else ():
            shown.append(tables.column_table(there, partition, column, options.bootstrap, options.seed))
    name = f"{partition.name} of {partition.root.name}" if partition is not None else "published scores"
    with report_folder(options.out, options.overwrite) as folder:
        for system in systems:
            write_scores(folder / f"{tables.file_name(system.name)}.scores.txt", system.scores)
        draw_det({system.name: system.scores for system in systems}, folder / "det.png")
        report = new_report(
            "accuracy", f"Accuracy on {name}", describe(), conditions(options, systems, partition), shown,
            tables.notes(systems, found, options.bootstrap),
            [Plot("det.png", "DET curves on probit axes; the dot is the EER.")],
        )  # fmt: skip
        write_report(folder, report)
    discard_partial(options)
    finish(report, options.out, hidden=[table.name for table in shown[1:]])


def check(options: Options) -> None:
    """Validate options before anything is computed."""
    for holds, message in [
        (bool(options.models or options.scores), "MODELS: expected at least one, or score files with --scores"),
        (not options.models or options.corpus is not None, "--corpus: missing; models need the labelled trials"),
        (options.corpus is not None or not options.by, "--by: needs --corpus; score files have attacks only"),
        (options.bootstrap >= 0, f"--bootstrap {options.bootstrap}: expected 0 or more"),
        (options.seed >= 0, f"--seed {options.seed}: expected 0 or more"),
        (options.workers >= 0, f"--workers {options.workers}: expected 0 or more"),
    ]:
        if not holds:
            raise ShrikeError(message)


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

    partition = open_corpus(options.corpus, options.partition, options.protocol, options.subset)
    partition = select(partition, options.only)
    say(partition.describe())
    if not partition.bonafide or not partition.spoof or partition.unlabelled:
        raise ShrikeError(
            f"{partition.protocol}: expected bona fide and spoofed trials, all labelled; python -m train.score scores "
            "any list"
        )
    jobs, systems = options.workers or cores(), []
    for number, (name, label) in enumerate(zip(options.models, labels(options.models), strict=True)):
        checkpoint = name.endswith(".pt")
        if options.exit != 4 and not checkpoint:
            raise ShrikeError(
                f"--exit {options.exit}: only checkpoints have several exits; {name} was exported with one"
            )
        (subject,) = resolve(name, ("float",), folder / str(number), exit=options.exit)
        subject = replace(subject, model=label)
        cache = build_cache(subject.frontend, partition.trials, options.cache, jobs)
        form = f"checkpoint, exit {options.exit}" if checkpoint else subject.form
        form += "" if subject.form.startswith("TensorRT") else f", ONNX Runtime {onnxruntime.__version__}"
        sha256 = sha256_file(Path(name) if checkpoint else subject.path)
        bound_to = {"model": sha256, "form": form, "trials": partition.identity(), "features": cache.identity,
                    "windows": options.windows}  # fmt: skip
        scores = score_trials(subject, cache, partial_folder(options) / f"{file_name(label)}.txt", bound_to, jobs)
        missing = len(partition.missing) + len(cache.skipped)
        card = None if checkpoint else read_card(subject.path)
        systems.append(System(label, form, ScoreTable.of(cache.trials, scores), card, sha256, missing))
    return systems, partition


def read_systems(options: Options) -> "list[System]":
    """Systems of score files."""
    from benchmarks.accuracy.tables import System
    from train.evaluate.scorefile import read_scores

    paths = [path for path in options.scores if not (options.asv and path.exists() and path.samefile(options.asv))]
    if options.scores and not paths:
        raise ShrikeError(f"--scores {options.scores[0]}: it is the file of --asv; give the systems' own scores")
    names = labels([re.sub(r"(\.(gz|txt|tsv|scores))+$", "", str(path)) for path in paths])
    if unknown := sorted(set(options.flip) - set(names)):
        raise ShrikeError(f"--flip {unknown[0]}: not among --scores; expected one of {', '.join(names) or 'none'}")
    tables = {name: read_scores(path) for name, path in zip(names, paths, strict=True)}
    return [
        System(name, "score file, flipped" if name in options.flip else "score file",
               table.flipped() if name in options.flip else table)
        for name, table in tables.items()
    ]  # fmt: skip


def labels(names: Sequence[str]) -> list[str]:
    """Short names for models: the shortest differing ends of their paths, and never just model.pt."""
    parts = [Path(name).parts for name in names]
    shown = []
    for mine in parts:
        least = 2 if Path(mine[-1]).stem == "model" else 1
        ends = (n for n in range(least, len(mine)) if [other[-n:] for other in parts].count(mine[-n:]) == 1)
        shown.append("/".join(part for part in mine[-next(ends, len(mine)) :] if part != "/"))
    return shown


def conditions(options: Options, systems: "list[System]", partition: "Partition | None") -> dict[str, Any]:
    found: dict[str, Any] = {}
    if partition is not None:
        found = {
            "corpus": partition.root.name, "protocol": partition.protocol.name, "trials": partition.describe(),
            "trials sha256": partition.identity(), "windows": options.windows,
        }  # fmt: skip
    found |= {"bootstrap": options.bootstrap, "seed": options.seed}
    if options.asv:
        found["speaker verification"] = options.asv.name
    return found | {"systems": {system.name: system.conditions() for system in systems}}


def partial_folder(options: Options) -> Path:
    return options.out.with_name(f"{options.out.name}.partial")


def discard_partial(options: Options) -> None:
    """Delete the partial scores of a finished run."""
    if options.models:
        for path in partial_folder(options).glob("*.txt"):
            path.unlink()
        if not os.listdir(partial_folder(options)):
            partial_folder(options).rmdir()


if __name__ == "__main__":
    run(main)
