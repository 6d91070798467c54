"""Self-distillation (Xue et al., ICASSP 2023): the deepest stage teaches the shallow ones while all of them learn.

    loss = alpha hard + (1 - alpha) soft + beta feature

    hard      the deepest classifier against the label: A-softmax, or another of train.networks.heads
    soft      sum over shallow stages of KL(teacher || student), both softened by T, times T^2
    feature   sum over shallow stages of the squared distance between the deepest pooled output and a projection of
              the shallow one, as a mean over its width

The teacher is detached in both, as in "Be your own teacher" (Zhang et al., ICCV 2019). All that exists only for this
stands in one module, `Helpers`: a network without it is simply the network, so stripping is leaving it out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.config import Distillation
from train.networks.heads import LOSSES, Head
from train.networks.senet import StagedNetwork


class Helpers(nn.Module):
    """A classifier and a projection to the deepest width for every stage but the last."""

    def __init__(self, widths: tuple[int, ...], head: type[Head]) -> None:
        super().__init__()
        self.classifiers = nn.ModuleList(head(width) for width in widths[:-1])
        self.projections = nn.ModuleList(nn.Linear(width, widths[-1]) for width in widths[:-1])


class Classroom(nn.Module):
    """A network, its helpers if it is distilled, and the loss. Its forward is one step, so that DDP can wrap it."""

    def __init__(self, network: StagedNetwork, settings: Distillation) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.hard = LOSSES[settings.loss](margin=settings.margin == "on")
        assert type(network.head) is self.hard.head, "build() the network for this loss"
        self.helpers = Helpers(network.widths, self.hard.head) if settings.distill == "on" else None
        self.embeddings = network.embeddings  # what torch.compile may replace

    def forward(self, features: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """(batch, 1, bands, 600), (batch,), optimiser step -> losses by name, `total` among them.

        A target in floating point is a mixed label (train.augment.specmix); what the teacher says needs no label.
        """
        pooled = [x.float() for x in self.embeddings(features)]
        with torch.autocast(features.device.type, enabled=False):  # the losses are small and want full precision
            deep = pooled[-1]
            logits = self.network.head(deep)
            losses = {"hard": self.hard(deep, logits, target, step)}
            if self.helpers is None:
                return {"total": losses["hard"], **losses}
            settings, zero = self.settings, torch.zeros((), device=deep.device)
            soft, feature = zero, zero
            for number, x in enumerate(pooled[:-1]):
                student = self.helpers.classifiers[number](x)
                losses[f"soft{number + 1}"] = distance(student, logits.detach(), settings.temperature)
                soft = soft + losses[f"soft{number + 1}"]
                projected = self.helpers.projections[number](x)
                losses[f"feature{number + 1}"] = functional.mse_loss(projected, deep.detach())
                feature = feature + losses[f"feature{number + 1}"]
            total = settings.alpha * losses["hard"] + (1 - settings.alpha) * soft + settings.beta * feature
            return {"total": total, **losses}

    @torch.no_grad()
    def scores(self, features: Tensor) -> Tensor:
        """(batch, exits): bona fide minus spoof; the last column is the whole network, the others its students."""
        pooled = [x.float() for x in self.embeddings(features)]
        classifiers = [*(self.helpers.classifiers if self.helpers else []), self.network.head]
        with torch.autocast(features.device.type, enabled=False):
            logits = [classify(x) for classify, x in zip(classifiers, pooled[-len(classifiers) :], strict=True)]
        return torch.stack([pair[:, 1] - pair[:, 0] for pair in logits], dim=1)


def distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch (Hinton et al., 2015)."""
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
