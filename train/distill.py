"""Self-distillation (Xue et al., ICASSP 2023): the deepest stage teaches the shallow ones while all of them learn.

    loss = alpha hard + (1 - alpha) soft + beta feature

    hard      the deepest classifier against the label: A-softmax, or another of train.networks.heads
    soft      sum over students of KL(teacher || student), both softened by T, times T^2
    feature   sum over students of the squared distance between the teacher's pooled output and a projection of the
              student's, as a mean over its width

Students are the shallow stages. The teacher is detached in both, as in "Be your own teacher" (Zhang et al., ICCV 2019).
Three things can be other than published: who teaches (train.teachers), what of the features is compared
(train.alignment) and how the three losses are weighed (train.balance). All that exists only for this stands in one
module, `Helpers`: a network without it is simply the network, so stripping is leaving it out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.alignment import ALIGNMENTS
from train.balance import BALANCES
from train.config import Distillation
from train.networks.heads import LOSSES
from train.networks.senet import StagedNetwork
from train.teachers import TEACHERS
from train.views import View, views

Weights = dict[str, Tensor]


class Helpers(nn.Module):
    """A classifier for every stage but the last, whoever teaches, and what compares and weighs."""

    def __init__(self, network: StagedNetwork, settings: Distillation) -> None:
        super().__init__()
        widths, self.temperature = network.widths, settings.temperature
        self.classifiers = nn.ModuleList(type(network.head)(width) for width in widths[:-1])
        self.teacher = TEACHERS[settings.teacher](network, self.classifiers, settings)
        # Named after the paper's; so checkpoints call it.
        align = ALIGNMENTS[settings.feature]
        self.projections = nn.ModuleList(align(*pair) for pair in self.teacher.widths(widths))
        self.energy = align.energy
        self.balance = BALANCES[settings.balance](
            {"hard": settings.alpha, "soft": 1 - settings.alpha, "feature": settings.beta}
        )

    def forward(self, hard: Tensor, seen: list[View], features: Tensor) -> dict[str, Tensor]:
        """All losses by name, from the label's, what the stages see, and what they were shown."""
        losses, zero = {"hard": hard}, torch.zeros((), device=hard.device)
        soft, feature = zero, zero
        pairs = self.teacher.lessons(seen, features)
        with torch.autocast(hard.device.type, enabled=False):
            for (number, teacher), align in zip(pairs, self.projections, strict=True):
                student = seen[number]
                losses[f"soft{number + 1}"] = distance(student.logits, teacher.logits, self.temperature)
                soft = soft + losses[f"soft{number + 1}"]
                losses[f"feature{number + 1}"] = align(student, teacher)
                feature = feature + losses[f"feature{number + 1}"]
            total, weights = self.balance({"hard": hard, "soft": soft, "feature": feature})
        return {"total": total, **losses, **weights}


class Classroom(nn.Module):
    """A network, its helpers if it is distilled, and the loss. Its forward is one step, so that DDP can wrap it."""

    def __init__(self, network: StagedNetwork, settings: Distillation) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.hard = LOSSES[settings.loss](margin=settings.margin == "on")
        assert type(network.head) is self.hard.head, "build() the network for this loss"
        self.helpers = Helpers(network, settings) if settings.distill == "on" else None
        self.stages = network.stage_outputs  # what torch.compile may replace

    def forward(self, features: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """(batch, 1, bands, 600), (batch,), optimiser step -> losses by name, `total` among them.

        A target in floating point is a mixed label (train.augment.specmix); what the teacher says needs no label.
        """
        energy = self.helpers is not None and self.helpers.energy
        seen = views(self.stages, [*self.shallow, self.network.head], features, energy)
        with torch.autocast(features.device.type, enabled=False):  # the losses are small and want full precision
            hard = self.hard(seen[-1].pooled, seen[-1].logits, target, step)
        if self.helpers is None:
            return {"total": hard, "hard": hard}
        losses: dict[str, Tensor] = self.helpers(hard, seen, features)
        return losses

    def advance(self, step: int) -> None:
        """After optimiser step `step`: what follows the weights takes them over."""
        if self.helpers is not None:
            self.helpers.teacher.advance(self.network, self.helpers.classifiers, step)

    @property
    def shallow(self) -> nn.ModuleList:
        """The classifiers of all stages but the last; a network that is not distilled has none."""
        return nn.ModuleList() if self.helpers is None else self.helpers.classifiers

    def shipping(self) -> tuple[StagedNetwork, nn.ModuleList]:
        """The network that is judged and deployed, and its shallow classifiers."""
        if self.helpers is None:
            return self.network, self.shallow
        return self.helpers.teacher.ships(self.network, self.shallow)

    def state(self) -> tuple[Weights, Weights]:
        """What training goes on with: the network's weights, and the helpers'."""
        return self.network.state_dict(), {} if self.helpers is None else self.helpers.state_dict()

    def shipped_state(self) -> tuple[Weights, Weights]:
        """The same with the network that ships, and its classifiers, in the trained one's place."""
        network, shallow = self.shipping()
        return network.state_dict(), {**self.state()[1], **shallow.state_dict(prefix="classifiers.")}

    @torch.no_grad()
    def scores(self, features: Tensor) -> Tensor:
        """(batch, exits): bona fide minus spoof; the last column is the whole network, the others its students."""
        network, shallow = self.shipping()
        stages = self.stages if network is self.network else network.stage_outputs
        logits = [view.logits for view in views(stages, [*shallow, network.head], features)]
        return torch.stack([pair[:, 1] - pair[:, 0] for pair in logits], dim=1)


def distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch (Hinton et al., 2015)."""
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
