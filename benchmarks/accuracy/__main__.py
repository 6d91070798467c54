"""Accuracy of models of any form on labelled corpora, beside other detectors and published systems, in one report.

    python -m benchmarks.accuracy accurate edge --corpus ../shared/corpus ../shared/asvspoof --partition eval
    python -m benchmarks.accuracy accurate --peer aasist.onnx rawnet2.onnx --corpus ../shared/corpus
    python -m benchmarks.accuracy f0 --corpus /data/ASVspoof2019/LA --partition eval --asv ASV_SCORES.txt
    python -m benchmarks.accuracy runs/a/model.pt runs/a/model.onnx --corpus ../shared/corpus --by family mp3
    python -m benchmarks.accuracy --scores published/*.txt.gz --asv ASV_SCORES.txt.gz --flip resnet18-lfcc-ocsoftmax

EER, min t-DCF, DCF, Cllr actual and min, and real voices called spoof, per attack and per column, with intervals by a
bootstrap over sources, differences to the first system, score files and DET curves. What a card does not calibrate is
calibrated on dev. A stopped run resumes when it is called again. docs/accuracy.md describes the columns.
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
    from benchmarks.accuracy.tables import LlrMap, System
    from benchmarks.accuracy.trials import TrialList
    from train.data.cache import Cache


@dataclass(frozen=True)
class Options:
    """Measure the accuracy of models and peers over corpora, or of systems by their score files."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """model.pt, model.onnx, model.engine, accurate, edge or f0; the first is the reference."""
    corpus: tuple[Path, ...] = ()
    """Folders of corpora, as for python -m train; needed for models, peers and --by."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Protocol of each corpus."""
    protocol: Path | None = None
    """Protocol file to use instead of the corpus's own."""
    subset: tuple[Literal["progress", "eval", "hidden"], ...] = ("eval",)
    """Subsets of ASVspoof 2021's protocols; the official figures are of eval alone."""
    only: str = ""
    """Select trials by columns of metadata.csv, as open=1; a corpus without these columns is used whole."""
    exit: int | None = None
    """Exit of checkpoints, 1 is the shallowest; by default the last one, the whole network."""
    windows: Literal["first", "mean"] = "first"
    """first: the first window, as published. mean: mean over windows that overlap by half. Peers have the first."""
    peer: tuple[Path, ...] = ()
    """Other projects' detectors as ONNX files: a waveform in, scores (batch, 2) of spoof and bona fide, or one, out."""
    peer_input: str = "waveform:64600"
    """Input of the peers: so many samples at 16 kHz, to which a clip is cut or repeated."""
    scores: tuple[Path, ...] = ()
    """Score files of other systems, lines `UTTERANCE ATTACK KEY SCORE`, plain or .gz."""
    flip: tuple[str, ...] = ()
    """Names of peers and of systems of --scores to multiply by -1, because higher means spoof there."""
    asv: Path | None = None
    """The organisers' speaker-verification scores, for min t-DCF; skipped among --scores."""
    by: tuple[str, ...] | None = None
    """Columns to split by: part, a column of metadata.csv, speaker, condition, subset; default: the usual ones."""
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
        some = bool(self.models or self.peer)
        require(some or bool(self.scores), "MODELS: expected at least one, or a --peer, or score files with --scores")
        require(not some or bool(self.corpus), "--corpus: missing; models and peers need the labelled trials")
        require(bool(self.corpus) or not self.by, "--by: needs --corpus; score files have attacks only")
        require(self.protocol is None or len(self.corpus) == 1, "--protocol: expected with one --corpus")
        require(self.bootstrap >= 0, f"--bootstrap {self.bootstrap}: expected 0 or more")
        require(self.seed >= 0, f"--seed {self.seed}: expected 0 or more")
        require(self.workers >= 0, f"--workers {self.workers}: expected 0 or more")


def main() -> None:
    options = parse(Options, "benchmarks.accuracy", __doc__)
    from benchmarks.accuracy.tables import System, Tables, file_name
    from benchmarks.accuracy.trials import open_trials
    from benchmarks.host import describe
    from benchmarks.report import Plot, check_place, finish, new_report, report_folder, write_report
    from benchmarks.report.plots import draw_det
    from train.evaluate.scorefile import read_asv_scores, write_scores
    from train.progress import say

    check_place(options.out, options.overwrite)
    asv, trials, systems = read_asv_scores(options.asv) if options.asv else None, None, list[System]()
    if options.corpus:
        trials = open_trials(options.corpus, options.partition, options.protocol, options.subset, options.only)
        say(trials.describe())
        with TemporaryDirectory() as exported:
            systems = score_all(options, trials, Path(exported))
    systems = flip(options, systems + read_systems(options))
    tables = Tables(systems, trials, options.bootstrap, options.seed, asv)
    columns = () if trials is None else trials.usual() if options.by is None else options.by
    say(f"tables by {', '.join(columns) or 'attack'}, {options.bootstrap:,} resamples")
    shown = [tables.systems(), *(tables.by(column) for column in columns)]
    if options.bootstrap and len(systems) > 1:
        shown.insert(1, tables.differences())
    shown.append(tables.attacks())
    conditions: dict[str, Any] = {"bootstrap": options.bootstrap, "seed": options.seed, "windows": options.windows}
    if trials is not None:
        conditions |= {"corpora": [part.root.name for part in trials.partitions], "only": options.only}
        conditions |= {"protocols": [part.protocol.name for part in trials.partitions]}
        conditions |= {"trials": trials.describe(), "trials sha256": trials.identity()}
    conditions["speaker verification"] = options.asv.name if options.asv else None
    conditions["systems"] = {
        s.name: {"form": s.form, "sha256": s.sha256, "calibrated on": s.llr_map and s.llr_map.fitted_on,
                 "left out": s.left_out, "training": s.training}
        for s in systems
    }  # fmt: skip
    with report_folder(options.out, options.overwrite) as folder:
        for system in systems:
            write_scores(folder / f"{file_name(system.name)}.scores.txt", system.scores)
        dashed = [system.name for system in systems if system.peer or not system.sha256]
        draw_det(tables.panels(), folder / "det.png", dashed)
        plot = Plot("det.png", "DET curves on probit axes; the dot is the EER. Dashed: other projects' systems.")
        title = f"Accuracy on {trials.name if trials else 'published scores'}"
        report = new_report("accuracy", title, describe(), conditions, shown, tables.notes(), [plot])
        write_report(folder, report)
    for path in partial_folder(options).glob("*.txt") if options.corpus else ():  # the run is complete
        path.unlink()
    if options.corpus and partial_folder(options).is_dir() and not os.listdir(partial_folder(options)):
        partial_folder(options).rmdir()
    finish(report, options.out, hidden=[table.name for table in shown[1:] if table.name != "by-part"])


def score_all(options: Options, trials: "TrialList", folder: Path) -> "list[System]":
    """Every model and peer over the trials; checkpoints are exported to `folder`, scores of a stopped run are used."""
    import onnxruntime

    from benchmarks.accuracy.peers import PeerScorer, open_peer, parse_input
    from benchmarks.accuracy.scoring import ModelScorer
    from benchmarks.accuracy.tables import LlrMap, System
    from benchmarks.cases import resolve
    from runtime.audio.features import PRESETS
    from runtime.card.checksums import sha256_file
    from runtime.card.model_card import read_card
    from train.checkpoint import read_checkpoint
    from train.data.cache import build_cache, build_sound_cache
    from train.data.processes import cores

    jobs, systems, size = options.workers or cores(), list[System](), parse_input(options.peer_input)
    names = labels([*options.models, *map(str, options.peer)])
    for path in options.peer:  # fail before anything takes long
        open_peer(path, size)
    engine = f"ONNX Runtime {onnxruntime.__version__}"
    for number, (name, label) in enumerate(zip(options.models, names, strict=False)):
        checkpoint = name.endswith(".pt")
        require(
            checkpoint or options.exit is None, f"--exit {options.exit}: expected a checkpoint; {name} has one exit"
        )
        (subject,) = resolve(name, ("float",), folder / str(number), exit=options.exit)
        form = f"checkpoint, exit {options.exit or 'last'}" if checkpoint else subject.form
        form += "" if subject.form.startswith("TensorRT") else f", {engine}"
        sha256, card = sha256_file(Path(name) if checkpoint else subject.path), read_card(subject.path)

        def scorer(listed: "TrialList", subject: Any = subject) -> ModelScorer:
            cache = build_cache(subject.frontend, listed.trials, options.cache, jobs)
            return ModelScorer(subject, cache, options.windows == "mean")

        fitted = card.score
        known = None if fitted.fitted_on is None else LlrMap(fitted.scale, fitted.offset, fitted.fitted_on, fitted.sure)
        training = (
            read_checkpoint(Path(name)).settings.recipe() if checkpoint else card.training and card.training.settings
        )
        systems.append(score_one(options, trials, label, form, sha256, scorer, known, training or {}))
    for path, label in zip(options.peer, names[len(options.models) :], strict=True):

        def sounds(listed: "TrialList", path: Path = path) -> PeerScorer:
            return PeerScorer(path, size, build_sound_cache(PRESETS["wide"], listed.trials, options.cache, jobs))

        form = f"{options.peer_input}, {engine}"
        systems.append(replace(score_one(options, trials, label, form, sha256_file(path), sounds), peer=True))
    return systems


def score_one(
    options: Options, trials: "TrialList", label: str, form: str, sha256: str, scorer: Any,
    known: "LlrMap | None" = None, training: dict[str, Any] | None = None,
) -> "System":  # fmt: skip
    """Score the trials, and dev where the scores are not calibrated. `scorer`: a function from trials."""
    from benchmarks.accuracy.scoring import score_trials
    from benchmarks.accuracy.tables import LlrMap, System, file_name
    from benchmarks.accuracy.trials import open_trials
    from train.data.processes import cores
    from train.evaluate.calibration import fit_llr
    from train.evaluate.scorefile import ScoreTable

    def scores_of(listed: "TrialList", suffix: str) -> tuple[ScoreTable, int]:
        opened = scorer(listed)
        cache: Cache = opened.cache
        bound_to = {"model": sha256, "form": form, "trials": listed.identity(), "features": cache.identity,
                    "windows": options.windows}  # fmt: skip
        file = partial_folder(options) / f"{file_name(label)}{suffix}.txt"
        found = score_trials(f"{label}{suffix}", opened, file, bound_to, options.workers or cores())
        return ScoreTable.of(cache.trials, found), listed.missing + len(cache.skipped)

    table, left_out = scores_of(trials, "")
    if known is None:
        dev, tuning = trials, table
        if options.partition != "dev" and options.protocol is None:
            dev = open_trials(options.corpus, "dev", only=options.only)
            tuning = scores_of(dev, ".dev")[0]
        fitted = fit_llr(tuning.score, tuning.is_bonafide.astype(int))
        known = LlrMap(*fitted, dev.name)
    return System(label, form, table, known, sha256, left_out, training=training or {})


def read_systems(options: Options) -> "list[System]":
    """Systems of score files."""
    from benchmarks.accuracy.tables import System
    from train.evaluate.scorefile import read_scores

    paths = [path for path in options.scores if not (options.asv and path.exists() and path.samefile(options.asv))]
    require(bool(paths) or not options.scores, f"--scores: only the file of --asv {options.asv}; expected the systems'")
    names = labels([re.sub(r"(\.(gz|txt|tsv|scores))+$", "", str(path)) for path in paths])
    return [System(name, "score file", read_scores(path)) for name, path in zip(names, paths, strict=True)]


def flip(options: Options, systems: "list[System]") -> "list[System]":
    """The systems, those of --flip with negated scores."""
    from benchmarks.accuracy.tables import flipped

    others = [system.name for system in systems if system.peer or not system.sha256]
    for name in options.flip:
        known = ", ".join(others) or "none"
        require(name in others, f"--flip {name}: not among --scores and --peer; expected one of {known}")
    return [flipped(system) if system.name in options.flip else system for system in systems]


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
