"""Tables and notes of an accuracy report, from the scores of systems on the same trials.

    found = [summarise(system.scores, asv) for system in systems]
    system_table(systems, found), attack_table(systems, found), difference_table(systems, 1000)

Rates are percent here and in the report; train.evaluate has them in 0..1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Cell, Measured, Table
from runtime.card.model_card import ModelCard
from runtime.support.errors import ShrikeError
from train.data.corpus import Partition, find_metadata, read_metadata
from train.evaluate.bootstrap import bootstrap_eer, paired_bootstrap_eer_difference
from train.evaluate.metrics import actual_dcf, cllr, eer
from train.evaluate.scorefile import ScoreTable
from train.evaluate.summary import EvaluationSummary

FEW = 50  # trials of a class; below, one trial is more than 2 %
PROTOCOL_COLUMNS = ("speaker", "condition", "subset")  # of train.data.protocols.Trial
NOT_LISTED = "(not listed)"  # value of trials without a row in metadata.csv
Summaries = Sequence[EvaluationSummary]


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


def file_name(system: str) -> str:
    """A system's name as the beginning of a file's name."""
    return re.sub(r"[/\\:]", "-", system)


def percent(rate: float, interval: tuple[float, float] | None) -> Measured:
    return Measured(100 * rate, *(None, None) if interval is None else (100 * interval[0], 100 * interval[1]))


def system_table(systems: Sequence[System], found: Summaries) -> Table:
    rows: list[dict[str, Cell]] = []
    for system, summary in zip(systems, found, strict=True):
        row: dict[str, Cell] = {
            "system": system.name, "bona fide": summary.bonafide, "spoof": summary.spoof,
            "EER": percent(summary.eer, summary.eer_interval), "min t-DCF 2019": summary.min_tdcf_2019,
            "min t-DCF 2021": summary.min_tdcf_2021, "min DCF": summary.min_dcf, "act DCF": summary.actual_dcf,
            "Cllr": summary.cllr,
        }  # fmt: skip
        if system.card is not None and system.calibrated_on is not None:
            llrs = replace(system.scores, score=system.card.score.llr(system.scores.score))
            row["act DCF calibrated"] = actual_dcf(llrs.bonafide, llrs.spoof)
            row["Cllr calibrated"] = cllr(llrs.bonafide, llrs.spoof)
        rows.append(row)
    columns = (
        "system*; bona fide; spoof; EER, % < .2; min t-DCF 2019 < .4; min t-DCF 2021 < .4; min DCF < .4; act DCF < .4; "
        "Cllr, bit < .4; act DCF calibrated < .4; Cllr calibrated, bit < .4"
    )
    about = (
        "EER with 95 % interval. act DCF, Cllr: of raw scores as LLRs; calibrated: after the map in the model's card."
    )
    return Table.of("systems", "Systems", about, columns, rows).without_empty()


def attack_table(systems: Sequence[System], found: Summaries) -> Table:
    rows: list[dict[str, Cell]] = [
        {"attack": attack.attack, "system": system.name, "spoof": attack.trials,
         "EER": percent(attack.eer, attack.eer_interval), "min t-DCF 2019": attack.min_tdcf_2019,
         "min t-DCF 2021": attack.min_tdcf_2021}
        for system, summary in zip(systems, found, strict=True)
        for attack in summary.attacks
    ]  # fmt: skip
    rows.sort(key=lambda row: str(row["attack"]))
    about = "Each attack's spoofs against all bona fide trials; t-DCF with the speaker verification's errors on it."
    columns = "attack*; system*; spoof; EER, % < .2; min t-DCF 2019 < .4; min t-DCF 2021 < .4"
    return Table.of("attacks", "Per attack", about, columns, rows).without_empty()


def difference_table(systems: Sequence[System], bootstrap: int, seed: int = 0) -> Table:
    """Every other system against the first, on the trials that both scored."""
    first, *others = systems
    rows: list[dict[str, Cell]] = []
    for other in others:
        _, here, there = np.intersect1d(other.scores.utterance, first.scores.utterance, return_indices=True)
        keys, a, b = other.scores.is_bonafide[here], other.scores.score[here], first.scores.score[there]
        if not keys.any() or keys.all() or (keys != first.scores.is_bonafide[there]).any():
            raise ShrikeError(
                f"{other.name} and {first.name}: {len(keys)} common trials; expected both classes and equal keys; give "
                "systems that scored the same list, or leave the comparison out with --bootstrap 0"
            )
        rise, low, high = paired_bootstrap_eer_difference(a, b, keys, bootstrap, seed)
        rows.append({
            "system": other.name, "against": first.name, "trials": len(keys),
            "EER change": Measured(100 * rise, 100 * low, 100 * high),
            "correlation": float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else None,
            "significant": "better" if high < 0 else "worse" if low > 0 else "no",
        })  # fmt: skip
    about = (
        "EER minus the first system's by a paired bootstrap on the same trials. correlation: of both systems' scores."
    )
    columns = "system*; against; trials; EER change, % < .2; correlation > .5; significant"
    return Table.of("differences", f"Against {first.name}", about, columns, rows)


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
        for value in set(values.tolist()) if within else spoofed:
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
    name = "by-" + re.sub(r"[^a-z0-9]", "-", column.lower())
    return Table.of(name, f"By {column}", about, f"{heading}*; system*; bona fide; spoof; EER, % < .2", rows)


def notes(systems: Sequence[System], found: Summaries) -> list[str]:
    texts = ["Figures of one corpus do not transfer to another."]
    texts.append("Intervals take trials as independent; several clips of one speaker make the truth wider.")
    for system, summary in zip(systems, found, strict=True):
        hint = "check the model's labels" if system.sha256 else f"--flip {system.name}"
        for holds, text in (
            (summary.eer > 0.5, f"EER {summary.eer:.1%} is above 50 %; its scores may be inverted: {hint}"),
            (
                min(summary.bonafide, summary.spoof) < FEW,
                f"few trials: {summary.bonafide} bona fide, {summary.spoof} spoof",
            ),
            (system.left_out > 0, f"{system.left_out:,} trials of the protocol have no score; see its log"),
            (system.card is not None and not system.calibrated_on, "not calibrated; its card's map is the identity"),
            (bool(system.calibrated_on), f"calibrated on {system.calibrated_on}; its Cllr is optimistic there"),
        ):
            texts += [f"{system.name}: {text}."] if holds else []
    return texts
