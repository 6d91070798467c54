"""Export a self-distilled checkpoint as a cascade: the network in segments, each with a classifier that may end it.

python -m export.cascade runs/distilled/model.pt --calibration /data/ASVspoof2019/LA
python -m export.cascade runs/distilled/model.pt --calibration /data/ASVspoof2019/LA --max-loss 0.02 --out deploy/
python -m runtime.stream --cascade --model deploy/model.onnx --mic

Writes what python -m export.onnx writes (INT8 for CPUs), one ONNX file more for each segment, and a card that says when
to stop. Where nothing is saved at --max-loss, or too much is lost, nothing is written: exit code 3. docs/cascade.md
says how the thresholds are chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from export.pipeline import Gate, Int8, Prepared, Source, place, prepare
from runtime.command import parse, run
from runtime.errors import ShrikeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from export.policy import Choice, Scored
    from export.segments import Part
    from export.verify import Trials
    from runtime.card import ModelCard
    from runtime.cascade import Cascade


@dataclass(frozen=True)
class Options:
    """Export a self-distilled checkpoint as a cascade."""

    source: tyro.conf.OmitArgPrefixes[Source]
    max_loss: float = 0.002
    """Bits by which the cascade's Cllr may exceed the whole network's on development trials."""
    int8: tyro.conf.OmitArgPrefixes[Int8] = field(default_factory=Int8)
    gate: tyro.conf.OmitArgPrefixes[Gate] = field(default_factory=Gate)

    def __post_init__(self) -> None:
        demands = [
            (self.max_loss > 0, f"--max-loss {self.max_loss}: bits above 0 were expected; 0.002 is very little"),
            (self.source.exit == 4, "--exit: a cascade has several, and chooses them itself; leave it out"),
            (self.source.batch != "dynamic", "--batch dynamic: a cascade decides window by window; leave it out"),
            (self.int8.qat == 0, "--qat: fine-tuning knows the last exit alone, and would leave the others behind"),
        ]
        for holds, sentence in demands:
            if not holds:
                raise ShrikeError(sentence)


def main() -> None:
    print(write(parse(Options, "export.cascade", __doc__)))


def write(options: Options) -> Path:
    """model.onnx, a file for every segment, and model.json: all or none; returns the path of the first."""
    from export import graph, policy, segments, verify
    from export.record import judge, make_card
    from runtime.card import write_card
    from runtime.files import whole_files
    from runtime.hashes import sha256_file

    prepared = prepare(options.source, options.int8, options.gate, "int8", "uint8", exits=True)
    trials = prepared.trials
    if trials is None or trials.labels is None:
        raise ShrikeError("thresholds need development trials with labels: leave --verification-protocol out")
    whole = segments.keep(prepared.graph, [graph.OUTPUT])
    scored = score_exits(prepared, trials)
    judged = judge(prepared, scored.scores[:, -1], "int8")
    if judged[0].fitted_on is None:
        raise ShrikeError(
            "the network is worse than chance on the development trials: no exit of it can be believed, train it longer"
        )
    losses = sorted({*policy.LOSSES, options.max_loss})
    choices = dict(zip(losses, policy.curve(scored, losses, options.int8.seed), strict=True))
    show(scored, choices)
    choice = choices[options.max_loss]
    if choice is None:
        raise verify.Rejected(
            None,
            [f"no thresholds save {100 * policy.LEAST_SAVING:.0f} % of the cost at --max-loss {options.max_loss:g}"],
            "Allow more, as the table shows, or stay with the whole network: python -m export.onnx",
        )
    parts = segments.split(prepared.graph, taking_part(choice))
    path = place(options.source, ".onnx")
    card_name = path.with_suffix(".json").name
    names = [f"{path.stem}-{part.exit}.onnx" for part in parts]
    with whole_files(path.parent, [path.name, *names, card_name]) as folder:
        for name, model in zip([path.name, *names], [whole, *(part.graph for part in parts)], strict=True):
            (folder / name).write_bytes(model.SerializeToString(deterministic=True))
        files = {name: sha256_file(folder / name) for name in (path.name, *names)}
        cascade = describe(prepared, parts, names, choice, trials.name)
        card = replace(make_card(prepared, judged, files, "cpu"), cascade=cascade)
        card = hold_against(options, card, [(folder / name).read_bytes() for name in names], trials, whole)
        write_card(folder / card_name, card)
    return path


def score_exits(prepared: Prepared, trials: "Trials") -> "Scored":
    """Development windows by every exit of the INT8 network, and what each exit costs."""
    import numpy as np

    from export import graph, segments
    from export.policy import Scored
    from train.progress import Progress

    session = graph.open_session(prepared.graph)
    outputs = [item.name for item in prepared.graph.graph.output]
    scores = np.empty((len(trials), len(outputs)))
    with Progress("INT8, every exit", len(trials), "windows") as bar:
        for row, window in enumerate(trials):
            logits = np.concatenate(session.run(outputs, {graph.INPUT: window}))  # (exits, 2)
            scores[row] = graph.score(logits)
            bar.advance()
    costs = segments.multiply_adds(prepared.float_graph)
    every = segments.split(prepared.graph, range(1, len(outputs) + 1))
    totals = np.cumsum([segments.spent(costs, part) for part in every])
    assert trials.labels is not None
    return Scored(scores, trials.labels, speakers(trials), tuple(map(float, totals)))


def speakers(trials: "Trials") -> "NDArray[np.int64]":
    """(windows,) a number for each speaker; where the protocol names next to none, for each clip."""
    import numpy as np

    from export.policy import FOLDS

    clips = trials.cache.trials
    names = [trial.speaker for trial in clips]
    if len(set(names)) < 4 * FOLDS:
        names = [trial.utterance for trial in clips]
    numbers = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return np.repeat(numbers, trials.windows)


def taking_part(choice: "Choice") -> list[int]:
    """The exits of a policy, the last among them."""
    from export.policy import NEVER

    cuts = choice.policy.cuts
    return [place + 1 for place, cut in enumerate(cuts) if cut != NEVER] + [len(cuts) + 1]


def describe(
    prepared: Prepared, parts: "Sequence[Part]", names: Sequence[str], choice: "Choice", trials: str
) -> "Cascade":
    """As the card keeps it."""
    import math

    from export import segments
    from runtime.cascade import Cascade, Map, Segment, Tradeoff

    costs, total, found = segments.multiply_adds(prepared.float_graph), 0, []
    for part, name in zip(parts, names, strict=True):
        total += segments.spent(costs, part)
        score = choice.policy.maps[part.exit - 1]
        low, high = choice.policy.cuts[part.exit - 1] if part.map is not None else (-math.inf, math.inf)
        onward = None
        if part.map is not None:
            onward = Map(part.map.name, segments.shape_of(part.map), segments.type_of(part.map))
        found.append(
            Segment(
                file=name,
                exit=part.exit,
                logits=part.logits,
                map=onward,
                multiply_adds=total,
                scale=score.scale,
                offset=score.offset,
                low=None if math.isinf(low) else low,
                high=None if math.isinf(high) else high,
            )
        )
    held, fitted = choice.held_out, choice.fitted
    dev = Tradeoff(
        trials=trials,
        max_loss=choice.max_loss,
        loss=held.loss,
        loss_limit=held.limit,
        multiply_adds=held.multiply_adds * total,
        loss_fitted=fitted.loss,
        multiply_adds_fitted=fitted.multiply_adds * total,
        eer_whole=0.0,  # both from the files themselves: hold_against()
        eer=0.0,
        decided=tuple(fitted.decided[part.exit - 1] for part in parts),
    )
    return Cascade(tuple(found), dev)


def hold_against(
    options: Options, card: "ModelCard", models: Sequence[bytes], trials: "Trials", whole: object
) -> "ModelCard":
    """The gate: segments that never stop give the whole network's scores to the last bit, and a cascade's EER rises by
    no more than --max-eer-rise. The card comes back with both EERs."""
    import numpy as np

    from export import verify
    from export.graph import as_engine
    from runtime.engines.cascade import CascadeEngine

    cascade = card.cascade
    assert cascade is not None
    before = trials.scores(as_engine(whole), "INT8, whole")  # type: ignore[arg-type]
    endless = replace(cascade, segments=tuple(replace(part, low=None, high=None) for part in cascade.segments))
    chained = trials.scores(CascadeEngine(models, replace(card, cascade=endless)), "segments, to the end")
    if not np.array_equal(chained, before):
        change = float(np.abs(chained - before).max())
        raise ShrikeError(
            f"the segments one after the other change a score by {change:.2g}: ONNX Runtime computes them otherwise "
            "than the whole network here; nothing was written; export on another machine, or with another ONNX Runtime"
        )
    after = trials.scores(CascadeEngine(models, card), "cascade")
    comparison = verify.compare(before, after, trials.labels, options.gate.asv, options.gate.bootstrap, trials.windows)
    faults = comparison.faults(options.gate.limits)
    verify.show(comparison, faults, ("whole", "cascade"))
    if faults:
        raise verify.Rejected(comparison, faults, "Try a lower --max-loss, or allow more with --max-eer-rise")
    assert comparison.eer_before is not None and comparison.eer_after is not None
    dev = replace(cascade.dev, eer_whole=comparison.eer_before, eer=comparison.eer_after)
    return replace(card, cascade=replace(cascade, dev=dev))


def show(scored: "Scored", choices: "dict[float, Choice | None]") -> None:
    """What each exit knows alone, and what other losses would save: two tables on stderr."""
    from rich.box import SIMPLE
    from rich.table import Table

    from export import policy
    from train.progress import CONSOLE

    alone = Table("exit, alone", "EER %", "Cllr, bit", "multiply-adds %", box=SIMPLE)
    for exit, (share, (eer, cllr)) in enumerate(zip(scored.shares, policy.alone(scored), strict=True), start=1):
        alone.add_row(f"{exit}", f"{100 * eer:.2f}", f"{cllr:.4f}", f"{100 * share:.1f}")
    CONSOLE.print(alone)
    table = Table("allowed, bit", "held out", "limit", "multiply-adds %", "EER %", "by exit, %", box=SIMPLE)
    for max_loss, choice in choices.items():
        if choice is None:
            table.add_row(f"{max_loss:g}", "-", "-", "100", "-", "nothing is saved")
            continue
        held = choice.held_out
        table.add_row(
            f"{max_loss:g}",
            f"{held.loss:+.4f}",
            f"{held.limit:+.4f}",
            f"{100 * held.multiply_adds:.1f}",
            f"{100 * held.eer:.2f}",
            " ".join(f"{100 * share:.0f}" for share in held.decided),
        )
    CONSOLE.print(table)


if __name__ == "__main__":
    run(main)
