"""Trials are chosen by the columns of metadata.csv."""

from pathlib import Path

import pytest

from runtime.support.errors import ShrikeError
from tests.listing import listed, table
from tests.train.data.layouts import plain, protocol, utterances
from train.data.corpus import Partition, open_corpus, select


class TestSelect:
    ROWS = ("u1,1,0", "u2.flac,1,1", "u3,0,0")  # and none of u4

    def corpus(self, root: Path, name: str = "utt") -> Partition:
        protocol(root / "metadata.csv", [f"{name},open,mp3", *self.ROWS])
        return open_corpus(plain(root), "train")

    @pytest.mark.parametrize("name", ["utt", "utterance", "file"])
    def test_matching_trials_are_selected(self, tmp_path: Path, name: str) -> None:
        partition = self.corpus(tmp_path, name)
        assert utterances(select(partition, "open=1")) == ["u1", "u2"]
        assert utterances(select(partition, " mp3 = 0 ")) == ["u1", "u3"]
        assert utterances(select(partition, "open=1, mp3=0")) == ["u1"]
        assert select(partition, "") == partition

    def test_it_is_described_and_changes_the_identity(self, tmp_path: Path) -> None:
        partition = self.corpus(tmp_path)
        chosen = select(select(partition, "open=1"), "mp3 = 0")
        assert chosen.describe() == "train where open=1,mp3=0: 1 trial (1 bona fide, 0 spoof, 0 attacks)"
        assert chosen.identity() != partition.identity()

    def test_missing_sound_that_was_not_asked_for_is_not_missed(self, tmp_path: Path) -> None:
        self.corpus(tmp_path)
        for name in ("u2", "u3"):
            (tmp_path / "flac" / f"{name}.flac").unlink()
        assert select(open_corpus(tmp_path, "train"), "open=1").missing == ("u2",)

    @pytest.mark.parametrize(
        ("expression", "sentence"),
        [
            ("colour=1", "utt, open, mp3"),
            ("open", "open"),
            ("open=", "open="),
            ("=1", "=1"),
            ("open=1,open=0", "open"),
            ("open=yes", "open: 0, 1"),
        ],
    )
    def test_what_cannot_be_selected(self, tmp_path: Path, expression: str, sentence: str) -> None:
        with pytest.raises(ShrikeError, match=sentence):
            select(self.corpus(tmp_path), expression)

    def test_without_metadata(self, tmp_path: Path) -> None:
        with pytest.raises(ShrikeError, match=r"metadata\.csv"):
            select(open_corpus(plain(tmp_path), "train"), "open=1")
        (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ShrikeError, match=r"metadata\.csv"):
            select(open_corpus(tmp_path, "train"), "open=1")
        protocol(tmp_path / "metadata.csv", ["name,open", "u1,1"])
        with pytest.raises(ShrikeError, match=r"metadata\.csv"):
            select(open_corpus(tmp_path, "train"), "open=1")

    def test_a_corpus_below_the_root(self, tmp_path: Path) -> None:
        self.corpus(tmp_path / "deeper")
        assert utterances(select(open_corpus(tmp_path, "train"), "open=0")) == ["u3"]

    def test_what_ships_is_trained_on(self, corpus_root: Path) -> None:
        chosen = select(open_corpus(corpus_root, "train"), "open=1")
        rows, lines = table(corpus_root), listed(corpus_root, "train")
        opened = [utterance for utterance, _, _ in lines if rows[utterance]["open"] == "1"]
        assert 0 < len(opened) < len(lines)
        assert utterances(chosen) == opened
