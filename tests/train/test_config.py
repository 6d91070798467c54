"""TrainConfig: one definition for the command line, the checkpoint and the docs."""

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tyro

from runtime.support.codec import build, later
from runtime.support.errors import ShrikeError
from train.config import Augmentation, TrainConfig, differences


def parse(*arguments: str) -> TrainConfig:
    return tyro.cli(TrainConfig, args=["--corpus", "c", *arguments])


def test_defaults_are_the_papers() -> None:
    settings = parse()
    optimiser = settings.optimiser
    assert (optimiser.epochs, optimiser.weight_decay, settings.data.frontend, settings.data.level) == (
        32,
        1e-4,
        "f0",
        "none",
    )
    augmentation = settings.augmentation
    assert augmentation == Augmentation(gain=0, noise=(-100.0, -80.0), mask_bands=0, mask_frames=0, specmix=0)
    assert not augmentation.on_sound
    assert augmentation == parse("--noise", "-100", "-80").augmentation != parse("--noise", "None").augmentation
    from train.losses.optimiser import BETAS, EPSILON

    assert (BETAS, EPSILON) == ((0.9, 0.98), 1e-9)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--noise", "-90", "-50", "--distill", "off", "--only", "open=1", "--lr", "1"),
        ("--snr", "5", "30", "--codecs", "gsm"),
    ],
)
def test_to_dict_and_back(arguments: tuple[str, ...]) -> None:
    settings = parse(*arguments)
    assert TrainConfig.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "arguments, word",
    [
        (("--network", "resnet"), "ecanet9"),
        (("--width", "0"), "--width"),
        (("--dropout", "1"), "--dropout"),
        (("--alpha", "1.5"), "--alpha"),
        (("--temperature", "0"), "--temperature"),
        (("--noise", "-50", "-90"), "--noise"),
        (("--resample", "96000"), "--resample"),
        (("--resample", "44100,fast"), "--resample"),
        (("--mask-bands", "45"), "--mask-bands"),
        (("--specmix", "1.1"), "--specmix"),
        (("--snr", "30", "5"), "--snr"),
        (("--speed", "60"), "--speed"),
        (("--sound-share", "2"), "--sound-share"),
        (("--sound-gain", "-1"), "--sound-gain"),
        (("--dither", "-1"), "--dither"),
        (("--codecs", "gsm,morse"), "any of alaw,mulaw"),
        (("--rawboost", "lnl isd"), "any of lnl,isd,ssi"),
        (("--batch", "1"), "--batch"),
        (("--epochs", "0"), "--epochs"),
        (("--loss", "crossentropy", "--margin", "off"), "--margin"),
        (("--lr", "-1"), "--lr"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_values_out_of_range_name_their_option(arguments: tuple[str, ...], word: str) -> None:
    with pytest.raises(ShrikeError, match=word):
        parse(*arguments)


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    return list(itertools.chain.from_iterable(
        leaves(item, (*path, name)) if isinstance(item, dict) else [(*path, name)] for name, item in values.items()
    ))  # fmt: skip


@pytest.mark.parametrize("path", leaves(parse().to_dict()), ids=".".join)
def test_a_wrong_type_in_any_place_is_refused_by_its_name(path: tuple[str, ...]) -> None:
    values = parse().to_dict()
    place = values
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = {"a": "dictionary"}
    with pytest.raises(ShrikeError, match=path[-1]):
        TrainConfig.from_dict(values)


@dataclass(frozen=True)
class Young:
    """A group that came later as a whole."""

    rho: float = later(0.5, before=0.0)


@dataclass(frozen=True)
class Grown:
    """TrainConfig whose first files had `old` alone."""

    old: int = 1
    new: str = later("today's", before="theirs")
    levels: tuple[int, int] | None = later((1, 2), before=None)
    young: Young = later(Young(), before={})


def test_older_files_get_the_values_they_imply() -> None:
    assert Grown() == Grown(1, "today's", (1, 2), Young(0.5))
    assert build(Grown, {"old": 3}, "settings") == Grown(3, "theirs", None, Young(0.0))
    values = {"old": 3, "new": "text", "levels": [5, 6], "young": {"rho": 2.0}}
    assert build(Grown, values, "settings") == Grown(3, "text", (5, 6), Young(2.0))
    for wrong in ({"new": "without old"}, {"old": 3, "more": 1}, {"old": 3, "new": 4}, {"old": 3, "young": {"r": 1}}):
        with pytest.raises(ShrikeError, match="settings"):
            build(Grown, wrong, "settings")


def test_a_checkpoint_from_before_there_were_losses_was_trained_by_a_softmax() -> None:
    values = parse("--loss", "ocsoftmax").to_dict()
    del values["distillation"]["loss"]
    assert TrainConfig.from_dict(values).distillation.loss == "asoftmax"


def test_differences_name_what_makes_another_run_and_forgive_where_it_runs() -> None:
    old = parse("--lr", "0.1")
    assert differences(old, parse("--lr", "0.1", "--threads", "3", "--cache", "x", "--workers", "2")) == []
    moved = dataclasses.replace(old, data=dataclasses.replace(old.data, corpus=Path("moved")))
    assert differences(old, moved) == []
    assert differences(old, parse("--lr", "0.2", "--alpha", "0.5")) == [
        "--alpha was 0.7, is 0.5",
        "--lr was 0.1, is 0.2",
    ]
