"""The gate's judgement on a prepared model, and the files that are written if it passes.

judged = judge(prepared)                                      # raises Rejected if too much was lost
path = write_model(judged, Path("model.onnx"), "cpu")         # model.onnx and model.json, both or neither
"""

import copy
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx
import onnxruntime

from export import verify
from export.int8.calibration import FEW
from export.model_graph import ModelGraph, as_runner
from export.options import GateOptions, ModelOptions, Precision
from export.score_map import UNFITTED, fit_score
from export.streaming_eval import Drift
from runtime import __version__
from runtime.card import model_card as card
from runtime.card.checksums import sha256_file
from runtime.support.atomic import atomic_files
from train.checkpoint import Checkpoint
from train.config import TrainConfig
from train.progress import say

SUBTRACTED = {"window-mean": "each window's mean", "running-mean": "the running mean"}


@dataclass(frozen=True)
class Prepared:
    """A network's graphs, and the trials that judge whatever is built from them."""

    source: ModelOptions
    gate: GateOptions
    checkpoint: Checkpoint
    float_graph: ModelGraph
    graph: ModelGraph  # that ships; the float graph for fp32
    precision: Precision
    trials: verify.Trials | None = None  # None: no corpus was given
    float_scores: verify.Scores | None = None  # of the float graph on those trials
    calibration: card.Calibration | None = None
    quantisation: card.Quantisation | None = None
    drift: Drift | None = None  # of INT8 against float
    step_faults: tuple[str, ...] = ()  # differences of float steps from the whole network
    fused: TrainConfig | None = None  # settings of the second network
    score: card.ScoreMap = UNFITTED  # this, and all below, of a graph that passed the gate
    accuracy: card.Accuracy = verify.UNMEASURED
    notes: tuple[str, ...] = ()

    def scores(self, title: str) -> verify.Scores | None:
        """Compute the scores of the graph that ships on the trials."""
        return None if self.trials is None else self.trials.scores(as_runner(self.graph), title)


def judge(prepared: Prepared) -> Prepared:
    """Compare the scores of the model that would ship with the float network's, and add the measurements.

    Raises Rejected if too much was lost.
    """
    trials, before, gate = prepared.trials, prepared.float_scores, prepared.gate
    scores = before if prepared.precision == "fp32" else prepared.scores("INT8")
    labels = None if trials is None else trials.labels
    accuracy, notes = verify.UNMEASURED, list[str]()
    if trials is not None and before is not None and scores is not None:
        comparison = verify.compare(before, scores, labels, gate, trials.windows, trials.name)
        lost = comparison.faults
        faults = [*lost, *prepared.step_faults, *(prepared.drift.faults if prepared.drift else ())]
        verify.show(comparison, faults, ("float", prepared.precision))
        if faults:
            raise verify.Rejected(comparison, faults, advice(prepared, bool(lost)))
        accuracy = comparison.accuracy
        notes += [comparison.note] if comparison.note else []
    # The map belongs to the model that ships: it is fitted on its scores.
    score, reason = fit_score(scores, labels, "" if trials is None else trials.name, gate.sure)
    if reason:
        say(f"warning: scores are raw, not likelihood ratios: {reason}")
        notes += [f"scores are raw, not likelihood ratios: {reason}"] * (trials is not None)
    return replace(prepared, score=score, accuracy=accuracy, notes=tuple(notes))


def advice(prepared: Prepared, lost: bool) -> str:
    """Options to try after a rejection; `lost`: for its EER, not for its drift alone."""
    if prepared.step_faults:
        return "Please report this: the exported step is not the network that was trained"
    tunable = prepared.graph.state is None
    ways = ["--qat 3"] * tunable + ["a higher --min-snr", "another --method"]
    ways += ["to allow more with --max-eer-rise"] * lost
    return f"Try {', '.join(ways[:-1])} or {ways[-1]}"


def write_model(prepared: Prepared, path: Path, target: card.Target) -> Path:
    """Write the graph and its card, both or neither."""
    card_name = path.with_suffix(".json").name
    properties = {
        "shrike.name": model_name(prepared),
        "shrike.version": __version__,
        "shrike.frontend": json.dumps(asdict(prepared.checkpoint.settings.frontend), sort_keys=True),
        "shrike.card": card_name,
    }
    model = copy.deepcopy(prepared.graph.graph)
    onnx.helper.set_model_props(model, properties)  # ONNX Runtime shows them as custom_metadata_map
    with atomic_files(path.parent, [path.name, card_name]) as folder:
        (folder / path.name).write_bytes(model.SerializeToString(deterministic=True))
        made = make_card(prepared, {path.name: sha256_file(folder / path.name)}, target)
        card.write_card(folder / card_name, made)
    return path


def model_name(prepared: Prepared) -> str:
    """Network, form, width and exit: ecanet9-streaming-x0.5-exit2."""
    model, exit = prepared.checkpoint.settings.model, prepared.source.exit
    streaming = "-streaming" if prepared.graph.state else ""
    width = "" if model.width == 1 else f"-x{model.width:g}"
    fused = "-fused" if prepared.source.fuse else ""
    return f"{model.network}{fused}{streaming}{width}{'' if exit is None else f'-exit{exit}'}"


def make_card(prepared: Prepared, files: dict[str, str], target: card.Target) -> card.ModelCard:
    """Collect everything known about the model; `files` maps names to sha256."""
    settings = prepared.checkpoint.settings
    model, shape = settings.model, prepared.graph.shape
    versions = {f"training: {name}": version for name, version in prepared.checkpoint.versions.items()}
    packages = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, **versions}
    return card.ModelCard(
        version=card.VERSION,
        name=model_name(prepared),
        created=card.created_now(),
        network=card.Network(model.network, model.width, prepared.source.exit or model.exits),
        frontend=settings.frontend,
        input=card.TensorSpec("features", shape),
        output=card.TensorSpec("logits", (shape[0], card.OUTPUTS)),
        state=prepared.graph.state,
        precision=prepared.precision,
        target=target,
        score=prepared.score,
        accuracy=prepared.accuracy,
        calibration=prepared.calibration,
        quantisation=prepared.quantisation,
        training=card.Training(
            corpus=prepared.checkpoint.corpus,
            epochs=prepared.checkpoint.progress.epoch,
            seed=settings.optimiser.seed,
            distill=settings.distillation.distill == "on",
            settings=settings.recipe(),
        ),
        files=files,
        origin=card.Origin(shrike=__version__, packages=packages),
        tensorrt=None,
        notes=(*_notes(prepared), *prepared.notes),
    )


def _notes(prepared: Prepared) -> tuple[str, ...]:
    level = prepared.checkpoint.settings.frontend.level
    notes = list[str]()
    if mean := SUBTRACTED.get(level):
        notes.append(f"the graph subtracts {mean} itself (frontend.level): feed raw log power")
    if prepared.fused is not None:
        recipe = prepared.fused.recipe()
        kept = ", ".join(f"{name} {recipe[name]}" for name in ("network", "width", "level", "epochs", "lr", "seed"))
        notes.append(f"the score is the mean with that of a second network: {kept}")
    if drift := prepared.drift:
        notes.append(f"error of INT8 in a minute of a stream: {drift.first:.4f} at first, {drift.sentence}")
    if prepared.calibration and prepared.calibration.trials < FEW:
        notes.append(f"calibrated on {prepared.calibration.trials} trials; expected {FEW} or more")
    return tuple(notes)
