"""Records of a run: history.jsonl, TensorBoard events and a plot of the curves."""

import json
import time
from pathlib import Path
from typing import Any

from runtime.support.atomic import atomic_file
from train.progress import say

DRAW_EVERY = 15.0  # s between plots, which take half a second: an epoch may be as short


class History:
    """One entry per epoch, and the files that are written from the entries."""

    def __init__(self, folder: Path, settings: dict[str, Any], write: bool = True) -> None:
        self.folder, self.write = folder, write
        self.entries: list[dict[str, Any]] = []
        self._settings = settings
        self._board: Any = None  # False if TensorBoard is not installed
        self._drawn, self._drawn_at = 0, -DRAW_EVERY  # entries in the plot, and when it was drawn

    def add(self, entry: dict[str, Any]) -> bool:
        """Add an epoch and log it; return whether it is the best so far: lowest dev EER, ties by dev loss."""
        self.entries = [*self.entries, entry]
        best = self.best() is entry
        if self.write:
            self._files(entry)
            exits = "".join(f" {100 * value:.2f}" for value in entry["dev_exits"].values())
            say(
                f"epoch {entry['epoch']:3d}  loss {entry['loss']['total']:.4f}  dev EER {100 * entry['dev_eer']:.2f} %"
                + (f" (exits{exits})" if exits else "")
                + f"  dev loss {entry['dev_loss']:.3f}  {entry['clips_per_second']:.0f} clips/s"
                + ("  best so far" if best else "")
            )
            for name, value in entry.get("dev_corpora", {}).items():
                say(f"    {name}: dev EER {100 * value:.2f} %")
        return best

    def best(self) -> dict[str, Any]:
        return min(self.entries, key=lambda entry: (entry["dev_eer"], entry["dev_loss"]))

    def restore(self, entries: list[dict[str, Any]]) -> None:
        """Set the entries of a resumed run."""
        self.entries = list(entries)
        self._drawn = len(self.entries)

    def close(self) -> None:
        if self._board:
            self._board.close()
        if self.write and self._drawn < len(self.entries):
            self._draw()

    def _files(self, entry: dict[str, Any]) -> None:
        with atomic_file(self.folder / "history.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(item) + "\n" for item in self.entries), "utf-8")
        self._tensorboard(entry)
        if time.monotonic() - self._drawn_at > DRAW_EVERY:
            self._draw()

    def _draw(self) -> None:
        with atomic_file(self.folder / "curves.png") as temporary:
            draw_curves(self.entries, temporary, str(self.folder))
        self._drawn, self._drawn_at = len(self.entries), time.monotonic()

    def _tensorboard(self, entry: dict[str, Any]) -> None:
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                say("no TensorBoard events are written; to get them: pip install tensorboard")
                self._board = False
            else:
                # purge_step hides events that a killed run wrote after its checkpoint
                self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=entry["epoch"])
                self._board.add_text("settings", f"```json\n{json.dumps(self._settings, indent=2)}\n```")
        if self._board:
            for name, value in flatten(entry).items():
                self._board.add_scalar(name, value, entry["epoch"])
            self._board.flush()


def flatten(entry: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Flatten {"loss": {"hard": 1.0}} to {"loss/hard": 1.0}."""
    flat: dict[str, float] = {}
    for name, value in entry.items():
        flat |= flatten(value, f"{prefix}{name}/") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def draw_curves(entries: list[dict[str, Any]], path: Path, title: str) -> None:
    """Plot the losses on the left and the dev EER of every exit on the right, with the best epoch marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [entry["epoch"] for entry in entries]
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    losses, errors = figure.subplots(1, 2)
    for name in entries[-1]["loss"]:
        heavy = name in ("total", "hard")
        values = [entry["loss"].get(name, float("nan")) for entry in entries]
        losses.plot(epochs, values, label=name, linewidth=2 if heavy else 1, marker=".")
    losses.plot(epochs, [entry["dev_loss"] for entry in entries], "k--", label="dev (plain cross-entropy)")
    losses.set(title="losses in training", xlabel="epoch", yscale="log")
    for name in entries[-1]["dev_exits"]:
        errors.plot(epochs, [100 * entry["dev_exits"][name] for entry in entries], label=name, linewidth=1, marker=".")
    errors.plot(
        epochs, [100 * entry["dev_eer"] for entry in entries], "k", label="whole network", linewidth=2, marker="."
    )
    best = min(entries, key=lambda entry: (entry["dev_eer"], entry["dev_loss"]))
    label = f"best: {100 * best['dev_eer']:.2f} % in epoch {best['epoch']}"
    errors.plot(
        best["epoch"], 100 * best["dev_eer"], "o", markersize=11, fillstyle="none", color="tab:red", label=label
    )
    errors.set(title="EER on dev, %", xlabel="epoch", ylim=(0, None))
    for axes in (losses, errors):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=110)
