"""A trained windowed network as teacher: its logits of a window are the soft targets of every stage and step.

    teacher = ExternalTeacher(Path("runs/whole/model.pt"), settings.frontend, compute)
    logits = teacher(raw)                        # raw log power (batch, 1, bands, 600) -> (batch, 2)

It receives the student's augmented frames, at the level of its own training. The checkpoint stores only the file's
hash; a resumed run requires the same file.
"""

from pathlib import Path

import torch
from torch import Tensor

from runtime.audio.features import FrontEnd
from runtime.card.checksums import sha256_file
from runtime.support.errors import ShrikeError
from train.checkpoint import read_checkpoint
from train.data.level import level
from train.device import ComputeDevice


class ExternalTeacher:
    """A frozen network in eval mode, outside the trained modules."""

    def __init__(self, path: Path, frontend: FrontEnd, compute: ComputeDevice) -> None:
        checkpoint = read_checkpoint(path)
        settings = checkpoint.settings
        if settings.model.streaming:
            raise ShrikeError(f"--teacher-model {path}: is a streaming model; a windowed one was expected")
        if settings.frontend.with_level("none") != frontend.with_level("none"):
            raise ShrikeError(
                f"--teacher-model {path}: has {settings.frontend.bands} bands (--frontend {settings.data.frontend}); "
                f"expected {frontend.bands}, as the student has"
            )
        self.identity = sha256_file(path)
        self.frontend, self.compute = settings.frontend, compute
        network = checkpoint.network().requires_grad_(False)
        self.network = network.to(compute.device, memory_format=compute.layout)  # type: ignore[call-overload]

    @torch.no_grad()
    def __call__(self, raw: Tensor) -> Tensor:
        features = level(raw, self.frontend).contiguous(memory_format=self.compute.layout)
        with torch.autocast(self.compute.device.type, torch.bfloat16, enabled=self.compute.bf16):
            logits: Tensor = self.network(features)
        return logits.float()
