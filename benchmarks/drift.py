"""An hour without a reset: does a network that remembers say, step by step, what it says of the whole, and INT8 too?

    python -m benchmarks.drift runs/model/model.pt deploy/model.onnx --corpus /data/ASVspoof2019/LA
    python -m benchmarks.drift runs/model/model.pt deploy/model.onnx --corpus ../shared/corpus --minutes 5

Clips of the corpus, one behind the other and never a reset, go three ways; the last minute is the first one again:

    |= minute 1 =|... clips ...|= minute 1 again =|
    whole      the checkpoint's own network, all of it in one call
    float      its step graph, 16 new frames a call
    file       what was exported, 16 new frames a call

Their scores are compared behind every step. Exit code 3: float steps are not the whole, or the file's error grew.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Cell, Table
    from export.graph import Floats
    from export.verify import Scores
    from train.checkpoint import Checkpoint

OUT = "runs/reports/drift-%Y%m%d-%H%M%S"
EQUAL = 1e-4  # of a score, relative above 1: float32 sums in another order, over an hour
DRIFTED = 3  # exit code


@dataclass(frozen=True)
class Options:
    """Compare a network that remembers with itself over an hour without a reset."""

    model: tyro.conf.Positional[Path]
    """A model.pt that python -m train --streaming wrote."""
    exported: tyro.conf.Positional[Path]
    """The model.onnx or model.engine that was made of it, with its card."""
    corpus: Path
    """Folder of the corpus, as for python -m train."""
    partition: Literal["train", "dev", "eval"] = "dev"
    """Which of its protocols: its clips are heard in an order by chance, again from the start where they end."""
    minutes: int = 60
    """How long. The forward of an hour in one call takes 6.4 GB of memory at --width 0.5, twice that at 1."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept between runs; safe to delete."""
    out: Path | None = None
    """Folder of the report; by default a new one under runs/reports."""
    overwrite: bool = False
    """Replace the report that stands there."""

    def __post_init__(self) -> None:
        from export.streaming_eval import SHORTEST

        if not SHORTEST <= self.minutes <= 24 * 60:
            raise ShrikeError(f"--minutes {self.minutes}: {SHORTEST} to {24 * 60} were expected")


def main() -> int:
    options = parse(Options, "benchmarks.drift", __doc__)
    import numpy as np

    from benchmarks import host
    from benchmarks.markdown import table_text
    from benchmarks.report import check_place, new_report, report_folder, write_report
    from export.int8.calibration import clip_input
    from export.streaming_eval import FORGOTTEN, long_sound
    from export.streaming_graph import Stream, trace
    from export.strip import DeployedStream, strip
    from runtime.card.model_card import read_card
    from runtime.engines import as_streaming, open_engine
    from train.checkpoint import read_checkpoint
    from train.data.cache import build_cache
    from train.data.corpus import open_corpus
    from train.progress import say

    out = options.out or Path(time.strftime(OUT))
    check_place(out, options.overwrite)
    partition = open_corpus(options.corpus, options.partition)
    checkpoint, file = read_checkpoint(options.model), open_engine(options.exported)
    deployed, engine = strip(checkpoint), as_streaming(file)
    if engine is None or not isinstance(deployed, DeployedStream):
        odd = options.exported if engine is None else options.model
        raise ShrikeError(f"{odd} looks at whole windows and forgets them; a network of --streaming was expected")
    frontend, frames = checkpoint.settings.frontend, engine.state.frames
    if frontend != read_card(options.exported).frontend:
        raise ShrikeError(
            f"{options.exported} has another front-end than {options.model}: what was exported of it was expected"
        )
    cache = build_cache(frontend, partition.trials, options.cache)
    clip = np.concatenate([clip_input(piece, frames) for piece in long_sound(cache, options.minutes, frames)], axis=3)
    stream, buffers = Stream(trace(deployed, frontend, frames)), engine.batch_buffers(1)

    def seated(features: "Floats") -> "Floats":
        buffers.features[:1] = features
        return buffers.run(1)

    steps = stepped("float steps", lambda features: stream(features)[0], clip, frames)
    shipped = stepped(f"steps of {options.exported.name}", seated, clip, frames)
    say(f"{options.minutes} minutes in one call")
    whole = whole_scores(checkpoint, clip, frames)
    table, faults = compare(whole, steps, shipped, options.minutes, file.precision)
    file.close()
    conditions = {
        "sound": f"{options.minutes} minutes of {partition.describe()}, in an order by chance",
        "steps": f"{len(steps):,} of {frames} frames, without a reset",
        "not counted": f"the first {FORGOTTEN:.0f} s of both minutes: until what was before them is forgotten",
    }
    title = f"{options.minutes} minutes of {file.name} without a reset"
    report = new_report("drift", title, host.describe(), conditions, [table], faults)
    with report_folder(out, options.overwrite) as folder:
        write_report(folder, report)
    print(table_text(table))
    for fault in faults:
        say(fault)
    say(f"report: {out}/report.md")
    return DRIFTED if faults else 0


def stepped(title: str, step: "Callable[[Floats], Floats]", clip: "Floats", frames: int) -> "Scores":
    """Scores behind every step of a long clip (1, 1, bands, n), (steps,)."""
    import numpy as np

    from export.graph import score
    from export.streaming_graph import steps
    from train.progress import Progress

    found = np.empty(clip.shape[3] // frames)
    with Progress(title, len(found), "steps") as bar:
        for place, features in enumerate(steps(clip, frames)):
            found[place] = score(step(features))[0]
            bar.advance()
    return found


def whole_scores(checkpoint: "Checkpoint", clip: "Floats", frames: int) -> "Scores":
    """The same scores from one forward of the checkpoint's network: what it says of each map frame, and of those the
    mean over the newest, by the definition."""
    import numpy as np
    import torch

    from export.graph import score
    from runtime.audio.features import level
    from train.networks.streaming import StreamingNetwork

    network = checkpoint.network().eval()
    assert isinstance(network, StreamingNetwork)
    flat = level(clip[0, 0].T, checkpoint.settings.frontend.level).T
    rows: list[torch.Tensor] = []
    network.newest.register_forward_pre_hook(lambda layer, given: rows.append(given[0]))
    with torch.inference_mode():
        network(torch.from_numpy(np.ascontiguousarray(flat))[None, None])
        said = rows[0][0, :-1].double()  # (rows, map frames), less the row of ones
        sums = np.concatenate([np.zeros((len(said), 1)), np.cumsum(said.numpy(), axis=1)], axis=1)
        ends = np.arange(1, clip.shape[3] // frames + 1) * frames // network.stride
        starts = np.maximum(ends - network.newest.slots, 0)
        means = torch.from_numpy((sums[:, ends] - sums[:, starts]) / (ends - starts)).T.float()  # (steps, rows)
        return score((network.head(means) if network.head.cosine else means).numpy())


def compare(
    whole: "Scores", steps: "Scores", shipped: "Scores", minutes: int, precision: str
) -> "tuple[Table, list[str]]":
    """The table of differences, and what is wrong with them."""
    import numpy as np

    from benchmarks.report import Column, Table
    from export.streaming_eval import Drift

    rows: list[dict[str, Cell]] = []
    names = (
        ("float steps", "the whole in one call", whole, steps),
        (f"{precision} file", "float steps", steps, shipped),
    )
    for name, against, before, after in names:
        drift, change = Drift.of(after - before, minutes), float(np.abs(after - before).max())
        together = float(np.corrcoef(before, after)[0, 1])
        rows.append({
            "scores": name, "against": against, "first minute": drift.first, "last minute": drift.last,
            "largest": change, "correlation": together,
        })  # fmt: skip
    limit = EQUAL * max(1.0, float(np.abs(whole).max()))
    apart = float(np.abs(steps - whole).max())
    faults = [f"float steps differ from the whole by {apart:.2g}, {limit:.2g} is allowed"] if apart > limit else []
    found = Drift.of(shipped - steps, minutes)
    if found.last > limit:  # less is float32's own
        faults += found.faults
    columns = (
        Column("scores", key=True), Column("against", key=True), Column("first minute"), Column("last minute"),
        Column("largest"), Column("correlation", digits=6),
    )  # fmt: skip
    about = (
        "Differences of scores behind every step: root mean square in the first and in the last minute, which are the "
        "same sound, and the largest of all."
    )
    return Table.of("drift", "Without a reset", about, columns, rows), faults


if __name__ == "__main__":
    run(main)
