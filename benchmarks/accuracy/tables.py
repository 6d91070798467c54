"""Tables and notes of an accuracy report, from the scores of systems on the same trials.

    found = summaries(systems, asv, bootstrap=1000)
    system_table(systems, found), attack_table(systems, found), difference_table(systems, 1000)

Rates are percent here and in the report; train.evaluate has them in 0..1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Cell, Measured, Table
from runtime.card.model_card import ModelCard
from runtime.support.errors import ShrikeError
from train.data.corpus import Partition, find_metadata, read_metadata
from train.evaluate.bootstrap import bootstrap_eer, paired_bootstrap_eer_difference
from train.evaluate.metrics import AsvScores, actual_dcf, cllr, eer
from train.evaluate.scorefile import ScoreTable
from train.evaluate.summary import EvaluationSummary, summarise

FEW = 50  # trials of a class; below, one trial is more than 2 %
PROTOCOL_COLUMNS = ("speaker", "condition", "subset")  # of train.data.protocols.Trial
USUAL = "family"  # column that is shown by default
NOT_LISTED = "(not listed)"  # value of trials without a row in metadata.csv


@dataclass(frozen=True)
class System:
    """A model or a score file, with its scores."""

    name: str
    form: str
    scores: ScoreTable
    card: ModelCard | None = None  # None: its calibration is unknown
    sha256: str = ""  # of a model's file
    left_out: int = 0  # trials of the protocol without a score

    @property
    def calibrated_on(self) -> str | None:
        return self.card.score.fitted_on if self.card else None

    def llrs(self) -> ScoreTable | None:
        """The scores as the card's log-likelihood ratios; None without a fitted map."""
        if self.card is None or self.calibrated_on is None:
            return None
        return replace(self.scores, score=self.card.score.llr(self.scores.score))

    def conditions(self) -> dict[str, Any]:
        of_model = {"sha256": self.sha256, "calibrated on": self.calibrated_on} if self.sha256 else {}
        return {"form": self.form, "trials without a score": self.left_out, **of_model}


def file_name(system: str) -> str:
    """A system's name as the beginning of a file's name."""
    return re.sub(r"[/\\:]", "-", system)


def summaries(
    systems: Sequence[System], asv: AsvScores | None, bootstrap: int, seed: int = 0
) -> list[EvaluationSummary]:
    return [summarise(system.scores, asv, bootstrap, seed) for system in systems]


def percent(rate: float, interval: tuple[float, float] | None) -> Measured:
    return Measured(100 * rate, *(None, None) if interval is None else (100 * interval[0], 100 * interval[1]))


def system_table(systems: Sequence[System], found: Sequence[EvaluationSummary]) -> Table:
    rows: list[dict[str, Cell]] = []
    for system, summary in zip(systems, found, strict=True):
        llrs = system.llrs()
        rows.append({
            "system": system.name, "bona fide": summary.bonafide, "spoof": summary.spoof,
            "EER": percent(summary.eer, summary.eer_interval),
            "min t-DCF 2019": summary.min_tdcf_2019, "min t-DCF 2021": summary.min_tdcf_2021,
            "min DCF": summary.min_dcf, "act DCF": summary.actual_dcf, "Cllr": summary.cllr,
            "act DCF calibrated": actual_dcf(llrs.bonafide, llrs.spoof) if llrs else None,
            "Cllr calibrated": cllr(llrs.bonafide, llrs.spoof) if llrs else None,
        })  # fmt: skip
    columns = (
        "system*; bona fide; spoof; EER, % < .2; min t-DCF 2019 < .4; min t-DCF 2021 < .4; min DCF < .4; "
        "act DCF < .4; Cllr, bit < .4; act DCF calibrated < .4; Cllr calibrated, bit < .4"
    )
    about = (
        "EER with its 95 % interval. Actual DCF and Cllr take raw scores as log-likelihood ratios; the calibrated ones "
        "apply the map in the model's card."
    )
    return Table.of("systems", "Systems", about, columns, rows).without_empty()


def attack_table(systems: Sequence[System], found: Sequence[EvaluationSummary]) -> Table:
    rows: list[dict[str, Cell]] = [
        {"attack": attack.attack, "system": system.name, "spoof": attack.trials,
         "EER": percent(attack.eer, attack.eer_interval), "min t-DCF 2019": attack.min_tdcf_2019,
         "min t-DCF 2021": attack.min_tdcf_2021}
        for system, summary in zip(systems, found, strict=True)
        for attack in summary.attacks
    ]  # fmt: skip
    rows.sort(key=lambda row: str(row["attack"]))
    columns = "attack*; system*; spoof; EER, % < .2; min t-DCF 2019 < .4; min t-DCF 2021 < .4"
    about = "Each attack's spoofs against all bona fide trials; t-DCF with the speaker verification's errors on it."
    return Table.of("attacks", "Per attack", about, columns, rows).without_empty()


def difference_table(systems: Sequence[System], bootstrap: int, seed: int = 0) -> Table:
    """Every other system against the first, on the trials that both scored."""
    first, *others = systems
    rows: list[dict[str, Cell]] = []
    for other in others:
        a, b, keys = common(other, first)
        rise, low, high = paired_bootstrap_eer_difference(a, b, keys, bootstrap, seed)
        rows.append({
            "system": other.name, "against": first.name, "trials": len(keys),
            "EER change": Measured(100 * rise, 100 * low, 100 * high),
            "correlation": float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else None,
            "significant": "better" if high < 0 else "worse" if low > 0 else "no",
        })  # fmt: skip
    columns = "system*; against; trials; EER change, % < .2; correlation > .5; significant"
    about = (
        "EER minus the first system's, absolute, by a paired bootstrap on the same trials; significant where the 95 % "
        "interval excludes zero. correlation: of both systems' scores."
    )
    return Table.of("differences", f"Against {first.name}", about, columns, rows)


def common(one: System, other: System) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of both and the keys, on the utterances that both have."""
    _, here, there = np.intersect1d(one.scores.utterance, other.scores.utterance, return_indices=True)
    keys = one.scores.is_bonafide[here]
    if not keys.any() or keys.all():
        raise ShrikeError(
            f"{one.name} and {other.name}: {len(keys)} common trials, expected both classes among them; "
            "give systems that scored the same list, or leave the comparison out with --bootstrap 0"
        )
    if (keys != other.scores.is_bonafide[there]).any():
        raise ShrikeError(f"{one.name} and {other.name}: keys of the same trials differ; correct the score files")
    return one.scores.score[here], other.scores.score[there], keys


# ---- by a column


def usual_columns(partition: Partition) -> tuple[str, ...]:
    """Columns that are shown by default."""
    if find_metadata(partition) is None:
        return ()
    _, columns, _ = read_metadata(partition)
    return (USUAL,) if USUAL in columns else ()


def column_of(partition: Partition, utterances: Sequence[str], column: str) -> NDArray[np.str_]:
    """A column's value of each utterance, (n,), by metadata.csv or else the protocol."""
    known: tuple[str, ...] = PROTOCOL_COLUMNS
    if find_metadata(partition) is not None:
        _, columns, rows = read_metadata(partition)
        if column in columns:
            return np.array([rows[name][column] if name in rows else NOT_LISTED for name in utterances])
        known = (*columns, *PROTOCOL_COLUMNS)
    if column not in PROTOCOL_COLUMNS:
        raise ShrikeError(f"--by {column}: unknown column; expected one of {', '.join(known)}")
    of_trial = {trial.utterance: getattr(trial, column) for trial in partition.trials}
    return np.array([of_trial[name] for name in utterances])


def column_table(systems: Sequence[System], partition: Partition, column: str, bootstrap: int, seed: int = 0) -> Table:
    """By a column of metadata.csv or of the protocol.

    A column that only spoofs have (family: bona fide clips have `-`) is read as attacks are: the spoofs of a value
    against all bona fide trials. A column of both classes (mp3, language) is read within: both classes of that value.
    """
    heading = f"{column} of the trial" if column in ("system", "bona fide", "spoof", "EER") else column
    rows: list[dict[str, Cell]] = []
    within = False
    for system in systems:
        table = system.scores
        values = column_of(partition, table.utterance.tolist(), column)
        spoofed = set(values[~table.is_bonafide].tolist())
        within = bool(set(values[table.is_bonafide].tolist()) & spoofed - {NOT_LISTED})
        for value in sorted(set(values.tolist()) if within else spoofed):
            mine = values == value
            bonafide = table.score[table.is_bonafide & mine] if within else table.bonafide
            spoof = table.score[~table.is_bonafide & mine]
            rate = eer(bonafide, spoof) if len(bonafide) and len(spoof) else None
            interval = bootstrap_eer(bonafide, spoof, bootstrap, seed) if bootstrap and rate is not None else None
            rows.append({
                heading: value or "(empty)", "system": system.name, "bona fide": len(bonafide), "spoof": len(spoof),
                "EER": None if rate is None else percent(rate, interval),
            })  # fmt: skip
    rows.sort(key=lambda row: str(row[heading]))
    about = "Trials of this value alone." if within else "Spoofs of this value against all bona fide trials."
    columns = f"{heading}*; system*; bona fide; spoof; EER, % < .2"
    name = "by-" + "".join(sign if sign.isalnum() else "-" for sign in column.lower())
    return Table.of(name, f"By {column}", about, columns, rows)


def notes(systems: Sequence[System], found: Sequence[EvaluationSummary], bootstrap: int) -> list[str]:
    texts = ["Figures of one corpus do not transfer to another."]
    if bootstrap:
        texts.append("Intervals take trials as independent; several clips of one speaker make the truth wider.")
    for system, summary in zip(systems, found, strict=True):
        if summary.eer > 0.5:
            hint = "check the model's labels" if system.sha256 else f"--flip {system.name}"
            texts.append(f"{system.name}: EER {summary.eer:.1%} is above 50 %; its scores may be inverted: {hint}")
        if min(summary.bonafide, summary.spoof) < FEW:
            texts.append(f"{system.name}: only {summary.bonafide} bona fide and {summary.spoof} spoofed trials.")
        if system.left_out:
            texts.append(f"{system.name}: {system.left_out:,} trials of the protocol have no score; see its log.")
        if system.card is not None and system.calibrated_on is None:
            texts.append(f"{system.name}: not calibrated; its card's map is the identity.")
        if system.calibrated_on:
            texts.append(f"{system.name}: calibrated on {system.calibrated_on}; its Cllr is optimistic there.")
    return texts
