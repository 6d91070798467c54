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

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.report import Plot, Report, ReportOptions, new_report, produce
from runtime.card.schema import require
from runtime.support.command import parse, run


@dataclass(frozen=True)
class Options(ReportOptions):
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

    def __post_init__(self) -> None:
        some = bool(self.models or self.peer)
        require(some or bool(self.scores), "MODELS: expected at least one, or a --peer, or score files with --scores")
        require(not some or bool(self.corpus), "--corpus: missing; models and peers need the labelled trials")
        require(bool(self.corpus) or not self.by, "--by: needs --corpus; score files have attacks only")
        require(self.protocol is None or len(self.corpus) == 1, "--protocol: expected with one --corpus")
        self.check_least(bootstrap=0, seed=0, workers=0)

    @property
    def partial_folder(self) -> Path:
        """Scores of a run that was stopped."""
        return self.out.with_name(f"{self.out.name}.partial")


def main() -> None:
    options = parse(Options, "benchmarks.accuracy", __doc__)
    produce(options, "accuracy", partial(measure, options), shown=("systems", "by-part"))
    if options.corpus:  # the run is complete
        for path in options.partial_folder.glob("*.txt"):
            path.unlink()
        with suppress(OSError):  # it holds something else
            options.partial_folder.rmdir()


def measure(options: Options, folder: Path) -> Report:
    """Score all systems, and write their scores and the DET curves to `folder`."""
    from benchmarks.accuracy.systems import all_systems
    from benchmarks.accuracy.tables import Tables
    from benchmarks.accuracy.trials import open_trials
    from benchmarks.report.plots import draw_det
    from train.evaluate.scorefile import read_asv_scores, write_scores
    from train.progress import say

    asv, trials = read_asv_scores(options.asv) if options.asv else None, None
    if options.corpus:
        trials = open_trials(options.corpus, options.partition, options.protocol, options.subset, options.only)
        say(trials.describe())
    systems = all_systems(options, trials)
    tables = Tables(systems, trials, options.bootstrap, options.seed, asv)
    columns = () if trials is None else trials.usual() if options.by is None else options.by
    say(f"tables by {', '.join(columns) or 'attack'}, {options.bootstrap:,} resamples")
    shown = [tables.systems()]
    shown += [tables.differences()] if options.bootstrap and len(systems) > 1 else []
    shown += [*(tables.by(column) for column in columns), tables.attacks()]
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
    for system in systems:
        write_scores(folder / f"{system.file_name}.scores.txt", system.scores)
    draw_det(tables.panels(), folder / "det.png", [system.name for system in systems if system.foreign])
    plot = Plot("det.png", "DET curves on probit axes; the dot is the EER. Dashed: other projects' systems.")
    title = f"Accuracy on {trials.name if trials else 'published scores'}"
    return new_report("accuracy", title, conditions, shown, tables.notes(), [plot])


if __name__ == "__main__":
    run(main)
