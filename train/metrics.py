"""What a countermeasure's scores are worth: EER, min t-DCF, DCF and Cllr, as the ASVspoof organisers compute them.

    python -m train.metrics scores.txt
    python -m train.metrics scores.txt.gz --asv ASVspoof2019.LA.asv.eval.gi.trl.scores.txt --json
    python -m train.metrics scores.txt --flip --bootstrap 0

`scores.txt` has one trial per line, `UTTERANCE ATTACK KEY SCORE`, KEY being `bonafide` or `spoof`. A higher score
means bona fide, here and everywhere in Shrike; `--flip` turns the scores of a system that says it the other way round.
Rates are fractions (0.01 is 1 %) except in the printed table. Thresholds, ties and constants are the organisers'.
"""

import dataclasses
import gzip
import json
import math
import os
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.command import run
from runtime.errors import ShrikeError
from runtime.files import whole_file

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]

# The evaluation plans of ASVspoof 2019, 2021 and 5 share these. Priors and costs have no unit.
PRIOR_SPOOF = 0.05
PRIOR_TARGET = 0.99 * (1 - PRIOR_SPOOF)  # 0.9405: the person who is claimed speaks
PRIOR_NONTARGET = 0.01 * (1 - PRIOR_SPOOF)  # 0.0095: another person speaks, without faking
COST_MISS = 1.0  # a bona fide speaker is turned away, by the countermeasure or by the speaker verification
COST_FALSE_ALARM = 10.0  # a spoof or another speaker gets through
DCF_MISS = COST_MISS * (1 - PRIOR_SPOOF)  # 0.95: what it costs to refuse everybody
DCF_FALSE_ALARM = COST_FALSE_ALARM * PRIOR_SPOOF  # 0.5: what it costs to believe everybody
BAYES_THRESHOLD = -math.log(DCF_MISS / DCF_FALSE_ALARM)  # -0.642 nat: the best cut if scores are log-likelihood ratios
BELOW_ALL = 0.001  # the first threshold lies this far below the lowest score, in the unit of the scores
INTERVAL = (2.5, 97.5)  # percentiles of the resampled values between which 95 % of them lie

SCORE_FORM = "UTTERANCE ATTACK KEY SCORE"
ASV_FORM = "ATTACK KEY SCORE"
LINE_SHOWN = 80  # characters of a malformed line that its error repeats


# ---------------------------------------------------------------- one system's errors over all thresholds


class DetCurve(NamedTuple):
    """Both error rates from "believe everybody" to "refuse everybody", a point per threshold; arrays (trials + 1,)."""

    miss: Floats  # rises from 0 to 1: bona fide trials up to and including this threshold
    false_alarm: Floats  # falls from 1 to 0: spoofed trials beyond it
    thresholds: Floats


def det_curve(bonafide: ArrayLike, spoof: ArrayLike) -> DetCurve:
    """The DET curve of scores (bonafide,) and (spoof,).

    One point per trial, also among equal scores, where the bona fide come first. This is the organisers' reading of
    ties and the harshest one: scores that are all the same have an EER of 100 %.
    """
    return _curve(*_ranked(bonafide, spoof))


def eer_threshold(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[float, float]:
    """Equal error rate (0..1) and its threshold: the mean of both rates at the point where they are closest."""
    return _equal_error(det_curve(bonafide, spoof))


def eer(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Equal error rate (0..1)."""
    return eer_threshold(bonafide, spoof)[0]


def min_dcf(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """ASVspoof 5: detection cost at the best threshold, where 1 is the cost of the better blind answer."""
    return _least_cost(det_curve(bonafide, spoof), DCF_MISS, DCF_FALSE_ALARM)


def actual_dcf(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """ASVspoof 5: detection cost at the Bayes threshold. Above `min_dcf` by what bad calibration costs."""
    miss = np.mean(_scores(bonafide, "bona fide") < BAYES_THRESHOLD)
    false_alarm = np.mean(_scores(spoof, "spoofed") >= BAYES_THRESHOLD)
    return float((DCF_MISS * miss + DCF_FALSE_ALARM * false_alarm) / min(DCF_MISS, DCF_FALSE_ALARM))


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Cost of log-likelihood ratios (Brümmer and du Preez 2006) in bit: 0 is perfect, 1 what always saying 0 gets."""
    # logaddexp(0, x) is log(1 + exp(x)) without its overflow: the organisers' code gives infinity beyond 709.
    of_bonafide = np.mean(np.logaddexp(0, -_scores(bonafide, "bona fide")))
    of_spoof = np.mean(np.logaddexp(0, _scores(spoof, "spoofed")))
    return float(of_bonafide + of_spoof) / 2 / math.log(2)


def _scores(values: ArrayLike, what: str) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ShrikeError(f"{what} scores came with the shape {scores.shape}, but one number per trial was expected")
    if scores.size == 0:
        raise ShrikeError(f"no {what} scores came, but at least one was expected; check the keys of the trials")
    if unusable := int(np.count_nonzero(~np.isfinite(scores))):
        raise ShrikeError(
            f"{unusable:,} of {scores.size:,} {what} scores are NaN or infinite, but finite numbers were expected; "
            "find the trials the model fails on (a silent clip, a diverged training) and score them again"
        )
    return scores


def _ranked(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[Floats, Bools]:
    """Scores in rising order and whether each is bona fide, both (trials,)."""
    bona, fake = _scores(bonafide, "bona fide"), _scores(spoof, "spoofed")
    scores, is_bonafide = np.concatenate((bona, fake)), np.arange(bona.size + fake.size) < bona.size
    order = _ranking(scores, is_bonafide)
    return scores[order], is_bonafide[order]


def _ranking(scores: Floats, is_bonafide: Bools) -> NDArray[np.intp]:
    """The order (trials,) from the lowest score up, bona fide first among equals; the only sort of a measure."""
    return np.lexsort((~is_bonafide, scores))


def _curve(scores: Floats, is_bonafide: Bools) -> DetCurve:
    missed = np.concatenate(([0], np.cumsum(is_bonafide)))
    refused = np.arange(missed.size) - missed  # spoofed trials up to and including this threshold
    return DetCurve(
        missed / missed[-1],
        (refused[-1] - refused) / refused[-1],
        np.concatenate(([scores[0] - BELOW_ALL], scores)),
    )


def _equal_error(curve: DetCurve) -> tuple[float, float]:
    closest = int(np.argmin(np.abs(curve.miss - curve.false_alarm)))
    return float(curve.miss[closest] + curve.false_alarm[closest]) / 2, float(curve.thresholds[closest])


def _least_cost(curve: DetCurve, miss: float, false_alarm: float, fixed: float = 0.0) -> float:
    """Smallest weighted cost on the curve, divided by the cost of the better blind answer."""
    cost = fixed + np.min(miss * curve.miss + false_alarm * curve.false_alarm)
    return float(cost / (fixed + min(miss, false_alarm)))


# ---------------------------------------------------------------- in tandem with speaker verification (ASV)


@dataclass(frozen=True)
class AsvErrors:
    """How often the speaker verification behind the countermeasure errs at its own EER threshold; rates in 0..1."""

    miss: float  # targets turned away
    false_alarm: float  # other speakers accepted
    spoof_false_alarm: float  # spoofs accepted: the attacks that a countermeasure is needed for
    threshold: float | None = None  # None where only the rates are published, as by ASVspoof 5


@dataclass(frozen=True, eq=False)
class AsvScores:
    """Speaker verification scores: (targets,), (nontargets,), (spoofs,), and the attack of each spoof."""

    target: Floats
    nontarget: Floats
    spoof: Floats
    spoof_attack: NDArray[np.str_]

    def errors(self, attack: str | None = None) -> AsvErrors:
        """Error rates over all spoofs or over one attack's."""
        spoof = self.spoof if attack is None else self.spoof[self.spoof_attack == attack]
        return asv_errors(self.target, self.nontarget, spoof)


def asv_errors(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> AsvErrors:
    """Error rates of a speaker verification at the threshold where it confuses targets and nontargets equally often."""
    target, nontarget = _scores(target, "ASV target"), _scores(nontarget, "ASV nontarget")
    _, threshold = eer_threshold(target, nontarget)
    return AsvErrors(
        miss=float(np.mean(target < threshold)),
        false_alarm=float(np.mean(nontarget >= threshold)),
        spoof_false_alarm=float(np.mean(_scores(spoof, "ASV spoof") >= threshold)),
        threshold=threshold,
    )


def min_tdcf_2019(bonafide: ArrayLike, spoof: ArrayLike, asv: AsvErrors) -> float:
    """Normalised min t-DCF of ASVspoof 2019 (Kinnunen et al. 2018): the countermeasure's errors alone, 0 if none."""
    return _tandem_2019(det_curve(bonafide, spoof), asv)


def min_tdcf_2021(bonafide: ArrayLike, spoof: ArrayLike, asv: AsvErrors) -> float:
    """Normalised min t-DCF of ASVspoof 2021 (Kinnunen et al. 2020): the verification's own errors count as well."""
    return _tandem_2021(det_curve(bonafide, spoof), asv)


def _tandem_2019(curve: DetCurve, asv: AsvErrors) -> float:
    _, miss, false_alarm = _tandem_costs(asv)
    return _least_cost(curve, miss, false_alarm)


def _tandem_2021(curve: DetCurve, asv: AsvErrors) -> float:
    verification, miss, false_alarm = _tandem_costs(asv)
    return _least_cost(curve, miss, false_alarm, fixed=verification)


def _tandem_costs(asv: AsvErrors) -> tuple[float, float, float]:
    """Cost of the verification's own errors, of the countermeasure missing all bona fide, of it believing all spoofs.

    C0, C1 and C2 of the 2021 plan. C1 and C2 of the 2019 plan are the same numbers, since its four costs are two pairs.
    """
    verification = PRIOR_TARGET * COST_MISS * asv.miss + PRIOR_NONTARGET * COST_FALSE_ALARM * asv.false_alarm
    miss = PRIOR_TARGET * COST_MISS - verification
    false_alarm = PRIOR_SPOOF * COST_FALSE_ALARM * asv.spoof_false_alarm
    if miss <= 0 or false_alarm <= 0:
        raise ShrikeError(
            f"a speaker verification came that misses {asv.miss:.1%} of its targets and accepts "
            f"{asv.spoof_false_alarm:.1%} of the spoofs, but the t-DCF is defined only for one that works and can be "
            "fooled; check the ASV scores"
        )
    return verification, miss, false_alarm


# ---------------------------------------------------------------- how far to trust an EER: the bootstrap


def bootstrap_eer(bonafide: ArrayLike, spoof: ArrayLike, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the EER, resampled with replacement within each class.

    It takes the trials as independent: several clips of one speaker or session make the truth wider than this, and a
    system without an error gets (0, 0) however few its trials.
    """
    return _interval(_resampled_eers(_ranked(bonafide, spoof)[1], resamples, seed))


def paired_bootstrap_eer_difference(
    scores_a: ArrayLike, scores_b: ArrayLike, is_bonafide: ArrayLike, resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """EER of A minus EER of B on the same trials (trials,), and its 95 % interval: difference, low, high.

    Both systems see the same resampled trials, so what makes a trial hard for both cancels. B is better if low > 0.
    """
    keys, a, b = np.asarray(is_bonafide, dtype=bool), np.asarray(scores_a), np.asarray(scores_b)
    if not a.shape == b.shape == keys.shape:
        raise ShrikeError(
            f"scores of the shapes {a.shape} and {b.shape} came with keys of {keys.shape}, but one score of each "
            "system per trial was expected; score both systems on the same list"
        )
    on_all = eer(a[keys], a[~keys]) - eer(b[keys], b[~keys])
    orders = [_ranking(scores, keys) for scores in (a, b)]
    rng = _dice(resamples, seed)
    differences = np.empty(resamples)
    drawn = np.empty(keys.size, dtype=np.int64)  # how often each trial is in this resample
    for index in range(resamples):
        for of_class in (keys, ~keys):
            count = int(np.count_nonzero(of_class))
            drawn[of_class] = np.bincount(rng.integers(count, size=count), minlength=count)
        of_a, of_b = (_weighted_eer(keys[order], drawn[order]) for order in orders)
        differences[index] = of_a - of_b
    return on_all, *_interval(differences)


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def _dice(resamples: int, seed: int) -> np.random.Generator:
    if resamples < 1 or seed < 0:
        given = f"{resamples} resamples and the seed {seed} came"
        raise ShrikeError(f"{given}, but at least 1 and no negative seed were expected; 1000 and 0 serve well")
    return np.random.default_rng(seed)


def _resampled_eers(is_bonafide: Bools, resamples: int, seed: int) -> Floats:
    """EERs (resamples,) of stratified resamples of ranked trials (trials,), in O(resamples · log trials).

    An EER needs a resample only where its two rates cross, and how many of its trials fall below a cut is binomial.
    Bisection finds the crossing: halve the range, draw how the trials in it split, go on in the half that crosses.

        low            middle             high        below low, fewer misses than false alarms;
         |----- drawn? ---|---- the rest ---|         below high, no longer
    """
    rng, trials = _dice(resamples, seed), is_bonafide.size
    bona = int(np.count_nonzero(is_bonafide))
    fake = trials - bona
    originals = np.stack([np.concatenate(([0], np.cumsum(of_class))) for of_class in (is_bonafide, ~is_bonafide)])
    low, high = np.zeros(resamples, dtype=np.int64), np.full(resamples, trials, dtype=np.int64)
    below = np.zeros((2, resamples), dtype=np.int64)  # drawn bona fide and spoofed trials below `low`
    between = np.repeat(np.array([[bona], [fake]], dtype=np.int64), resamples, axis=1)  # and from there to `high`
    for _ in range((trials - 1).bit_length()):
        middle = (low + high) // 2
        share = (originals[:, middle] - originals[:, low]) / np.maximum(originals[:, high] - originals[:, low], 1)
        first_half = rng.binomial(between, share)
        later = _gap(below[0] + first_half[0], below[1] + first_half[1], bona, fake) > 0
        low, high = np.where(later, middle, low), np.where(later, high, middle)
        below = np.where(later, below + first_half, below)
        between = np.where(later, between - first_half, first_half)
    return _eer_within(below[0], below[1], is_bonafide[low], bona, fake)


def _weighted_eer(is_bonafide: Bools, drawn: Counts) -> float:
    """EER of ranked trials (trials,) that each count as often as they were drawn."""
    bona = int(drawn[is_bonafide].sum())
    fake = int(drawn.sum()) - bona
    closed = np.cumsum(drawn * np.where(is_bonafide, fake, bona))  # how much of the gap is gone after each trial
    at = int(np.searchsorted(closed, bona * fake))
    missed = drawn[:at][is_bonafide[:at]].sum(keepdims=True)
    refused = drawn[:at].sum(keepdims=True) - missed
    return float(_eer_within(missed, refused, is_bonafide[at : at + 1], bona, fake)[0])


def _gap(missed: Counts, refused: Counts, bona: int, fake: int) -> Counts:
    """False alarm rate minus miss rate, times bona · fake: whole numbers, so that comparisons are exact."""
    return bona * (fake - refused) - fake * missed


def _eer_within(missed: Counts, refused: Counts, is_bonafide: Bools, bona: int, fake: int) -> Floats:
    """EERs (resamples,) where the rates cross within the copies of one trial each, by the counts below that trial."""
    copies = _gap(missed, refused, bona, fake) // np.where(is_bonafide, fake, bona)  # up to the last point before
    miss = [(missed + beyond * is_bonafide) / bona for beyond in (copies, copies + 1)]
    false_alarm = [(fake - refused - beyond * ~is_bonafide) / fake for beyond in (copies, copies + 1)]
    # In floats, as `_equal_error` does it: which of two equally close points is taken hangs on their rounding.
    before, after = (np.abs(m - f) for m, f in zip(miss, false_alarm, strict=True))
    return np.where(after < before, miss[1] + false_alarm[1], miss[0] + false_alarm[0]) / 2


# ---------------------------------------------------------------- score files


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scored trials, four arrays (trials,)."""

    utterance: NDArray[np.str_]
    attack: NDArray[np.str_]  # `-` for bona fide by ASVspoof's custom; not looked at there
    is_bonafide: Bools
    score: Floats

    def __post_init__(self) -> None:
        shapes = {field.name: np.shape(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if len(set(shapes.values())) != 1 or len(shapes["score"]) != 1:
            raise ShrikeError(f"columns of the shapes {shapes} came, but one entry per trial was expected in each")
        assert self.is_bonafide.dtype == bool, "numbers would pick trials by index"

    @property
    def bonafide(self) -> Floats:
        return self.score[self.is_bonafide]

    @property
    def spoof(self) -> Floats:
        return self.score[~self.is_bonafide]

    def flipped(self) -> "ScoreTable":
        """The same trials by a system whose scores run the other way."""
        return dataclasses.replace(self, score=-self.score)


def read_scores(path: str | os.PathLike[str]) -> ScoreTable:
    """Countermeasure scores from lines `UTTERANCE ATTACK KEY SCORE`; `.gz` is unpacked on the way."""
    utterances, attacks, keys, scores = map(np.array, _read_columns(Path(path), SCORE_FORM, ("bonafide", "spoof")))
    name, times = Counter(utterances.tolist()).most_common(1)[0]
    if times > 1:
        raise ShrikeError(f"{path}: {name} is scored {times} times, but once was expected; was the file appended to?")
    return ScoreTable(utterances, attacks, keys == "bonafide", scores)


def read_asv_scores(path: str | os.PathLike[str]) -> AsvScores:
    """The organisers' speaker verification scores of ASVspoof 2019: lines `ATTACK KEY SCORE`; `.gz` is unpacked."""
    attacks, keys, scores = map(np.array, _read_columns(Path(path), ASV_FORM, ("target", "nontarget", "spoof")))
    return AsvScores(
        target=scores[keys == "target"],
        nontarget=scores[keys == "nontarget"],
        spoof=scores[keys == "spoof"],
        spoof_attack=attacks[keys == "spoof"],
    )


def write_scores(path: str | os.PathLike[str], table: ScoreTable) -> None:
    """Write what `read_scores` reads, digit for digit; the file is whole or not there. A name in `.gz` is packed."""
    path = Path(path)
    _scores(table.score, "trial")
    utterances, attacks = table.utterance.tolist(), table.attack.tolist()
    for name in {*utterances, *attacks}:
        if name.split() != [name]:
            raise ShrikeError(f"{path}: the name {name!r} came, but one without spaces was expected; rename it")
    keys = np.where(table.is_bonafide, "bonafide", "spoof").tolist()
    with whole_file(path) as draft, _open_text(draft, "wt") as file:
        for utterance, attack, key, score in zip(utterances, attacks, keys, table.score.tolist(), strict=True):
            file.write(f"{utterance} {attack} {key} {score!r}\n")


def _open_text(path: Path, mode: Literal["rt", "wt"]) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, mode, encoding="utf-8"))  # typed for its binary modes as well
    return open(path, mode, encoding="utf-8")


def _read_columns(path: Path, form: str, keys: tuple[str, ...]) -> list[list[Any]]:
    """The columns of a file of scores: text, but for the last, which is float. KEY is always the last but one."""
    columns: list[list[Any]] = [[] for _ in form.split()]
    try:
        with _open_text(path, "rt") as file:
            for number, line in enumerate(file, start=1):
                fields: list[Any] = line.split()
                if len(fields) == len(columns) and fields[-2] in keys and (score := _number(fields[-1])) is not None:
                    for column, field in zip(columns, (*fields[:-1], score), strict=True):
                        column.append(field)
                elif fields:
                    wanted = f"`{form}` with KEY one of {', '.join(keys)} and a finite SCORE"
                    came = f"{path}:{number}: {line.strip()[:LINE_SHOWN]!r} came"
                    raise ShrikeError(f"{came}, but {wanted} was expected; mend the line")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        why = f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
        raise ShrikeError(f"{why}; a text file of lines `{form}`, plain or .gz, was expected") from error
    if not columns[0]:
        raise ShrikeError(f"{path} holds no scores, but lines `{form}` were expected; did the scoring run to its end?")
    return columns


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# ---------------------------------------------------------------- everything about one system


@dataclass(frozen=True)
class AttackSummary:
    """One attack's trials against all bona fide ones. t-DCF with the verification's errors on this attack."""

    attack: str
    trials: int
    eer: float
    eer_interval: tuple[float, float] | None
    min_tdcf_2019: float | None  # None without ASV scores of this attack, or where the verification accepts none of it
    min_tdcf_2021: float | None


@dataclass(frozen=True)
class Summary:
    """Everything that is known of one system; rates in 0..1, intervals at 95 %."""

    trials: int
    bonafide: int
    spoof: int
    eer: float
    eer_interval: tuple[float, float] | None  # None if no bootstrap was asked for
    eer_threshold: float
    min_dcf: float
    actual_dcf: float  # this and Cllr mean something only if the scores are log-likelihood ratios
    cllr: float
    min_tdcf_2019: float | None  # None without ASV scores
    min_tdcf_2021: float | None
    attacks: tuple[AttackSummary, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return dataclasses.asdict(self)


def summarise(table: ScoreTable, asv: AsvScores | None = None, bootstrap: int = 1000, seed: int = 0) -> Summary:
    """All measures of one system, pooled and per attack; `bootstrap` resamples for every interval, 0 for none."""
    bonafide, spoof = _scores(table.bonafide, "bona fide"), _scores(table.spoof, "spoofed")
    order = _ranking(table.score, table.is_bonafide)
    scores, keys, attacks = table.score[order], table.is_bonafide[order], table.attack[order]

    def interval(of_keys: Bools) -> tuple[float, float] | None:
        return _interval(_resampled_eers(of_keys, bootstrap, seed)) if bootstrap else None

    def of_attack(name: str) -> AttackSummary:
        mine = keys | (attacks == name)
        curve = _curve(scores[mine], keys[mine])
        errors = asv.errors(name) if asv is not None and name in asv.spoof_attack else None
        if errors and not errors.spoof_false_alarm:
            errors = None  # the verification stops this attack alone: nothing for a t-DCF to measure
        return AttackSummary(
            attack=name,
            trials=int(np.count_nonzero(mine)) - bonafide.size,
            eer=_equal_error(curve)[0],
            eer_interval=interval(keys[mine]),
            min_tdcf_2019=_tandem_2019(curve, errors) if errors else None,
            min_tdcf_2021=_tandem_2021(curve, errors) if errors else None,
        )

    curve, errors = _curve(scores, keys), asv.errors() if asv is not None else None
    rate, threshold = _equal_error(curve)
    return Summary(
        trials=keys.size,
        bonafide=bonafide.size,
        spoof=spoof.size,
        eer=rate,
        eer_interval=interval(keys),
        eer_threshold=threshold,
        min_dcf=_least_cost(curve, DCF_MISS, DCF_FALSE_ALARM),
        actual_dcf=actual_dcf(bonafide, spoof),
        cllr=cllr(bonafide, spoof),
        min_tdcf_2019=_tandem_2019(curve, errors) if errors else None,
        min_tdcf_2021=_tandem_2021(curve, errors) if errors else None,
        attacks=tuple(of_attack(name) for name in sorted(set(attacks[~keys].tolist()))),
    )


# ---------------------------------------------------------------- the command


@dataclass(frozen=True)
class Options:
    """EER, min t-DCF, DCF and Cllr of a score file, pooled and per attack, as the ASVspoof organisers compute them."""

    scores: Path
    """Lines `UTTERANCE ATTACK KEY SCORE`, KEY being bonafide or spoof, higher scores meaning bona fide; may be .gz."""
    asv: Path | None = None
    """The organisers' speaker verification scores, lines `ATTACK KEY SCORE`: without them there is no t-DCF."""
    flip: bool = False
    """Multiply the scores by -1, for a system whose higher scores mean spoof."""
    bootstrap: int = 1000
    """Resamples behind each 95 % interval of an EER; 0 leaves the intervals out."""
    seed: int = 0
    """Seed of the resampling: the same seed gives the same intervals."""
    json: bool = False
    """Print one JSON object, rates in 0..1, instead of the table."""


def main() -> None:
    import tyro  # here, so that who only wants a number need not have it

    from train.progress import say

    settings = (tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff)
    options = tyro.cli(Options, prog="python -m train.metrics", config=settings)
    table = read_scores(options.scores)
    asv = read_asv_scores(options.asv) if options.asv else None
    summary = summarise(table.flipped() if options.flip else table, asv, options.bootstrap, options.seed)
    say(f"{options.scores}: {summary.bonafide:,} bona fide and {summary.spoof:,} spoofed trials")
    if summary.eer > 0.5:
        say("an EER above 50 %: do these scores run the other way? try --flip")
    show(summary, options.json)


def show(summary: Summary, as_json: bool = False) -> None:
    """Print on stdout: tables for people, or one JSON object."""
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2))
    else:
        _show_tables(summary)


def _show_tables(summary: Summary) -> None:
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
    console = Console(markup=False, highlight=False)  # an attack may be called [A01]
    console.print(pooled)
    console.print(attacks)


if __name__ == "__main__":
    run(main)
