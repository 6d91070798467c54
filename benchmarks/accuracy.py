"""How accurate models are on a labelled corpus, in one report: whatever form they have, and beside published systems.

    python -m benchmarks.accuracy f0 wide --corpus /data/ASVspoof2019/LA --partition eval --asv ASV_SCORES.txt
    python -m benchmarks.accuracy runs/a/model.pt runs/a/model.onnx --corpus ../shared/corpus --by family mp3
    python -m benchmarks.accuracy --scores published/*.txt.gz --asv ASV_SCORES.txt.gz --flip resnet18-lfcc-ocsoftmax

EER, min t-DCF by the 2019 and the 2021 definition, min and actual DCF, Cllr raw and calibrated, per attack and per
source, with bootstrap intervals and differences to the first system; score files, DET curves, histograms. A run that
was stopped goes on when it is called again. docs/accuracy.md says what the columns mean.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from benchmarks.report import Report
    from benchmarks.systems import System
    from train.data.corpus import Partition
    from train.evaluate.metrics import AsvScores

ENDINGS = (".gz", ".txt", ".tsv", ".scores")  # of a score file, which its system's name does without


@dataclass(frozen=True)
class Options:
    """Measure the accuracy of models over a corpus, or of systems by their score files."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """Each a model.pt, model.onnx, model.engine, or f0 or wide. The others are compared with the first system."""
    corpus: Path | None = None
    """Folder of the corpus, as for python -m train; models need it, and --by does."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Which of its protocols; what you tune on eval will show elsewhere."""
    protocol: Path | None = None
    """A protocol file instead of the corpus's own."""
    subset: tuple[Literal["progress", "eval", "hidden"], ...] = ("eval",)
    """Of ASVspoof 2021's protocols, which subsets; the official figures are of eval alone."""
    only: str = ""
    """Only trials whose row in the corpus's metadata.csv says so, as in mp3=0."""
    exit: int = 4
    """4: the whole network. 1 to 3: what its shallow stages learned from it; of checkpoints."""
    windows: Literal["first", "mean"] = "first"
    """first: the first 600 frames, as published. mean: over windows that overlap by half, to the end of the clip."""
    scores: tuple[Path, ...] = ()
    """Score files of other systems, lines `UTTERANCE ATTACK KEY SCORE`, plain or .gz."""
    flip: tuple[str, ...] = ()
    """Multiply the scores by -1 of these systems of --scores, by name, whose higher scores mean spoof."""
    asv: Path | None = None
    """The organisers' speaker-verification scores, for min t-DCF; among --scores this file counts as no system."""
    by: tuple[str, ...] | None = None
    """Columns of metadata.csv, or speaker, condition, subset, to take apart by; unasked: family, if there is one."""
    bootstrap: int = 1000
    """Resamples behind every 95 % interval; 0 leaves them out."""
    seed: int = 0
    """Everything random follows from it: the resamples."""
    workers: int = 0
    """Processes that compute features and scores, one thread each; 0: as many as there are cores."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept between runs; safe to delete."""
    out: Path = Path("runs/reports/accuracy")
    """Folder of the report. Scores of a run that was stopped wait beside it, in a folder that ends in .partial."""
    overwrite: bool = False
    """Replace the report that stands there."""


def main() -> None:
    options = parse(Options, "benchmarks.accuracy", __doc__)
    check(options)
    from benchmarks.markdown import table_text
    from benchmarks.report import check_place, report_folder, write_report
    from benchmarks.systems import draw
    from train.evaluate.scorefile import read_asv_scores, write_scores
    from train.progress import say

    check_place(options.out, options.overwrite)
    asv = read_asv_scores(options.asv) if options.asv else None
    systems, partition = score_models(options)
    systems += read_systems(options)
    with report_folder(options.out, options.overwrite) as folder:
        for system in systems:
            write_scores(folder / f"{system.file}.scores.txt", system.scores)
        report = make_report(options, systems, partition, asv, draw(systems, folder))
        write_report(folder, report)
    discard_partial(options)
    print(table_text(report.table("systems")))
    for note in report.notes:
        say(f"mind: {note}")
    say(f"the whole report: {options.out / 'report.md'}")


def check(options: Options) -> None:
    """What contradicts itself is said before anything is computed."""
    demands = [
        (bool(options.models or options.scores), "nothing to measure: name models, or score files with --scores"),
        (not options.models or options.corpus is not None, "models need --corpus: the folder of labelled trials"),
        (options.corpus is not None or not options.by, "--by needs --corpus: score files name attacks alone"),
        (options.bootstrap >= 0 and options.seed >= 0, "--bootstrap and --seed: 0 or more was expected"),
        (options.workers >= 0, f"--workers {options.workers}: 0 or more was expected"),
    ]
    for holds, sentence in demands:
        if not holds:
            raise ShrikeError(sentence)


def score_models(options: Options) -> "tuple[list[System], Partition | None]":
    """Every model over the partition; what a stopped run left is not computed again."""
    if options.corpus is None:
        return [], None
    from benchmarks.scoring import binding, find_artefact, labels, score_trials
    from benchmarks.systems import System
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
            "accuracy needs bona fide and spoofed trials, all with labels; python -m train.score writes scores of any"
        )
    jobs, systems = options.workers or cores(), []
    for name, label in zip(options.models, labels(options.models), strict=True):
        artefact = find_artefact(name, options.exit)
        cache = build_cache(artefact.frontend, partition.trials, options.cache, jobs)
        system = System(label, artefact.form, card=artefact.card, sha256=artefact.sha256)
        kept = partial_folder(options) / f"{system.file}.txt"
        bound = binding(artefact, partition, cache, options.windows == "mean")
        scores = score_trials(artefact, cache, kept, bound, jobs, label)
        missing = len(partition.missing) + len(cache.skipped)
        systems.append(system.scored(ScoreTable.of(cache.trials, scores), missing))
    return systems, partition


def read_systems(options: Options) -> "list[System]":
    """Systems that are known by their score files."""
    from benchmarks.scoring import labels
    from benchmarks.systems import System
    from train.evaluate.scorefile import read_scores
    from train.progress import say

    paths = [path for path in options.scores if not (options.asv and path.exists() and path.samefile(options.asv))]
    if options.scores and not paths:
        raise ShrikeError("--scores names only the file that --asv names; give the systems' own scores")
    bare = []
    for path in paths:
        while path.suffix in ENDINGS:
            path = path.with_suffix("")
        bare.append(str(path))
    names = labels(bare)
    if unknown := sorted(set(options.flip) - set(names)):
        raise ShrikeError(f"--flip {unknown[0]}: no such system among --scores; there are {', '.join(names) or 'none'}")
    systems = []
    for path, name in zip(paths, names, strict=True):
        table, flipped = read_scores(path), name in options.flip
        say(f"{name}: {len(table.bonafide):,} bona fide and {len(table.spoof):,} spoofed trials")
        form = "score file, flipped" if flipped else "score file"
        systems.append(System(name, form).scored(table.flipped() if flipped else table, 0))
    return systems


def make_report(
    options: Options,
    systems: "list[System]",
    partition: "Partition | None",
    asv: "AsvScores | None",
    plots: "list[tuple[str, str]]",
) -> "Report":
    from benchmarks.groups import usual_columns
    from benchmarks.host import describe
    from benchmarks.report import Plot, new_report
    from benchmarks.systems import attack_table, difference_table, notes, source_table, summaries, system_table

    found = summaries(systems, asv, options.bootstrap, options.seed)
    tables = [system_table(systems, found)]
    if options.bootstrap and len(systems) > 1:
        tables.append(difference_table(systems, options.bootstrap, options.seed))
    tables.append(attack_table(systems, found))
    if partition is not None:
        listed = {trial.utterance for trial in partition.trials}
        there = [system for system in systems if listed.issuperset(system.scores.utterance.tolist())]
        wanted = usual_columns(partition) if options.by is None else options.by
        for column in wanted if there else ():
            tables.append(source_table(there, partition, column, options.bootstrap, options.seed))
    conditions: dict[str, object] = {}
    if partition is not None:
        conditions = {
            "corpus": partition.root.name,
            "protocol": partition.protocol.name,
            "trials": partition.describe(),
            "trials sha256": partition.identity(),
            "windows": options.windows,
        }
    conditions |= {"bootstrap": options.bootstrap, "seed": options.seed}
    if options.asv:
        conditions["speaker verification"] = options.asv.name
    conditions["systems"] = {system.name: system.conditions() for system in systems}
    what = f"{partition.name} of {partition.root.name}" if partition is not None else "published scores"
    return new_report(
        "accuracy",
        f"Accuracy on {what}",
        describe(),
        conditions,
        tables,
        notes(systems, found, options.bootstrap),
        [Plot(*plot) for plot in plots],
    )


def partial_folder(options: Options) -> Path:
    return options.out.with_name(f"{options.out.name}.partial")


def discard_partial(options: Options) -> None:
    """The report is whole: what was kept for a run that is stopped has served."""
    if options.models:
        for path in partial_folder(options).glob("*.txt"):
            path.unlink()
        if not os.listdir(partial_folder(options)):
            partial_folder(options).rmdir()


if __name__ == "__main__":
    run(main)
