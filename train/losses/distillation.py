"""Self-distillation (Xue et al., ICASSP 2023): the deepest stage teaches the shallow ones while all of them train.

    loss = alpha hard + (1 - alpha) soft + beta feature

    hard      the deepest classifier against the label: A-softmax, or another of train.losses.softmax
    soft      sum over students of KL(teacher || student), both softened by T, times T^2
    feature   sum over students of the squared distance between the teacher's pooled output and a projection of the
              student's, as a mean over its width

Students are the shallow stages. The teacher is detached, as in "Be your own teacher" (Zhang et al., ICCV 2019). Three
parts have variants: the teacher (train.losses.teachers), the feature distance (train.losses.alignment) and the weights
(train.losses.weighting). Everything that only distillation needs is in one module, `Helpers`; stripping leaves it out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.config import Distillation
from train.losses.alignment import ALIGNMENTS
from train.losses.contrastive import contrastive
from train.losses.softmax import LOSSES
from train.losses.stage_outputs import StageOutput, run_stages
from train.losses.teachers import TEACHERS
from train.losses.weighting import BALANCES
from train.networks.senet import StagedNetwork

Weights = dict[str, Tensor]


class Helpers(nn.Module):
    """A classifier for every stage but the last, the teacher, and the modules that compare and weigh."""

    def __init__(self, network: StagedNetwork, settings: Distillation) -> None:
        super().__init__()
        widths, self.temperature = network.widths, settings.temperature
        self.classifiers = nn.ModuleList(type(network.head)(width) for width in widths[:-1])
        self.teacher = TEACHERS[settings.teacher](network, self.classifiers, settings)
        align = ALIGNMENTS[settings.feature]
        self.projections = nn.ModuleList(align(*pair) for pair in self.teacher.widths(widths))  # named as in the paper
        self.energy = align.energy
        self.balance = BALANCES[settings.balance](
            {"hard": settings.alpha, "soft": 1 - settings.alpha, "feature": settings.beta}
        )

    def forward(
        self, hard: Tensor, outputs: list[StageOutput], features: Tensor, external: Tensor | None
    ) -> dict[str, Tensor]:
        """Return all losses by name; `external` are an external teacher's logits (rows, 2), one per step."""
        losses, soft = {"hard": hard}, torch.zeros((), device=hard.device)
        feature = soft
        targets = self.teacher.targets(outputs, features)
        logits = {number: teacher.logits for number, teacher in targets}
        if external is not None:
            logits = dict.fromkeys(range(len(outputs)), external)
        with torch.autocast(hard.device.type, enabled=False):
            for number, wanted in logits.items():
                losses[f"soft{number + 1}"] = distance(outputs[number].logits, wanted, self.temperature)
                soft = soft + losses[f"soft{number + 1}"]
            for (number, teacher), align in zip(targets, self.projections, strict=True):
                losses[f"feature{number + 1}"] = align(outputs[number], teacher)
                feature = feature + losses[f"feature{number + 1}"]
            total, weights = self.balance({"hard": hard, "soft": soft, "feature": feature})
        return {"total": total, **losses, **weights}


class DistillationModel(nn.Module):
    """A network, its helpers if it is distilled, and the loss. Its forward computes losses, so DDP can wrap it."""

    def __init__(self, network: StagedNetwork, settings: Distillation) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.hard = LOSSES[settings.loss](margin=settings.margin == "on")
        assert type(network.head) is self.hard.head, "build() the network for this loss"
        self.helpers = Helpers(network, settings) if settings.distill == "on" else None
        self.stages = network.stage_outputs  # torch.compile may replace it

    def forward(
        self,
        features: Tensor,
        target: Tensor,
        step: int,
        external: Tensor | None = None,
        soft: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses by name, `total` among them, of features (batch, 1, bands, 600) at an optimiser step.

        A floating-point target (batch,) is a mixed label (train.augment.features.specmix). `external` are an external
        teacher's logits (batch, 2), `soft` those of soft labels, which share the loss against the label. A streaming
        network has several rows per window, one per step, which share label and logits.
        """
        energy = self.helpers is not None and self.helpers.energy
        outputs = run_stages(self.stages, [*self.shallow, self.network.head], features, energy)
        steps = len(outputs[-1].pooled) // len(target)
        target = target.repeat_interleave(steps)
        with torch.autocast(features.device.type, enabled=False):  # losses are small and need full precision
            hard = self.hard(outputs[-1].pooled, outputs[-1].logits, target, step)
            apart = {}
            if soft is not None:
                weight, soft = self.settings.soft_weight, soft.repeat_interleave(steps, dim=0)
                apart["soft_label"] = distance(outputs[-1].logits, soft, self.settings.soft_temperature)
                hard = (1 - weight) * hard + weight * apart["soft_label"]
            if self.settings.pair_loss:
                last = outputs[-1].pooled.unflatten(0, (-1, steps))[:, -1]  # of a streaming network's steps
                apart["pair"] = contrastive(last, target[::steps])
        if self.helpers is None:
            losses = {"total": hard, "hard": hard}
        else:
            external = None if external is None else external.repeat_interleave(steps, dim=0)
            losses = self.helpers(hard, outputs, features, external)
        if "pair" in apart:
            losses["total"] = losses["total"] + self.settings.pair_loss * apart["pair"]
        return {**losses, **apart}

    def advance(self, step: int) -> None:
        """Update the moving average, if there is one, after optimiser step `step`."""
        if self.helpers is not None:
            self.helpers.teacher.advance(self.network, self.helpers.classifiers, step)

    @property
    def shallow(self) -> nn.ModuleList:
        """The classifiers of all stages but the last; empty without distillation."""
        return nn.ModuleList() if self.helpers is None else self.helpers.classifiers

    def deployed(self) -> tuple[StagedNetwork, nn.ModuleList]:
        """Return the network that is scored on dev and deployed, and its shallow classifiers."""
        if self.helpers is None:
            return self.network, self.shallow
        return self.helpers.teacher.deployed(self.network, self.shallow)

    def state(self) -> tuple[Weights, Weights]:
        """Return the weights of the trained network and of the helpers."""
        return self.network.state_dict(), {} if self.helpers is None else self.helpers.state_dict()

    def deployed_state(self) -> tuple[Weights, Weights]:
        """Return the same with the deployed network and its classifiers instead of the trained ones."""
        network, shallow = self.deployed()
        return network.state_dict(), {**self.state()[1], **shallow.state_dict(prefix="classifiers.")}

    @torch.no_grad()
    def scores(self, features: Tensor, after: Tensor | None = None) -> Tensor:
        """Return bona fide minus spoof (batch, exits); the last column is the whole network.

        A streaming network is scored after the frames `after` (batch,), or after the last step.
        """
        network, shallow = self.deployed()
        stages = self.stages if network is self.network else network.stage_outputs
        logits = [output.logits for output in run_stages(stages, [*shallow, network.head], features)]
        scores = torch.stack([pair[:, 1] - pair[:, 0] for pair in logits], dim=1)
        steps = torch.tensor(network.steps(features.shape[3]), device=features.device)
        if after is None:
            after = steps[-1:].repeat(len(features))
        index = torch.searchsorted(steps, after.to(features.device)).clamp(max=len(steps) - 1)
        return scores.view(len(features), len(steps), -1)[torch.arange(len(features), device=features.device), index]


def distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch (Hinton et al., 2015)."""
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
