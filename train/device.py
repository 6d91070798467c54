"""Where a process computes, in which precision, and, under torchrun, which of how many it is."""

import os
from dataclasses import dataclass

import torch

from runtime.support.errors import ShrikeError
from train.config import TrainConfig

NARROW = 0.5  # of a network's width: below it the first stage has less than 16 channels


@dataclass(frozen=True)
class ComputeDevice:
    """Where this process computes, and which of how many it is."""

    device: torch.device
    bf16: bool
    rank: int = 0
    world: int = 1
    layout: torch.memory_format = torch.channels_last  # of features and weights: what convolutions are fast in

    @property
    def first(self) -> bool:
        return self.rank == 0


def select_device(settings: TrainConfig) -> ComputeDevice:
    """Device, precision and, under torchrun, rank: RANK, WORLD_SIZE and LOCAL_RANK are its environment variables."""
    wanted, rank, world = settings.run.device, int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ShrikeError(f"--device {wanted}: auto, cpu, cuda or cuda:N was expected") from error
    if device.type == "cuda":
        if world > 1:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if (device.index or 0) >= torch.cuda.device_count():
            raise ShrikeError(
                f"--device {device}: PyTorch sees {torch.cuda.device_count()} CUDA devices here; use --device cpu"
            )
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ShrikeError(f"--device {wanted}: auto, cpu, cuda or cuda:N was expected")
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    bf16 = settings.run.precision == "bf16" or (
        settings.run.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    # On some CPUs (seen: AMD, AVX-512, torch 2.11) oneDNN's backward pass of a 1x1 convolution with stride 2 and few
    # channels writes beyond its memory in that layout, and the process dies.
    narrow = device.type == "cpu" and settings.model.width < NARROW
    return ComputeDevice(device, bf16, rank, world, torch.contiguous_format if narrow else torch.channels_last)
