"""Summary of a score file: EER, min t-DCF, DCF and Cllr, pooled and per attack. Rates are fractions.

summary = summarise(read_scores("scores.txt"), read_asv_scores(asv))
show(summary)                                   # tables on stdout, in percent; as_json=True for JSON
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.evaluate import metrics
from train.evaluate.bootstrap import interval_of, resampled_eers
from train.evaluate.scorefile import ScoreTable

UNBROKEN = 10_000  # columns of a pipe, so that no name is broken over lines


@dataclass(frozen=True)
class AttackSummary:
    """One attack against all bona fide trials; t-DCF with the ASV errors on this attack."""

    attack: str
    trials: int
    eer: float
    eer_interval: tuple[float, float] | None
    min_tdcf_2019: float | None  # None without ASV scores of this attack, or if the ASV system accepts none of it
    min_tdcf_2021: float | None


@dataclass(frozen=True)
class EvaluationSummary:
    """All measures of one system; rates in 0..1, intervals at 95 %."""

    trials: int
    bonafide: int
    spoof: int
    eer: float
    eer_interval: tuple[float, float] | None  # None without a bootstrap
    eer_threshold: float
    min_dcf: float
    actual_dcf: float  # actual DCF and Cllr assume that scores are log-likelihood ratios
    cllr: float
    min_tdcf_2019: float | None  # None without ASV scores
    min_tdcf_2021: float | None
    attacks: tuple[AttackSummary, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def summarise(
    table: ScoreTable, asv: metrics.AsvScores | None = None, bootstrap: int = 1000, seed: int = 0
) -> EvaluationSummary:
    """Compute all measures, pooled and per attack; `bootstrap` resamples per interval, 0 for none."""
    bonafide, spoof = metrics.checked(table.bonafide, "bona fide"), metrics.checked(table.spoof, "spoofed")
    order = metrics.ranking(table.score, table.is_bonafide)
    scores, keys, attacks = table.score[order], table.is_bonafide[order], table.attack[order]

    def interval(of_keys: metrics.Bools) -> tuple[float, float] | None:
        return interval_of(resampled_eers(of_keys, bootstrap, seed)) if bootstrap else None

    def of_attack(name: str) -> AttackSummary:
        mine = keys | (attacks == name)
        curve = metrics.curve_of(scores[mine], keys[mine])
        errors = asv.errors(name) if asv is not None and name in asv.spoof_attack else None
        if errors and not errors.spoof_false_alarm:
            errors = None  # the ASV system rejects every trial of this attack, so its t-DCF is undefined
        return AttackSummary(
            attack=name,
            trials=int(np.count_nonzero(mine)) - bonafide.size,
            eer=metrics.equal_error(curve)[0],
            eer_interval=interval(keys[mine]),
            min_tdcf_2019=metrics.tandem_2019(curve, errors) if errors else None,
            min_tdcf_2021=metrics.tandem_2021(curve, errors) if errors else None,
        )

    curve, errors = metrics.curve_of(scores, keys), asv.errors() if asv is not None else None
    rate, threshold = metrics.equal_error(curve)
    return EvaluationSummary(
        trials=keys.size,
        bonafide=bonafide.size,
        spoof=spoof.size,
        eer=rate,
        eer_interval=interval(keys),
        eer_threshold=threshold,
        min_dcf=metrics.least_cost(curve, metrics.DCF_MISS, metrics.DCF_FALSE_ALARM),
        actual_dcf=metrics.actual_dcf(bonafide, spoof),
        cllr=metrics.cllr(bonafide, spoof),
        min_tdcf_2019=metrics.tandem_2019(curve, errors) if errors else None,
        min_tdcf_2021=metrics.tandem_2021(curve, errors) if errors else None,
        attacks=tuple(of_attack(name) for name in sorted(set(attacks[~keys].tolist()))),
    )


def show(summary: EvaluationSummary, as_json: bool = False) -> None:
    """Print tables, or one JSON object, on stdout."""
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2))
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    def percent(rate: float, interval: tuple[float, float] | None) -> tuple[str, str]:
        return f"{100 * rate:.4f}", f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}" if interval else "-"

    def cost(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    def table(*columns: str) -> Table:
        made = Table(box=SIMPLE)
        for index, column in enumerate(columns):
            made.add_column(column, justify="right" if index else "left", no_wrap=index > 0, overflow="fold")
        return made

    pooled = table("measure", "value", "95 %")
    pooled.add_row("EER %", *percent(summary.eer, summary.eer_interval))
    pooled.add_row("threshold at the EER", f"{summary.eer_threshold:.4f}")
    pooled.add_row("min t-DCF 2019", cost(summary.min_tdcf_2019))
    pooled.add_row("min t-DCF 2021", cost(summary.min_tdcf_2021))
    pooled.add_row("min DCF", cost(summary.min_dcf))
    pooled.add_row("actual DCF", cost(summary.actual_dcf))
    pooled.add_row("Cllr (bit)", cost(summary.cllr))
    attacks = table("attack", "trials", "EER %", "95 %", "min t-DCF 2019", "2021")
    for one in summary.attacks:
        costs = cost(one.min_tdcf_2019), cost(one.min_tdcf_2021)
        attacks.add_row(one.attack, f"{one.trials:,}", *percent(one.eer, one.eer_interval), *costs)
    width = None if sys.stdout.isatty() else UNBROKEN
    console = Console(markup=False, highlight=False, width=width)  # an attack may be called [A01]
    console.print(pooled)
    console.print(attacks)
