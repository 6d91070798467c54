"""Tables and notes of an accuracy report, from the scores of systems on the same trials.

Rates are percent here and in the report; train.evaluate has them in 0..1. Intervals at 95 % resample sources.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.systems import System
from benchmarks.accuracy.trials import FEWEST, NOT_LISTED, TrialList, draws
from benchmarks.report import Cell, Measured, Table
from benchmarks.report.schema import columns
from runtime.card.model_card import SURE
from runtime.support.errors import ShrikeError
from train.evaluate.bootstrap import interval_of, resampled_eers, weighted_eers
from train.evaluate.metrics import AsvScores, Bools, Floats, actual_dcf, cllr, eer, min_cllr, ranking
from train.evaluate.scorefile import ScoreTable
from train.evaluate.summary import EvaluationSummary, summarise

FEW = 50  # trials of a class; below, one trial is more than 2 %
MEASURES = (
    "bona fide; spoof; sources; EER, % < .2; Cllr calibrated, bit < .3; min Cllr, bit < .3; Cllr / min < .2; "
    "real called spoof, % < .2; spoof called spoof, % > .1"
)

Rows = list[dict[str, Cell]]


@dataclass(frozen=True)
class Tables:
    """The tables of a report."""

    of: Sequence[System]
    trials: TrialList | None = None
    bootstrap: int = 1000
    seed: int = 0
    asv: AsvScores | None = None

    @cached_property
    def summaries(self) -> list[EvaluationSummary]:
        return [summarise(system.scores, self.asv, 0) for system in self.of]

    # ---- measures of one system on some of its trials

    def column(self, system: System, name: str) -> NDArray[np.str_] | None:
        """A column of each trial; None where a trial is in none of the corpora."""
        utterances = system.scores.utterance.tolist()
        within = self.trials is not None and self.trials.rows.keys() >= set(utterances)
        return self.trials.column(utterances, name) if self.trials is not None and within else None

    def measure(self, system: System, mine: Bools | slice = slice(None)) -> dict[str, Cell]:
        """The cells of MEASURES; None where a class is missing or nothing is calibrated."""
        keys, scores, fitted = system.scores.is_bonafide[mine], system.scores.score[mine], system.llr_map
        sources, llrs = self.column(system, "source"), None if system.llrs is None else system.llrs[mine]
        sources = None if sources is None else sources[mine]
        both, called = bool(keys.any() and not keys.all()), np.zeros(keys.size, bool)
        row: dict[str, Cell] = {"bona fide": int(keys.sum()), "spoof": int((~keys).sum())}
        row["sources"] = None if sources is None else len(set(sources.tolist()))
        if fitted is not None and llrs is not None:
            called = fitted.calls_spoof(llrs)
            if both:
                actual, least = cllr(llrs[keys], llrs[~keys]), min_cllr(llrs[keys], llrs[~keys])
                row |= {"Cllr calibrated": actual, "min Cllr": least, "Cllr / min": actual / least if least else None}
        classes = {name: of_class for name, of_class in (("real", keys), ("spoof", ~keys)) if of_class.any()}
        found: dict[str, list[Floats]] = {"EER": [], "real": [], "spoof": []}
        order = ranking(scores, keys)
        if sources is None and self.bootstrap:  # the same by clips, in a time that hardly grows with their number
            dice = np.random.default_rng(self.seed)
            found["EER"] += [resampled_eers(keys[order], self.bootstrap, self.seed)] if both else []
            for name, of_class in classes.items():
                count = int(of_class.sum())
                found[name].append(dice.binomial(count, called[of_class].mean(), self.bootstrap) / count)
        for drawn in draws(keys, sources, self.bootstrap, self.seed) if sources is not None and keys.size else ():
            found["EER"] += [weighted_eers(keys[order], drawn[:, order])] if both else []
            for name, of_class in classes.items():
                counts = drawn[:, of_class]
                found[name].append((counts * called[of_class]).sum(axis=1) / counts.sum(axis=1))
        if both:
            row["EER"] = _percent(eer(scores[keys], scores[~keys]), found["EER"])
        for name, of_class in classes.items() if fitted is not None else ():
            row[f"{name} called spoof"] = _percent(float(called[of_class].mean()), found[name])
        return row

    def panels(self) -> dict[str, dict[str, ScoreTable]]:
        """Scores for DET curves: by part where the corpora have several, else all."""
        found: dict[str, dict[str, ScoreTable]] = {}
        for system in self.of:
            parts = self.column(system, "part")
            parts = np.full(system.scores.score.size, "all trials") if parts is None else parts
            for part in sorted(set(parts.tolist())):
                mine = ScoreTable(*(values[parts == part] for values in vars(system.scores).values()))
                if mine.is_bonafide.any() and not mine.is_bonafide.all():
                    found.setdefault(part, {})[system.name] = mine
        return found

    # ---- tables

    def systems(self) -> Table:
        rows = Rows()
        for system, summary in zip(self.of, self.summaries, strict=True):
            llrs, keys = system.llrs, system.scores.is_bonafide
            rows.append({
                "system": system.name, "min t-DCF 2019": summary.min_tdcf_2019,
                "min t-DCF 2021": summary.min_tdcf_2021, "min DCF": summary.min_dcf, "act DCF": summary.actual_dcf,
                "Cllr": summary.cllr, **self.measure(system),
                "act DCF calibrated": None if llrs is None else actual_dcf(llrs[keys], llrs[~keys]),
            })  # fmt: skip
        heads = (
            f"system*; {MEASURES}; min t-DCF 2019 < .4; min t-DCF 2021 < .4; min DCF < .4; act DCF < .4; "
            "Cllr, bit < .4; act DCF calibrated < .4"
        )
        about = (
            "act DCF, Cllr: of raw scores as LLRs; calibrated: after the card's map, or one fitted on dev. called "
            f"spoof: P(spoof) of the calibrated score reaches the card's operating point ({SURE:g} without one)."
        )
        return _table("systems", "Systems", about, heads, rows)

    def attacks(self) -> Table:
        rows = Rows()
        for system, summary in zip(self.of, self.summaries, strict=True):
            for attack in summary.attacks:
                mine = self._against(system, ~system.scores.is_bonafide & (system.scores.attack == attack.attack))
                rows.append({
                    "attack": attack.attack, "system": system.name, "min t-DCF 2019": attack.min_tdcf_2019,
                    "min t-DCF 2021": attack.min_tdcf_2021, **self.measure(system, mine),
                })  # fmt: skip
        about = "Each attack's spoofs against all bona fide trials; t-DCF with the speaker verification's errors on it."
        shown = "spoof; sources; EER, % < .2; spoof called spoof, % > .1; min t-DCF 2019 < .4; min t-DCF 2021 < .4"
        return _table("attacks", "Per attack", about, f"attack*; system*; {shown}", _sorted(rows, "attack"))

    def differences(self) -> Table:
        """Every other system against the first, on the trials that both scored."""
        first, *others = self.of
        rows = Rows()
        for other in others:
            _, here, there = np.intersect1d(other.scores.utterance, first.scores.utterance, return_indices=True)
            keys, a, b = other.scores.is_bonafide[here], other.scores.score[here], first.scores.score[there]
            if not keys.any() or keys.all() or (keys != first.scores.is_bonafide[there]).any():
                raise ShrikeError(
                    f"{other.name} and {first.name}: {len(keys)} common trials; expected both classes and equal keys; "
                    "give systems that scored the same list, or leave the comparison out with --bootstrap 0"
                )
            sources = self.column(other, "source")
            orders, found = [ranking(scores, keys) for scores in (a, b)], list[Floats]()
            for drawn in draws(keys, None if sources is None else sources[here], self.bootstrap, self.seed):
                of_a, of_b = (weighted_eers(keys[order], drawn[:, order]) for order in orders)
                found.append(of_a - of_b)
            change = _percent(eer(a[keys], a[~keys]) - eer(b[keys], b[~keys]), found)
            assert change.low is not None and change.high is not None, "the table is left out without a bootstrap"
            rows.append({
                "system": other.name, "against": first.name, "trials": len(keys), "EER change": change,
                "correlation": float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else None,
                "significant": "better" if change.high < 0 else "worse" if change.low > 0 else "no",
            })  # fmt: skip
        about = "EER minus the first system's, by a paired bootstrap on the same trials. correlation: of both scores."
        heads = "system*; against; trials; EER change, % < .2; correlation > .5; significant"
        return Table.of("differences", f"Against {first.name}", about, heads, rows)

    def by(self, column: str) -> Table:
        """By a column of metadata.csv or of the protocol, or by part.

        A column that only spoofs have (family: bona fide clips have `-`) is read as attacks are: the spoofs of a value
        against all bona fide trials of their corpora. A column of both classes is read within: the trials of a value.
        """
        taken = {"system", *(found.name for found in columns(MEASURES))}
        heading = f"{column} of the trial" if column in taken else column
        rows, within = Rows(), False
        for system in self.of:
            if (values := self.column(system, column)) is None:
                continue
            keys = system.scores.is_bonafide
            spoofed = set(values[~keys].tolist())
            within = bool(set(values[keys].tolist()) & spoofed - {NOT_LISTED})
            for value in set(values.tolist()) if within else spoofed:
                mine = values == value if within else self._against(system, ~keys & (values == value))
                rows.append({heading: value or "(empty)", "system": system.name, **self.measure(system, mine)})
        about = "Trials of this value alone." if within else "Spoofs of this value against all bona fide trials."
        name = "by-" + re.sub(r"[^a-z0-9]", "-", column.lower())
        return _table(name, f"By {column}", about, f"{heading}*; system*; {MEASURES}", _sorted(rows, heading))

    def _against(self, system: System, spoof: Bools) -> Bools:
        """These spoofs and all bona fide trials of their corpora."""
        keys, corpora = system.scores.is_bonafide, self.column(system, "corpus")
        return spoof | (keys if corpora is None else keys & np.isin(corpora, corpora[spoof]))

    def notes(self) -> list[str]:
        texts = ["Figures of one corpus do not transfer to another."]
        texts.append(
            f"Intervals resample sources (metadata.csv), of a class from fewer than {FEWEST} sources and of trials "
            "outside the corpora clips, which is too narrow where clips of one speaker are alike."
        )
        for system, summary in zip(self.of, self.summaries, strict=True):
            hint = f"--flip {system.name}" if system.foreign else "check the model's labels"
            fitted, few = system.llr_map, min(summary.bonafide, summary.spoof) < FEW
            for holds, text in (
                (summary.eer > 0.5, f"EER {summary.eer:.1%} is above 50 %; its scores may be inverted: {hint}"),
                (few, f"few trials: {summary.bonafide} bona fide, {summary.spoof} spoof"),
                (system.left_out > 0, f"{system.left_out:,} trials of the protocol have no score; see its log"),
                (fitted is not None, f"calibrated on {fitted and fitted.fitted_on}; its Cllr is optimistic there"),
                (fitted is not None and fitted.scale <= 0, "no better than a constant where it was calibrated"),
            ):
                texts += [f"{system.name}: {text}."] if holds else []
        return texts


def _percent(rate: float, resampled: list[Floats]) -> Measured:
    values = np.concatenate(resampled) if resampled else np.empty(0)
    low, high = interval_of(100 * values) if values.size else (None, None)
    return Measured(100 * rate, low, high)


def _sorted(rows: Rows, column: str) -> Rows:
    return sorted(rows, key=lambda row: str(row[column]))


def _table(name: str, title: str, about: str, heads: str, rows: Rows) -> Table:
    """A table of those cells that have a column."""
    names = {column.name for column in columns(heads)}
    shown = [{key: cell for key, cell in row.items() if key in names} for row in rows]
    return Table.of(name, title, about, heads, shown).without_empty()
