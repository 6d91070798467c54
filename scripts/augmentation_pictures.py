"""Draw each transform of training windows, and measure its cost.

python -m scripts.augmentation_pictures
python -m scripts.augmentation_pictures --out docs/augmentation
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.audio.features import PRESETS, RATE, FrontEnd
from runtime.support.atomic import atomic_file
from runtime.support.command import parse, run
from train.augment import CODECS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SECONDS = 5.3  # of sound a window of 600 frames is cut from, its lead included
SHOWN = 2.4  # s of sound in a picture
PICTURE = FrontEnd(window=512, bands=257, shape="bins", hop=130)  # a plain spectrogram, 0-8 kHz
DARKEST, BRIGHTEST = -21.0, 8.0  # log power of the colour scale's ends
DRAWS = 8  # of which a feature transform's picture shows the one that changed most
COLOURS = 32  # in a picture: small files, and no step that can be seen


@dataclass(frozen=True)
class Options:
    """Print what every transform costs as a Markdown table; with --out draw each instead."""

    out: Path | None = None
    """Folder of the pictures, a small PNG a transform: a made voice's spectrogram before and after."""
    rounds: int = 20
    """How often each transform is timed, on one window; the median counts."""
    seed: int = 11
    """Everything random follows from it; 11 draws gain and speed far from the middle."""


def main() -> None:
    options = parse(Options, "scripts.augmentation_pictures", __doc__)
    from train.augment.codecs import available
    from train.progress import say

    codecs, refused = available(CODECS, RATE)
    for sentence in refused:
        say(f"left out: {sentence}")
    if options.out:
        draw(options.out, codecs, options.seed)
    else:
        show_costs(codecs, options.rounds, options.seed)


def show_costs(codecs: tuple[str, ...], rounds: int, seed: int) -> None:
    """CPU time of one thread: a busy machine does not change it much. Feature transforms are timed on a batch of 32."""
    import numpy as np
    import torch

    from scripts.demonstration_sound import feature_transforms, sound_transforms, voice, whole_chain

    torch.set_num_threads(1)
    sound, dice = voice(RATE, SECONDS), np.random.default_rng(seed)
    torch.manual_seed(seed)
    print("| option | ms a window | windows/s |\n| --- | ---: | ---: |")

    def row(name: str, work: "Callable[[], object]", windows: int = 1) -> None:
        times = []
        for _ in range(rounds + 1):
            began = time.process_time()
            work()
            times.append((time.process_time() - began) / windows)
        spent = float(np.median(times[1:]))
        print(f"| {name} | {1000 * spent:.2f} | {1 / max(spent, 1e-9):,.0f} |")

    for one in sound_transforms(RATE, codecs):
        row(f"`{one.options}`", lambda one=one: one.transform(sound, dice))  # type: ignore[misc]
    chain = whole_chain(RATE, codecs)
    row("all on sound, half of the windows each", lambda: chain(sound, chain.draw_speed(dice), dice))
    for name, frontend in PRESETS.items():
        size = (frontend.width - 1) * frontend.hop + frontend.window
        row(f"front-end `{name}`", lambda frontend=frontend, size=size: frontend.frames(sound[:size]))  # type: ignore[misc]
    frontend = PRESETS["wide"]
    features = torch.randn(32, 1, frontend.bands, frontend.width)
    for other in feature_transforms(frontend):
        row(f"`{other.options}`", lambda other=other: other.transform(features), 32)  # type: ignore[misc]


def draw(folder: Path, codecs: tuple[str, ...], seed: int) -> None:
    import numpy as np
    import torch

    from scripts.demonstration_sound import feature_transforms, sound_transforms, voice
    from train.progress import say

    sound, other = voice(RATE, SHOWN), voice(RATE, SHOWN, pitch=210.0)
    made = []
    for one in sound_transforms(RATE, codecs):
        after = one.transform(sound, np.random.default_rng(seed))
        pair = [PICTURE.frames(samples).T for samples in (sound, after)]
        made.append(_picture(folder / f"{one.name}.png", one.options, pair, RATE / 2000))
    frontend = PRESETS["wide"]
    both = [frontend.frames(samples).T for samples in (sound, other[::-1].copy())]
    features = torch.from_numpy(np.stack(both * DRAWS))[:, None]
    for two in feature_transforms(frontend):
        torch.manual_seed(seed)
        after = two.transform(features)[::2, 0].numpy()
        plainest = int(np.abs(after - both[0]).mean(axis=(1, 2)).argmax())  # a mask may as well be empty
        pair = [both[0], after[plainest]]
        made.append(_picture(folder / f"{two.name}.png", two.options, pair, RATE / 2000))
    say(f"{len(made)} pictures in {folder}, {sum(path.stat().st_size for path in made) / 1000:.0f} kB")


def _picture(path: Path, title: str, pair: "list[NDArray[np.float32]]", top: float) -> Path:
    """Before on the left, after on the right, one colour scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    figure, axes = pyplot.subplots(1, 2, figsize=(6.4, 1.7), sharey=True, layout="constrained")
    for axis, name, frames in zip(axes, ("before", title), pair, strict=True):
        extent = (0, frames.shape[1] * PICTURE.hop / RATE, 0, top)
        axis.imshow(frames, "magma", aspect="auto", origin="lower", extent=extent, vmin=DARKEST, vmax=BRIGHTEST)
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("s", fontsize=7, labelpad=0)
    axes[0].set_ylabel("kHz", fontsize=7)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=84, metadata={"Software": None})
        pyplot.close(figure)
        with Image.open(temporary) as drawn:
            small = drawn.convert("RGB").quantize(COLOURS)
        small.save(temporary, optimize=True)
    return path


if __name__ == "__main__":
    run(main)
