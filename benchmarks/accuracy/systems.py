"""Systems with their scores: models and other projects' detectors over trials, and systems by their score files.

Trials are scored by several processes, in a partial file that a killed run resumes. It begins with a line of JSON: hash
of the model, form, trials, features and windows; lines `UTTERANCE SCORE` follow. If the first line differs, scoring
starts again. Scores are equal whichever process computed them.
"""

import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from benchmarks.accuracy.trials import TrialList, open_trials
from benchmarks.cases import Subject, open_bare, resolve
from benchmarks.workers import spread
from export.graph import score
from export.int8.calibration import network_input
from export.streaming_eval import by_steps
from export.verify import Scores
from runtime.audio.features import PRESETS, RATE, Samples
from runtime.audio.score_times import scored
from runtime.card.checksums import sha256_file
from runtime.card.model_card import SURE, read_card
from runtime.card.schema import require
from runtime.support.errors import ShrikeError
from train.checkpoint import read_checkpoint
from train.data.cache import Cache, FeatureCache, SoundCache, build_cache, build_sound_cache
from train.data.corpus import Trial
from train.data.processes import cores
from train.evaluate.calibration import fit_llr
from train.evaluate.metrics import Bools, Floats
from train.evaluate.scorefile import ScoreTable, read_scores
from train.progress import Progress, say

if TYPE_CHECKING:
    from benchmarks.accuracy.__main__ import Options

CHUNK = 16  # clips that a process takes at a time: half a second of work, the most that a kill loses
LONGEST = 60 * RATE  # samples of a peer's input
FACTOR = np.float32(2.0**-15)  # full scale of cached sound

ScoreClips = Callable[[Sequence[int]], list[float]]

ENGINE = f"ONNX Runtime {onnxruntime.__version__}"


def open_model(subject: Subject, mean: bool, cache: FeatureCache) -> ScoreClips:
    """Bona fide minus spoof of each clip's first window, or the mean over windows that overlap by half.

    A streaming model starts from its reset state in every window; runtime.audio.score_times names the scored step.
    """
    forward, step = by_steps(subject.open()), subject.frames

    def of_clip(clip: int) -> float:
        windows = (network_input(cache.window(clip, int(start))) for start in cache.starts(clip, mean))
        place = scored(int(cache.lengths[clip]), cache.frontend, step) // step - 1 if step else 0
        return float(np.mean([score(forward(window))[place] for window in windows]))

    return lambda clips: [of_clip(clip) for clip in clips]


# ---- peers


def open_peer_clips(path: Path, size: int, cache: SoundCache) -> ScoreClips:
    """A clip is cut to its first `size` samples or repeated, as the code of AASIST and RawNet2 does in evaluation."""
    score_of = open_peer(path, size)
    return lambda clips: [score_of(cache.samples(clip) * FACTOR) for clip in clips]


def parse_input(text: str) -> int:
    """The samples of waveform:64600."""
    kind, _, size = text.partition(":")
    fits = kind == "waveform" and size.isdecimal() and 0 < int(size) <= LONGEST
    require(fits, f"--peer-input {text}: expected waveform:SAMPLES at 16 kHz, as in waveform:64600")
    return int(size)


def open_peer(path: Path, size: int) -> Callable[[Samples], float]:
    """A function from samples (n,) at 16 kHz to bona fide minus spoof, or the file's one score; it has run once."""
    session = open_bare(path, threads=1)
    inputs = session.get_inputs()
    require(len(inputs) == 1, f"{path.name}: {len(inputs)} inputs; expected one, the waveform")
    shape = (1,) * (len(inputs[0].shape) - 1) + (size,)  # (batch, samples) or (batch, 1, samples)

    def score_of(samples: Samples) -> float:
        waveform = np.resize(samples[:size], shape).astype(np.float32)
        try:
            found = [np.asarray(values, np.float64).ravel() for values in session.run(None, {inputs[0].name: waveform})]
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ShrikeError(f"{path.name}: fails on {size} samples ({reason}); see --peer-input") from error
        usable = [values for values in found if values.size in (1, 2)]  # two are (spoof, bona fide)
        require(
            len(usable) == 1,
            f"{path.name}: outputs of {[values.size for values in found]} values; expected one of 2, spoof and bona "
            "fide, or one of 1, a score; export that output alone",
        )
        return float(usable[0][-1] - (usable[0][0] if usable[0].size == 2 else 0.0))

    score_of(np.random.default_rng(0).standard_normal(size, np.float32))
    return score_of


# ---- stopped runs


def score_trials(
    name: str, cache: Cache, open_clips: Callable[[Any], ScoreClips], partial_file: Path, bound_to: dict[str, str],
    jobs: int,
) -> Scores:  # fmt: skip
    """The score of every clip in the cache, (n,); those in the partial file are not computed again."""
    names, known = [trial.utterance for trial in cache.trials], read_partial(partial_file, bound_to)
    missing = [clip for clip, utterance in enumerate(names) if utterance not in known]
    if known and missing:
        say(f"{name}: {len(names) - len(missing):,} of {len(names):,} scores found; resuming")
    if missing:
        light: Any = copy.copy(cache)
        light.trials = []  # spare every process the names and paths of 600,000 trials
        chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        computed = closing(spread(partial(open_clips, light), chunks, jobs, "scored"))
        with (
            open(partial_file, "a" if known else "w", encoding="utf-8") as file,
            Progress(name, len(missing), "trials") as bar,
            computed as results,
        ):
            file.write("" if known else json.dumps(bound_to) + "\n")
            for clips, new in results:
                known |= {names[clip]: value for clip, value in zip(clips, new, strict=True)}
                file.write("".join(f"{names[clip]} {known[names[clip]]!r}\n" for clip in clips))
                file.flush()
                bar.advance(len(clips))
    scores = np.array([known[utterance] for utterance in names])
    require(bool(np.isfinite(scores).all()), f"{name}: its scores are not finite; export or train it again")
    return scores


def read_partial(path: Path, bound_to: dict[str, str]) -> dict[str, float]:
    """The scores of a stopped run of the same model and trials; a torn last line is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    try:
        head, *lines = whole.decode().splitlines()
        known = {name: float(value) for name, value in (line.split() for line in lines)}
        same = json.loads(head) == bound_to
    except ValueError:
        known, same = {}, False
    if data and not same:
        say(f"{path}: scores of another model, list or version; scoring starts again")
    if same and len(whole) < len(data):
        path.write_bytes(whole)
    return known if same else {}


@dataclass(frozen=True)
class LlrMap:
    """log-likelihood ratio = scale * score + offset."""

    scale: float
    offset: float
    fitted_on: str
    sure: float = SURE  # P(spoof) that claims spoof

    def calls_spoof(self, llrs: Floats) -> Bools:
        """Select the LLRs whose P(spoof) reaches the operating point, at equal priors."""
        return llrs <= math.log((1 - self.sure) / self.sure)


@dataclass(frozen=True)
class System:
    """A model, a peer or a score file, with its scores."""

    name: str
    form: str
    scores: ScoreTable
    llr_map: LlrMap | None = None
    sha256: str = ""  # of a model's file
    left_out: int = 0  # trials of the protocol without a score
    peer: bool = False
    training: dict[str, Any] = field(default_factory=dict)  # settings of its training, where known

    @property
    def foreign(self) -> bool:
        return self.peer or not self.sha256

    @property
    def llrs(self) -> Floats | None:
        return None if self.llr_map is None else self.llr_map.scale * self.scores.score + self.llr_map.offset

    @property
    def file_name(self) -> str:
        """The beginning of the names of its files."""
        return re.sub(r"[/\\:]", "-", self.name)

    def flipped(self) -> "System":
        """The same with negated scores."""
        fitted = self.llr_map and replace(self.llr_map, scale=-self.llr_map.scale)
        return replace(self, form=f"{self.form}, flipped", scores=self.scores.flipped(), llr_map=fitted)


@dataclass(frozen=True)
class Entrant:
    """A system before its scores are known."""

    system: System
    cache_of: Callable[[Sequence[Trial]], Cache]
    open_clips: Callable[[Any], ScoreClips]
    jobs: int


def all_systems(options: "Options", trials: TrialList | None) -> list[System]:
    """Every model and peer over the trials, and the score files."""
    with TemporaryDirectory() as exported:
        entrants = list(enter(options, Path(exported))) if trials else []
        systems = [score_system(options, trials, entrant) for entrant in entrants if trials]
    paths = [path for path in options.scores if not (options.asv and path.exists() and path.samefile(options.asv))]
    require(bool(paths) or not options.scores, f"--scores: only the file of --asv {options.asv}; expected the systems'")
    names = labels([re.sub(r"(\.(gz|txt|tsv|scores))+$", "", str(path)) for path in paths])
    systems += [System(name, "score file", read_scores(path)) for name, path in zip(names, paths, strict=True)]
    known = [system.name for system in systems if system.foreign]
    for name in options.flip:
        expected = ", ".join(known) or "none"
        require(name in known, f"--flip {name}: not among --scores and --peer; expected one of {expected}")
    return [system.flipped() if system.name in options.flip else system for system in systems]


def enter(options: "Options", folder: Path) -> Iterator[Entrant]:
    """Open the models and peers that were named."""
    jobs, size = options.workers or cores(), parse_input(options.peer_input)
    names = labels([*options.models, *map(str, options.peer)])
    for path in options.peer:  # fail before anything takes long
        open_peer(path, size)
    nothing = ScoreTable.of([], np.empty(0))
    for number, (name, label) in enumerate(zip(options.models, names, strict=False)):
        checkpoint = read_checkpoint(Path(name)) if name.endswith(".pt") and Path(name).is_file() else None
        fits = name.endswith(".pt") or options.exit is None
        require(fits, f"--exit {options.exit}: expected a checkpoint; {name} has one exit")
        (subject,) = resolve(name, ("float",), folder / str(number), exit=options.exit)
        on_gpu, card = subject.form.startswith("TensorRT"), read_card(subject.path)
        form = f"checkpoint, exit {options.exit or 'last'}" if checkpoint else subject.form
        fitted, settings = card.score, card.training and card.training.settings
        system = System(
            label, form if on_gpu else f"{form}, {ENGINE}", nothing,
            (fitted.fitted_on and LlrMap(fitted.scale, fitted.offset, fitted.fitted_on, fitted.sure)) or None,
            sha256_file(Path(name) if checkpoint else subject.path),
            training=(checkpoint.settings.recipe() if checkpoint else settings) or {},
        )  # fmt: skip
        cache_of = partial(build_cache, subject.frontend, folder=options.cache, processes=jobs)
        yield Entrant(system, cache_of, partial(open_model, subject, options.windows == "mean"), 1 if on_gpu else jobs)
    for path, label in zip(options.peer, names[len(options.models) :], strict=True):
        system = System(label, f"{options.peer_input}, {ENGINE}", nothing, None, sha256_file(path), peer=True)
        sound_of = partial(build_sound_cache, PRESETS["wide"], folder=options.cache, processes=jobs)
        yield Entrant(system, sound_of, partial(open_peer_clips, path, size), jobs)


def score_system(options: "Options", trials: TrialList, entrant: Entrant) -> System:
    """Score the trials, and dev where the scores are not calibrated."""
    system = entrant.system

    def scores_of(listed: TrialList, suffix: str) -> tuple[ScoreTable, int]:
        cache = entrant.cache_of(listed.trials)
        bound_to = {"model": system.sha256, "form": system.form, "trials": listed.identity(),
                    "features": cache.identity, "windows": options.windows}  # fmt: skip
        file = options.partial_folder / f"{system.file_name}{suffix}.txt"
        found = score_trials(f"{system.name}{suffix}", cache, entrant.open_clips, file, bound_to, entrant.jobs)
        return ScoreTable.of(cache.trials, found), listed.missing + len(cache.skipped)

    table, left_out = scores_of(trials, "")
    fitted = system.llr_map
    if fitted is None:
        dev, tuning = trials, table
        if options.partition != "dev" and options.protocol is None:
            dev = open_trials(options.corpus, "dev", only=options.only)
            tuning = scores_of(dev, ".dev")[0]
        fitted = LlrMap(*fit_llr(tuning.score, tuning.is_bonafide.astype(int)), dev.name)
    return replace(system, scores=table, left_out=left_out, llr_map=fitted)


def labels(names: Sequence[str]) -> list[str]:
    """Short names for models: the shortest differing ends of their paths, and never just model.pt."""
    parts, shown = [[part for part in Path(name).parts if part != "/"] for name in names], []
    for mine in parts:
        ends = range(2 if Path(mine[-1]).stem == "model" else 1, len(mine))
        shortest = next((n for n in ends if [other[-n:] for other in parts].count(mine[-n:]) == 1), len(mine))
        shown.append("/".join(mine[-shortest:]))
    return shown
