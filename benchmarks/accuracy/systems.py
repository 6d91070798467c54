"""Systems with their scores: models and other projects' detectors over trials, and systems by their score files."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from benchmarks.accuracy.scoring import ScoreClips, open_model, open_peer, open_peer_clips, parse_input, score_trials
from benchmarks.accuracy.trials import TrialList, open_trials
from benchmarks.cases import resolve
from runtime.audio.features import PRESETS
from runtime.card.checksums import sha256_file
from runtime.card.model_card import SURE, read_card
from runtime.card.schema import require
from train.checkpoint import read_checkpoint
from train.data.cache import Cache, build_cache, build_sound_cache
from train.data.corpus import Trial
from train.data.processes import cores
from train.evaluate.calibration import fit_llr
from train.evaluate.metrics import Bools, Floats
from train.evaluate.scorefile import ScoreTable, read_scores

if TYPE_CHECKING:
    from benchmarks.accuracy.__main__ import Options

ENGINE = f"ONNX Runtime {onnxruntime.__version__}"


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


def all_systems(options: "Options", trials: TrialList | None, folder: Path) -> list[System]:
    """Every model and peer over the trials, and the score files; checkpoints are exported to `folder`."""
    entrants = list(enter(options, folder)) if trials else []
    systems = [scored(options, trials, entrant) for entrant in entrants if trials]
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


def scored(options: "Options", trials: TrialList, entrant: Entrant) -> System:
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
