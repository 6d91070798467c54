"""The verdict on what was prepared, and the card that keeps it.

judged = judge(prepared, prepared_scores)           # Rejected where too much was lost
card = make_card(prepared, judged, {"model.onnx": sha256}, "cpu")
"""

from typing import TYPE_CHECKING

from export import verify
from export.int8.calibration import FEW
from runtime import __version__
from runtime.card import model_card as card

if TYPE_CHECKING:
    from export.pipeline import Prepared

LEVEL_NOTES = {
    "window-mean": "the graph subtracts each window's mean itself (frontend.level): give it raw log power",
    "running-mean": "the graph subtracts the running mean itself (frontend.level): give it raw log power",
}
WHOLE = 4  # the exit that is the whole network

Judged = tuple[card.ScoreMap, card.Accuracy]


def judge(prepared: "Prepared", scores: verify.Scores | None, name: str) -> Judged:
    """Hold the scores of what would ship against the float network's; Rejected if too much was lost.

    The affine map to log-likelihood ratios is fitted on these scores: it belongs to the model that ships.
    """
    trials, before = prepared.trials, prepared.float_scores
    if trials is None or before is None or scores is None:
        return verify.unfitted(), verify.UNMEASURED
    limits = prepared.gate.limits
    comparison = verify.compare(before, scores, trials.labels, prepared.gate.asv, limits.bootstrap, trials.windows)
    lost, drifts = comparison.faults(limits), prepared.drift.faults if prepared.drift else []
    verify.show(comparison, lost + drifts, ("float", name))
    if lost or drifts:
        raise verify.Rejected(comparison, lost + drifts, advice(prepared, bool(lost)))
    fitted = verify.unfitted() if trials.labels is None else verify.fit_score(scores, trials.labels, trials.name)
    return fitted, comparison.accuracy(trials.name)


def advice(prepared: "Prepared", lost: bool) -> str:
    """What to try for a network that was rejected; `lost`: for its EER, and not for its drift alone."""
    tunable = prepared.step is None and len(prepared.float_graph.graph.output) == 1  # what --qat can do
    ways = ["--qat 3"] * tunable + ["a higher --min-snr", "another --method"]
    ways += ["to allow more with --max-eer-rise"] * lost
    return f"Try {', '.join(ways[:-1])} or {ways[-1]}"


def make_card(prepared: "Prepared", judged: Judged, files: dict[str, str], target: card.Target) -> card.ModelCard:
    """Everything known about the model; `files` maps names to sha256."""
    settings, source, (score, accuracy) = prepared.checkpoint.settings, prepared.source, judged
    model, frontend = settings.model, settings.frontend
    batch = 1 if prepared.batch == "1" else card.ANY_BATCH
    state = prepared.step.state if prepared.step else None
    streaming = "" if state is None else "-streaming"
    shape = "" if model.width == 1 else f"-x{model.width:g}"
    ending = "" if source.exit == WHOLE else f"-exit{source.exit}"
    return card.ModelCard(
        version=card.VERSION,
        name=f"{model.network}{streaming}{shape}{ending}",
        created=card.created_now(),
        network=card.Network(model.network, model.width, source.exit),
        frontend=frontend,
        input=card.TensorSpec("features", (batch, 1, frontend.bands, state.frames if state else frontend.width)),
        output=card.TensorSpec("logits", (batch, card.OUTPUTS)),
        state=state,
        precision=prepared.precision,
        target=target,
        score=score,
        accuracy=accuracy,
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
        origin=_origin(prepared),
        tensorrt=None,
        notes=_notes(prepared, score),
    )


def _notes(prepared: "Prepared", score: card.ScoreMap) -> tuple[str, ...]:
    """What a reader of the card should not overlook."""
    level = prepared.checkpoint.settings.frontend.level
    notes = [LEVEL_NOTES[level]] if level in LEVEL_NOTES else []
    if prepared.drift:
        drift = prepared.drift
        notes.append(f"error of INT8 in a minute of a stream: {drift.first:.4f} at first, {drift.sentence}")
    if prepared.calibration and prepared.calibration.trials < FEW:
        notes.append(f"calibrated on {prepared.calibration.trials} trials; {FEW} or more are wanted")
    if prepared.trials is not None and score.fitted_on is None:
        labelled = prepared.trials.labels is not None
        why = "on the development trials this model is worse than chance" if labelled else "the trials had no labels"
        notes.append(f"scores are raw, not likelihood ratios: {why}")
    return tuple(notes)


def _origin(prepared: "Prepared") -> card.Origin:
    import onnx
    import onnxruntime

    packages = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    packages |= {f"training: {name}": version for name, version in prepared.checkpoint.versions.items()}
    return card.Origin(shrike=__version__, packages=packages)
