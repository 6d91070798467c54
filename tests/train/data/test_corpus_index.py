"""Sound is found wherever it lies; what is missing is named, what is ambiguous is asked about."""

import os
from pathlib import Path

import pytest

from tests.train.data.layouts import PLAIN, plain, protocol, refused, sounds, utterances
from train.data.corpus import open_corpus
from train.data.corpus_index import CorpusIndex


class TestFindingSound:
    def test_missing_sound_is_named_and_counted(self, tmp_path: Path) -> None:
        plain(tmp_path)
        (tmp_path / "flac" / "u2.flac").unlink()
        partition = open_corpus(tmp_path, "train")
        assert utterances(partition) == ["u1", "u3", "u4"]
        assert partition.missing == ("u2",)
        assert partition.describe() == "train: 3 trials (2 bona fide, 1 spoof, 1 attack), 1 without audio: u2"

    def test_of_many_missing_the_first_are_named(self, tmp_path: Path) -> None:
        protocol(tmp_path / "protocols" / "train.txt", [f"s u{number:04} - - bonafide" for number in range(2000)])
        sounds(tmp_path, "u0000")
        described = open_corpus(tmp_path, "train").describe()
        assert "1,999 without audio: u0001, u0002" in described
        assert described.endswith("…")
        assert len(described) < 150

    def test_no_sound_at_all(self, tmp_path: Path) -> None:
        protocol(tmp_path / "protocols" / "train.txt", PLAIN)
        sounds(tmp_path / "flac", "other")
        sentence = refused(tmp_path)
        assert str(tmp_path) in sentence
        assert "none of the 4 utterances" in sentence
        assert "u1.flac" in sentence

    def test_every_path_is_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plain(tmp_path)
        monkeypatch.chdir(tmp_path)
        for trial in open_corpus(".", "train").trials:
            assert trial.path is not None
            assert trial.path.is_absolute()
            assert trial.path.is_file()
            assert trial.path.stem == trial.utterance

    def test_the_best_of_several_forms(self, tmp_path: Path) -> None:
        protocol(tmp_path / "protocols" / "train.txt", PLAIN)
        for extension, names in {"mp3": "1234", "OGG": "123", "wav": "12", "FLAC": "1"}.items():
            sounds(tmp_path / extension, *(f"u{name}" for name in names), extension=extension)
        found = [trial.path.suffix for trial in open_corpus(tmp_path, "train").trials if trial.path]
        assert found == [".FLAC", ".wav", ".OGG", ".mp3"]

    def test_the_best_of_equally_good_ones(self, tmp_path: Path) -> None:
        protocol(tmp_path / "protocols" / "train.txt", PLAIN)
        sounds(tmp_path / "a", "u1", extension="wav")
        sounds(tmp_path / "a" / "b", "u1", extension="wav")
        sounds(tmp_path / "a" / "b" / "c", "u1")
        (trial,) = open_corpus(tmp_path, "train").trials
        assert trial.path == tmp_path / "a" / "b" / "c" / "u1.flac"

    def test_two_that_are_equally_good(self, tmp_path: Path) -> None:
        """Which is meant cannot be known, and a wrong guess would train on other sound than the labels'."""
        plain(tmp_path)
        sounds(tmp_path / "denoised", "u2")
        sentence = refused(tmp_path)
        assert "u2" in sentence
        assert "denoised" in sentence
        sounds(tmp_path / "denoised", "not-in-the-protocol")
        (tmp_path / "denoised" / "u2.flac").unlink()
        assert len(open_corpus(tmp_path, "train").trials) == 4

    def test_names_with_extension_and_dots(self, tmp_path: Path) -> None:
        protocol(tmp_path / "protocols" / "train.txt", ["s u1.wav - - bonafide", "s take.2 - A01 spoof"])
        sounds(tmp_path, "u1", "take.2", extension="wav")
        assert open_corpus(tmp_path, "train").missing == ()

    def test_links(self, tmp_path: Path) -> None:
        """Loops end; a directory behind several links counts once; a link to nowhere is no sound."""
        corpus = tmp_path / "corpus"
        protocol(corpus / "protocols" / "train.txt", PLAIN)
        sounds(tmp_path / "elsewhere", "u1", "u2", "u3")
        (corpus / "audio").symlink_to(tmp_path / "elsewhere")
        (corpus / "again").symlink_to(tmp_path / "elsewhere")
        (corpus / "up").symlink_to(corpus)
        (corpus / "itself").symlink_to(corpus / "itself")
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path)
        (corpus / "u4.flac").symlink_to(tmp_path / "gone.flac")
        partition = open_corpus(corpus, "train")
        assert utterances(partition) == ["u1", "u2", "u3"]
        assert partition.missing == ("u4",)

    def test_the_path_without_links_wins(self, tmp_path: Path) -> None:
        plain(tmp_path)
        for name in "aemxz":
            (tmp_path / name).symlink_to(tmp_path / "flac")
        assert {trial.path.parent for trial in open_corpus(tmp_path, "train").trials if trial.path} == {
            tmp_path / "flac"
        }

    def test_a_link_to_a_sound_is_that_sound(self, tmp_path: Path) -> None:
        plain(tmp_path)
        (tmp_path / "subset").mkdir()
        (tmp_path / "subset" / "u1.flac").symlink_to(tmp_path / "flac" / "u1.flac")
        assert len(open_corpus(tmp_path, "train").trials) == 4

    def test_hidden_directories_are_left_alone(self, tmp_path: Path) -> None:
        plain(tmp_path)
        sounds(tmp_path / ".Trash-1000", "u1")
        assert len(open_corpus(tmp_path, "train").trials) == 4

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look everywhere")
    def test_a_directory_that_is_closed(self, tmp_path: Path) -> None:
        plain(tmp_path)
        (tmp_path / "flac").chmod(0)
        try:
            assert str(tmp_path / "flac") in refused(tmp_path)
        finally:
            (tmp_path / "flac").chmod(0o755)

    def test_one_walk_serves_all_partitions(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("train", "dev"):
            plain(tmp_path, name)
        apart = [open_corpus(tmp_path, name) for name in ("train", "dev")]
        tree = CorpusIndex(tmp_path)
        monkeypatch.delattr(os, "scandir")
        assert [open_corpus(tree, name) for name in ("train", "dev")] == apart
