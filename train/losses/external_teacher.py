"""A finished network as a teacher: what it says of a whole window is what a student shall say, at every step of it.

    mentor = ExternalTeacher(Path("runs/whole/model.pt"), settings.frontend, compute)
    said = mentor(raw)                           # raw log power (batch, 1, bands, 600) -> logits (batch, 2)

It sees the student's frames, augmented as the student sees them, at the level that it was itself trained with. It is
no part of what is saved: the checkpoint holds its hash, and a resumed run wants the same file.
"""

from pathlib import Path

import torch
from torch import Tensor

from runtime.audio.features import FrontEnd
from runtime.card.checksums import sha256_file
from runtime.support.errors import ShrikeError
from train.checkpoint import read_checkpoint
from train.data.frontend import level
from train.device import ComputeDevice


class ExternalTeacher:
    """Frozen, in eval mode, outside the modules that learn."""

    def __init__(self, path: Path, frontend: FrontEnd, compute: ComputeDevice) -> None:
        checkpoint = read_checkpoint(path)
        settings = checkpoint.settings
        if settings.model.streaming:
            raise ShrikeError(f"--teacher-model {path}: streams itself; one that sees whole windows was expected")
        if settings.frontend.with_level("none") != frontend.with_level("none"):
            ours, its = frontend.bands, settings.frontend.bands
            raise ShrikeError(
                f"--teacher-model {path}: was trained with --frontend {settings.data.frontend} ({its} bands); the same "
                f"as the student's ({ours} bands) was expected"
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
