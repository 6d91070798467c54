"""Supervised contrastive loss (Khosla et al., NeurIPS 2020) over originals and their vocoded copies.

Wang and Yamagishi (ICASSP 2023, arXiv 2210.10570) add it to training on vocoded fakes: each batch holds recordings and
their copies, so that only the vocoder's traces set the classes apart. Deviations: it acts on the pooled output of the
deepest stage instead of frames, without a projection, and on all clips of the batch.
"""

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.07  # of Khosla et al.


def contrastive(embedding: Tensor, target: Tensor) -> Tensor:
    """Pull windows of one class together and push the classes apart: (batch, width), (batch,) of 0 and 1."""
    unit = functional.normalize(embedding.float(), dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    likeness = (unit @ unit.T / TEMPERATURE).masked_fill(itself, -torch.inf)
    log_share = functional.log_softmax(likeness, dim=1)
    alike = (target[:, None] == target) & ~itself
    counts = alike.sum(dim=1)
    sums = torch.where(alike, log_share, 0.0).sum(dim=1)
    return -(sums / counts.clamp_min(1))[counts > 0].mean()
