"""Self-distillation (Xue et al., ICASSP 2023): the deepest stage teaches the shallow ones while all of them learn.

    loss = alpha hard + (1 - alpha) soft + beta feature

    hard      the deepest classifier against the label: A-softmax, or another of train.networks.heads
    soft      sum over students of KL(teacher || student), both softened by T, times T^2
    feature   sum over students of the squared distance between the teacher's pooled output and a projection of the
              student's, as a mean over its width

Students are the shallow stages. The teacher is detached in both, as in "Be your own teacher" (Zhang et al., ICCV 2019).
Three things can be other than published: who teaches (train.losses.teachers), what of the features is compared
(train.losses.alignment) and how the three losses are weighed (train.losses.weighting). All that exists only for this stands in one
module, `Helpers`: a network without it is simply the network, so stripping is leaving it out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.config import Distillation
from train.losses.alignment import ALIGNMENTS
from train.losses.softmax import LOSSES
from train.losses.stage_outputs import StageOutput, run_stages
from train.losses.teachers import TEACHERS
from train.losses.weighting import BALANCES
from train.networks.senet import StagedNetwork

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

    def forward(
        self, hard: Tensor, seen: list[StageOutput], features: Tensor, said: Tensor | None
    ) -> dict[str, Tensor]:
        """All losses by name, from the label's, what the stages see, what they were shown, and what a model said."""
        losses, zero = {"hard": hard}, torch.zeros((), device=hard.device)
        soft, feature = zero, zero
        pairs = self.teacher.lessons(seen, features)
        spoken = {number: teacher.logits for number, teacher in pairs}
        if said is not None:  # of every row, to every stage
            spoken = dict.fromkeys(range(len(seen)), said.repeat_interleave(len(seen[-1].logits) // len(said), dim=0))
        with torch.autocast(hard.device.type, enabled=False):
            for number, logits in spoken.items():
                losses[f"soft{number + 1}"] = distance(seen[number].logits, logits, self.temperature)
                soft = soft + losses[f"soft{number + 1}"]
            for (number, teacher), align in zip(pairs, self.projections, strict=True):
                losses[f"feature{number + 1}"] = align(seen[number], teacher)
                feature = feature + losses[f"feature{number + 1}"]
            total, weights = self.balance({"hard": hard, "soft": soft, "feature": feature})
        return {"total": total, **losses, **weights}


class DistillationModel(nn.Module):
    """A network, its helpers if it is distilled, and the loss. Its forward is one step, so that DDP can wrap it."""

    def __init__(self, network: StagedNetwork, settings: Distillation) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.hard = LOSSES[settings.loss](margin=settings.margin == "on")
        assert type(network.head) is self.hard.head, "build() the network for this loss"
        self.helpers = Helpers(network, settings) if settings.distill == "on" else None
        self.stages = network.stage_outputs  # what torch.compile may replace

    def forward(self, features: Tensor, target: Tensor, step: int, said: Tensor | None = None) -> dict[str, Tensor]:
        """(batch, 1, bands, 600), (batch,), optimiser step -> losses by name, `total` among them.

        A target in floating point is a mixed label (train.augment.features.specmix); what the teacher says needs no label.
        `said` are logits (batch, 2) of a model that teaches as well. A network that streams has many rows for a
        window, one for each step: label and model say the same to all of them.
        """
        energy = self.helpers is not None and self.helpers.energy
        seen = run_stages(self.stages, [*self.shallow, self.network.head], features, energy)
        target = target.repeat_interleave(len(seen[-1].pooled) // len(target))
        with torch.autocast(features.device.type, enabled=False):  # the losses are small and want full precision
            hard = self.hard(seen[-1].pooled, seen[-1].logits, target, step)
        if self.helpers is None:
            return {"total": hard, "hard": hard}
        losses: dict[str, Tensor] = self.helpers(hard, seen, features, said)
        return losses

    def advance(self, step: int) -> None:
        """After optimiser step `step`: what follows the weights takes them over."""
        if self.helpers is not None:
            self.helpers.teacher.advance(self.network, self.helpers.classifiers, step)

    @property
    def shallow(self) -> nn.ModuleList:
        """The classifiers of all stages but the last; a network that is not distilled has none."""
        return nn.ModuleList() if self.helpers is None else self.helpers.classifiers

    def deployed(self) -> tuple[StagedNetwork, nn.ModuleList]:
        """The network that is judged and deployed, and its shallow classifiers."""
        if self.helpers is None:
            return self.network, self.shallow
        return self.helpers.teacher.ships(self.network, self.shallow)

    def state(self) -> tuple[Weights, Weights]:
        """What training goes on with: the network's weights, and the helpers'."""
        return self.network.state_dict(), {} if self.helpers is None else self.helpers.state_dict()

    def shipped_state(self) -> tuple[Weights, Weights]:
        """The same with the network that ships, and its classifiers, in the trained one's place."""
        network, shallow = self.deployed()
        return network.state_dict(), {**self.state()[1], **shallow.state_dict(prefix="classifiers.")}

    @torch.no_grad()
    def scores(self, features: Tensor, after: Tensor | None = None) -> Tensor:
        """(batch, exits): bona fide minus spoof; the last column is the whole network, the others its students.

        Of a network that streams, those behind the frames `after` (batch,), else behind the last step.
        """
        network, shallow = self.deployed()
        stages = self.stages if network is self.network else network.stage_outputs
        logits = [view.logits for view in run_stages(stages, [*shallow, network.head], features)]
        scores = torch.stack([pair[:, 1] - pair[:, 0] for pair in logits], dim=1)
        steps = torch.tensor(network.steps(features.shape[3]), device=features.device)
        if after is None:
            after = steps[-1:].repeat(len(features))
        place = torch.searchsorted(steps, after.to(features.device)).clamp(max=len(steps) - 1)
        return scores.view(len(features), len(steps), -1)[torch.arange(len(features), device=features.device), place]


def distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch (Hinton et al., 2015)."""
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
