"""Systems side by side: each one's scores, and the tables, notes and plots of an accuracy report made of them.

    systems = [System("f0", "ONNX int8", card=card, sha256=digest).scored(table, left_out=0)]
    found = summaries(systems, asv, bootstrap=1000)
    system_table(systems, found), attack_table(systems, found), difference_table(systems, 1000)

Rates are percent here and in the report, because that is how they are read; train.evaluate has them in 0..1.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.groups import Reading, by_value, column_of, reading_of
from benchmarks.plots import draw_det, draw_histogram
from benchmarks.report import Cell, Column, Measured, Table
from runtime.card.model_card import ModelCard
from runtime.support.errors import ShrikeError
from train.data.corpus import Partition
from train.evaluate.bootstrap import paired_bootstrap_eer_difference
from train.evaluate.metrics import AsvScores, actual_dcf, cllr, eer_threshold
from train.evaluate.scorefile import ScoreTable
from train.evaluate.summary import EvaluationSummary, summarise

FEW = 50  # trials of a class; below, one trial is more than 2 %
SYSTEM = Column("system", key=True)
EER = Column("EER", "%", "lower", digits=2)
COSTS = (
    Column("min t-DCF 2019", better="lower", digits=4),
    Column("min t-DCF 2021", better="lower", digits=4),
)
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class System:
    """A model or a score file, by the scores it gave."""

    name: str
    form: str  # in words, with what ran it
    card: ModelCard | None = None  # None: nothing is known of its calibration
    sha256: str = ""  # of a model's file
    table: ScoreTable | None = None
    left_out: int = 0  # trials of the protocol without a score

    def scored(self, table: ScoreTable, left_out: int) -> "System":
        return dataclasses.replace(self, table=table, left_out=left_out)

    @property
    def scores(self) -> ScoreTable:
        assert self.table is not None, f"{self.name} was not scored"
        return self.table

    @property
    def file(self) -> str:
        """The name as the beginning of a file's."""
        return self.name.replace("/", "-").replace("\\", "-").replace(":", "-")

    @property
    def calibrated_on(self) -> str | None:
        return self.card.score.fitted_on if self.card else None

    def llrs(self) -> ScoreTable | None:
        """The scores as the card's log-likelihood ratios; None where no map was fitted."""
        if self.card is None or self.calibrated_on is None:
            return None
        return dataclasses.replace(self.scores, score=self.card.score.llr(self.scores.score))

    def conditions(self) -> dict[str, object]:
        said: dict[str, object] = {"form": self.form, "trials without a score": self.left_out}
        if self.sha256:
            said |= {"sha256": self.sha256, "calibrated on": self.calibrated_on}
        return said


def summaries(
    systems: Sequence[System], asv: AsvScores | None, bootstrap: int, seed: int = 0
) -> list[EvaluationSummary]:
    return [summarise(system.scores, asv, bootstrap, seed) for system in systems]


def percent(rate: float, interval: Interval) -> Measured:
    return Measured(100 * rate, *(None, None) if interval is None else (100 * interval[0], 100 * interval[1]))


# ---- tables ----------------------------------------------------------------------------------------------------------


def system_table(systems: Sequence[System], found: Sequence[EvaluationSummary]) -> Table:
    rows: list[dict[str, Cell]] = []
    for system, summary in zip(systems, found, strict=True):
        llrs = system.llrs()
        rows.append({
            "system": system.name,
            "bona fide": summary.bonafide,
            "spoof": summary.spoof,
            "EER": percent(summary.eer, summary.eer_interval),
            "min t-DCF 2019": summary.min_tdcf_2019,
            "min t-DCF 2021": summary.min_tdcf_2021,
            "min DCF": summary.min_dcf,
            "act DCF": summary.actual_dcf,
            "Cllr": summary.cllr,
            "act DCF calibrated": actual_dcf(llrs.bonafide, llrs.spoof) if llrs else None,
            "Cllr calibrated": cllr(llrs.bonafide, llrs.spoof) if llrs else None,
        })  # fmt: skip
    columns = (
        SYSTEM,
        Column("bona fide"),
        Column("spoof"),
        EER,
        *COSTS,
        Column("min DCF", better="lower", digits=4),
        Column("act DCF", better="lower", digits=4),
        Column("Cllr", "bit", "lower", digits=4),
        Column("act DCF calibrated", better="lower", digits=4),
        Column("Cllr calibrated", "bit", "lower", digits=4),
    )
    about = (
        "EER with its 95 % interval. Actual DCF and Cllr take scores as log-likelihood ratios: raw as they came, "
        "calibrated by the map in the model's card."
    )
    return Table.of("systems", "Systems", about, columns, rows).without_empty()


def attack_table(systems: Sequence[System], found: Sequence[EvaluationSummary]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "attack": attack.attack,
            "system": system.name,
            "spoof": attack.trials,
            "EER": percent(attack.eer, attack.eer_interval),
            "min t-DCF 2019": attack.min_tdcf_2019,
            "min t-DCF 2021": attack.min_tdcf_2021,
        }
        for system, summary in zip(systems, found, strict=True)
        for attack in summary.attacks
    ]
    rows.sort(key=lambda row: str(row["attack"]))  # stable: systems stay in their order, side by side
    columns = (Column("attack", key=True), SYSTEM, Column("spoof"), EER, *COSTS)
    about = "Each attack's trials against all bona fide ones"
    about += "; t-DCF with the speaker verification's errors on it." if any(f.min_tdcf_2019 for f in found) else "."
    return Table.of("attacks", "Per attack", about, columns, rows).without_empty()


def source_table(systems: Sequence[System], partition: Partition, column: str, bootstrap: int, seed: int = 0) -> Table:
    """By a column of metadata.csv or of the protocol."""
    heading = f"{column} of the trial" if column in ("system", "bona fide", "spoof", "EER") else column
    rows: list[dict[str, Cell]] = []
    reading: Reading = "within"
    for system in systems:
        values = column_of(partition, system.scores.utterance.tolist(), column)
        reading = reading_of(system.scores, values)
        rows += [
            {
                heading: group.value or "(empty)",
                "system": system.name,
                "bona fide": group.bonafide,
                "spoof": group.spoof,
                "EER": None if group.eer is None else percent(group.eer, group.interval),
            }
            for group in by_value(system.scores, values, bootstrap, seed)
        ]
    about = {
        "within": "Bona fide and spoofed trials of this value alone.",
        "against all bona fide": "Spoofs of this value against all bona fide trials.",
    }[reading]
    rows.sort(key=lambda row: str(row[heading]))
    columns = (Column(heading, key=True), SYSTEM, Column("bona fide"), Column("spoof"), EER)
    name = "by-" + "".join(sign if sign.isalnum() else "-" for sign in column.lower())
    return Table.of(name, f"By {column}", about, columns, rows)


def difference_table(systems: Sequence[System], bootstrap: int, seed: int = 0) -> Table:
    """Every other system against the first, on the trials that both scored."""
    first, *others = systems
    rows: list[dict[str, Cell]] = []
    for other in others:
        a, b, keys = common(other, first)
        rise, low, high = paired_bootstrap_eer_difference(a, b, keys, bootstrap, seed)
        rows.append({
            "system": other.name,
            "against": first.name,
            "trials": len(keys),
            "EER change": Measured(100 * rise, 100 * low, 100 * high),
            "correlation": float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else None,
            "told apart": "better" if high < 0 else "worse" if low > 0 else "no",
        })  # fmt: skip
    columns = (
        SYSTEM,
        Column("against"),
        Column("trials"),
        Column("EER change", "%", "lower", digits=2),
        Column("correlation", better="higher", digits=5),
        Column("told apart"),
    )
    about = (
        "EER minus the first system's, absolute, by a paired bootstrap: both see the same resampled trials. They are "
        "told apart where the 95 % interval leaves out zero. Correlation is that of their scores."
    )
    return Table.of("differences", f"Against {first.name}", about, columns, rows)


def common(one: System, other: System) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of both and the keys, on the utterances that both have."""
    _, here, there = np.intersect1d(one.scores.utterance, other.scores.utterance, return_indices=True)
    keys = one.scores.is_bonafide[here]
    if not keys.any() or keys.all():
        raise ShrikeError(
            f"{one.name} and {other.name} have {len(keys)} trials in common, but both classes were expected there; "
            "give systems that scored the same list, or --bootstrap 0 to leave the comparison out"
        )
    if (keys != other.scores.is_bonafide[there]).any():
        raise ShrikeError(f"{one.name} and {other.name} disagree about which trials are bona fide; mend the keys")
    return one.scores.score[here], other.scores.score[there], keys


# ---- what a reader must know, and see --------------------------------------------------------------------------------


def notes(systems: Sequence[System], found: Sequence[EvaluationSummary], bootstrap: int) -> list[str]:
    said = ["Figures of one corpus do not carry over to another: neither from ASVspoof nor to it."]
    if bootstrap:
        said.append("Intervals take trials as independent; several clips of a speaker or system make the truth wider.")
    for system, summary in zip(systems, found, strict=True):
        if summary.eer > 0.5:
            hint = (
                f"--flip {system.name}" if not system.sha256 else "--flip is for score files; check the model's labels"
            )
            said.append(
                f"{system.name} has an EER of {summary.eer:.1%}, above 50 %: scores may run the other way: {hint}"
            )
        if min(summary.bonafide, summary.spoof) < FEW:
            said.append(
                f"{system.name}: {summary.bonafide} bona fide and {summary.spoof} spoofed trials resolve little."
            )
        if system.left_out:
            said.append(f"{system.name} gave no score to {system.left_out:,} trials of the protocol; see its log.")
        if system.card is not None and system.calibrated_on is None:
            said.append(f"{system.name} was never calibrated: its card's map is the identity.")
        if system.calibrated_on:
            said.append(f"{system.name} was calibrated on {system.calibrated_on}: on those trials its Cllr flatters.")
    return said


def draw(systems: Sequence[System], folder: Path) -> list[tuple[str, str]]:
    """Plots into the folder; file and caption of each."""
    draw_det({system.name: system.scores for system in systems}, folder / "det.png")
    drawn = [("det.png", "DET curves on probit axes; the dot is the EER.")]
    for system in systems:
        table, unit = system.scores, "raw score"
        if system.card is not None and system.calibrated_on:
            threshold = system.card.score.threshold
        else:
            _, threshold = eer_threshold(table.bonafide, table.spoof)
        file = f"scores-{system.file}.png"
        draw_histogram(table, folder / file, system.name, unit, threshold)
        which = "the card's" if system.calibrated_on else "that of the EER"
        drawn.append((file, f"Scores of {system.name} by class; the threshold is {which}."))
    return drawn
