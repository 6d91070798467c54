"""Several corpora as one: their trials in order, selections where the columns are, names that may not collide."""

from pathlib import Path

import pytest

from runtime.support.errors import ShrikeError
from train.config import Data
from train.data.corpora import open_corpora
from train.data.folds import sources


def corpus(root: Path, name: str, partitions: tuple[str, ...] = ("train", "dev"), metadata: bool = True) -> Path:
    folder = root / name
    (folder / "protocols").mkdir(parents=True)
    rows = ["utt,source,open"]
    for partition in partitions:
        lines = []
        for number in range(6):
            utterance = f"{name}_{partition}_{number}"
            (folder / f"{utterance}.flac").write_bytes(b"")  # found by name, not opened
            attack, key = ("-", "bonafide") if number % 2 else (f"{name}-tts", "spoof")
            lines.append(f"{name}{number} {utterance} - {attack} {key}")
            rows.append(f"{utterance},{name}-source-{number % 3},{number % 2}")
        (folder / "protocols" / f"{partition}.txt").write_text("\n".join(lines) + "\n")
    if metadata:
        (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_trials_stand_in_the_order_of_the_corpora(tmp_path: Path) -> None:
    a, b = corpus(tmp_path, "a"), corpus(tmp_path, "b", ("train",))
    train, dev = open_corpora([a, b], "train"), open_corpora([a, b], "dev")
    assert [trial.utterance[0] for trial in train.trials] == ["a"] * 6 + ["b"] * 6
    assert [trial.utterance[0] for trial in dev.trials] == ["a"] * 6  # b has no dev protocol
    assert train.identity() == open_corpora([b, a], "train").identity() != open_corpora([a], "train").identity()


def test_a_selection_applies_where_its_column_is(tmp_path: Path) -> None:
    a, b = corpus(tmp_path, "a"), corpus(tmp_path, "b", metadata=False)
    chosen = open_corpora([a, b], "train", only="open=1")
    assert [trial.utterance[0] for trial in chosen.trials] == ["a"] * 3 + ["b"] * 6
    with pytest.raises(ShrikeError, match="licence"):
        open_corpora([a, b], "train", only="licence=x")


def test_sources_come_from_each_corpuss_own_metadata(tmp_path: Path) -> None:
    a, b = corpus(tmp_path, "a"), corpus(tmp_path, "b", metadata=False)
    assert set(sources(open_corpora([a, b], "train"))) == {
        *("a-source-0", "a-source-1", "a-source-2"),
        *("b-tts", "speaker b1", "speaker b3", "speaker b5"),
    }


def test_a_name_in_two_corpora_is_refused(tmp_path: Path) -> None:
    a = corpus(tmp_path, "a")
    with pytest.raises(ShrikeError, match="a_train_0"):
        open_corpora([a, a], "train")


def test_a_protocol_of_its_own_needs_a_single_corpus(tmp_path: Path) -> None:
    a, b = corpus(tmp_path, "a"), corpus(tmp_path, "b")
    with pytest.raises(ShrikeError):
        open_corpora([a, b], "train", a / "protocols" / "train.txt")


def test_a_single_folder_is_one_corpus() -> None:
    assert Data(Path("c")).corpus == (Path("c"),)  # type: ignore[arg-type]
