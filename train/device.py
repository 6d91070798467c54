"""Device, precision and memory layout of a process and, under torchrun, its rank."""

import os
from dataclasses import dataclass

import torch

from runtime.support.errors import ShrikeError
from train.config import TrainConfig

NARROW = 0.5  # width factor below which the first stage has less than 16 channels


@dataclass(frozen=True)
class ComputeDevice:
    """Device, precision and rank of this process."""

    device: torch.device
    bf16: bool
    rank: int = 0
    world: int = 1
    layout: torch.memory_format = torch.channels_last  # of features and weights: fast for convolutions

    @property
    def first(self) -> bool:
        return self.rank == 0


def select_device(settings: TrainConfig) -> ComputeDevice:
    """Select the device; RANK, WORLD_SIZE and LOCAL_RANK are torchrun's environment variables."""
    wanted, rank, world = settings.run.device, int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ShrikeError(f"--device {wanted}: expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        if world > 1:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if (device.index or 0) >= torch.cuda.device_count():
            raise ShrikeError(
                f"--device {device}: PyTorch finds {torch.cuda.device_count()} CUDA devices; use --device cpu"
            )
        device = torch.device("cuda", device.index or 0)  # set_device takes no device without a number
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ShrikeError(f"--device {wanted}: expected auto, cpu, cuda or cuda:N")
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    bf16 = settings.run.precision == "bf16" or (
        settings.run.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    # On some CPUs (AMD, AVX-512, torch 2.11) oneDNN's backward pass of a 1x1 convolution with stride 2 and few channels
    # writes out of bounds in channels_last, and the process crashes.
    narrow = device.type == "cpu" and settings.model.width < NARROW
    return ComputeDevice(device, bf16, rank, world, torch.contiguous_format if narrow else torch.channels_last)
