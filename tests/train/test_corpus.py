"""Official layouts are found and counted, what is missing is named, what is ambiguous is asked about."""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.errors import ShrikeError
from train.corpus import Partition, open_corpus, select

PLAIN = ("s1 u1 - - bonafide", "s1 u2 - A01 spoof", "s2 u3 - A02 spoof", "s2 u4 - - bonafide")


def protocol(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def sounds(directory: Path, *names: str, extension: str = "flac") -> None:
    """Files with the names of sounds; nobody here listens to them."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / f"{name}.{extension}").touch()


def plain(root: Path, name: str = "train") -> Path:
    """A corpus of two bona fide and two spoof trials in the plain layout."""
    protocol(root / "protocols" / f"{name}.txt", PLAIN)
    sounds(root / "flac", "u1", "u2", "u3", "u4")
    return root


def refused(root: Path, partition: str = "train", **options: object) -> str:
    with pytest.raises(ShrikeError) as caught:
        open_corpus(root, partition, **options)  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def utterances(partition: Partition) -> list[str]:
    return [trial.utterance for trial in partition.trials]


class TestOfficialLayouts:
    @pytest.mark.parametrize("track", ["LA", "PA"])
    @pytest.mark.parametrize(("name", "file"), [("train", "train.trn"), ("dev", "dev.trl"), ("eval", "eval.trl")])
    def test_2019(self, tmp_path: Path, track: str, name: str, file: str) -> None:
        lines = [f"{track}_0079 {track}_X_1 aaa - bonafide", f"{track}_0079 {track}_X_2 aaa AA spoof"]
        directory = tmp_path / track / f"ASVspoof2019_{track}_cm_protocols"
        expected = protocol(directory / f"ASVspoof2019.{track}.cm.{file}.txt", lines)
        # Its neighbour, which has the same columns and other keys.
        protocol(tmp_path / track / f"ASVspoof2019_{track}_asv_protocols" / f"x.asv.{file}.txt", ["a b c d target"])
        sounds(tmp_path / track / f"ASVspoof2019_{track}_{name}" / "flac", f"{track}_X_1", f"{track}_X_2")
        for root in (tmp_path, tmp_path / track):
            partition = open_corpus(root, name)
            assert partition.protocol == expected
            assert (partition.bonafide, partition.spoof, partition.attacks) == (1, 1, ("AA",))

    LA_2021 = (
        "LA_0009 LA_E_1 alaw ita_tx A07 spoof notrim eval",
        "LA_0009 LA_E_2 alaw ita_tx bonafide bonafide notrim eval",
        "LA_0009 LA_E_3 none loc_tx A08 spoof notrim progress",
        "LA_0009 LA_E_4 none loc_tx A08 spoof trim hidden",
    )

    def la_2021(self, root: Path) -> None:
        protocol(root / "keys" / "LA" / "CM" / "trial_metadata.txt", self.LA_2021)
        protocol(root / "keys" / "LA" / "ASV" / "trial_metadata.txt", ["a LA_E_1 c d bonafide nontarget notrim eval"])
        protocol(root / "keys" / "LA" / "CM" / "LFCC-GMM" / "score.txt", ["LA_E_1 -1.5"])
        names = [f"LA_E_{number}" for number in (1, 2, 3, 4)]
        protocol(root / "ASVspoof2021_LA_eval" / "ASVspoof2021.LA.cm.eval.trl.txt", names)
        sounds(root / "ASVspoof2021_LA_eval" / "flac", *names)

    def test_2021_counts_its_evaluation_subset(self, tmp_path: Path) -> None:
        self.la_2021(tmp_path)
        assert utterances(open_corpus(tmp_path, "eval")) == ["LA_E_1", "LA_E_2"]
        assert utterances(open_corpus(tmp_path, "eval", subsets=("progress", "hidden"))) == ["LA_E_3", "LA_E_4"]
        sentence = refused(tmp_path, "eval", subsets=("evla",))
        assert "evla" in sentence
        assert "eval, hidden, progress" in sentence

    def test_2021_without_keys_has_no_labels(self, tmp_path: Path) -> None:
        self.la_2021(tmp_path)
        partition = open_corpus(tmp_path / "ASVspoof2021_LA_eval", "eval")
        assert partition.unlabelled == 4
        assert partition.describe() == "eval: 4 trials (without labels)"

    def test_2021_df_in_parts(self, tmp_path: Path) -> None:
        line = "LA_0023 DF_E_{} nocodec asvspoof A14 spoof notrim eval traditional_vocoder - - - -"
        protocol(tmp_path / "keys" / "DF" / "CM" / "trial_metadata.txt", [line.format(number) for number in range(8)])
        for part in range(4):
            directory = tmp_path / f"ASVspoof2021_DF_eval_part0{part}" / "ASVspoof2021_DF_eval" / "flac"
            sounds(directory, f"DF_E_{2 * part}", f"DF_E_{2 * part + 1}")
        assert open_corpus(tmp_path, "eval").spoof == 8

    def test_2021_keys_of_tracks_that_are_not_there(self, tmp_path: Path) -> None:
        """download.sh fetches the keys of all three tracks."""
        self.la_2021(tmp_path)
        df = "LA_0023 DF_E_1 nocodec asvspoof A14 spoof notrim eval traditional_vocoder - - - -"
        pa = "PA_0010 PA_E_1 R3 M3 d4 r1 m1 s4 c4 spoof notrim eval"
        for track, line in (("DF", df), ("PA", pa)):
            protocol(tmp_path / "keys" / track / "CM" / "trial_metadata.txt", [line])
        assert utterances(open_corpus(tmp_path, "eval")) == ["LA_E_1", "LA_E_2"]

    @pytest.mark.parametrize(
        ("name", "file", "directory"),
        [
            ("train", "ASVspoof5.train.tsv", "flac_T"),
            ("dev", "ASVspoof5.dev.track_1.tsv", "flac_D"),
            ("eval", "ASVspoof5.eval.track_1.tsv", "flac_E_eval"),
        ],
    )
    def test_5(self, tmp_path: Path, name: str, file: str, directory: str) -> None:
        lines = ["X_1 X_0000000001 F - - - AC3 A05 spoof -", "X_2 X_0000000002 M C05 2 X_3 - bonafide bonafide -"]
        protocol(tmp_path / "ASVspoof5_protocols" / file, lines)
        protocol(tmp_path / "ASVspoof5_protocols" / "ASVspoof5.dev.track_2.trial.tsv", ["a b F A11 spoof"])
        sounds(tmp_path / directory, "X_0000000001", "X_0000000002", "X_A000000001")
        partition = open_corpus(tmp_path, name)
        assert (partition.bonafide, partition.spoof, partition.attacks) == (1, 1, ("A05",))
        assert [trial.condition for trial in partition.trials] == ["-", "C05"]

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("train", "train: 1,412 trials (720 bona fide, 692 spoof, 75 attacks)"),
            ("dev", "dev: 330 trials (150 bona fide, 180 spoof, 27 attacks)"),
            ("eval", "eval: 530 trials (230 bona fide, 300 spoof, 55 attacks)"),
        ],
    )
    def test_the_small_corpus(self, corpus_root: Path, name: str, sentence: str) -> None:
        """It holds ASVspoof protocols too, without their audio: they do not count."""
        assert open_corpus(corpus_root, name).describe() == sentence


class TestChoosingAProtocol:
    def test_packed_protocols(self, tmp_path: Path) -> None:
        plain(tmp_path)
        text = tmp_path / "protocols" / "train.txt"
        subprocess.run([sys.executable, "-m", "gzip", text], check=True)
        assert len(open_corpus(tmp_path, "train").trials) == 4  # both forms of the one protocol
        text.unlink()
        assert len(open_corpus(tmp_path, "train").trials) == 4

    def test_two_that_fit(self, tmp_path: Path) -> None:
        plain(tmp_path / "a")
        protocol(tmp_path / "b" / "protocols" / "train.txt", PLAIN[:2])
        sentence = refused(tmp_path)
        assert all(str(tmp_path / name / "protocols" / "train.txt") in sentence for name in "ab")
        assert "--corpus deeper" in sentence
        assert len(open_corpus(tmp_path / "a", "train").trials) == 4
        given = open_corpus(tmp_path, "train", protocol=tmp_path / "b" / "protocols" / "train.txt")
        assert utterances(given) == ["u1", "u2"]

    def test_a_copy_is_no_second_protocol(self, tmp_path: Path) -> None:
        plain(tmp_path)
        protocol(tmp_path / "backup" / "protocols" / "train.txt", PLAIN)
        assert len(open_corpus(tmp_path, "train").trials) == 4

    def test_none(self, tmp_path: Path) -> None:
        sentence = refused(plain(tmp_path), "dev")
        assert str(tmp_path) in sentence
        assert "ASVspoof2019.LA.cm.dev.trl.txt" in sentence
        assert "protocols/dev.txt" in sentence

    @pytest.mark.parametrize("name", ["train", "dev"])
    def test_training_needs_labels(self, tmp_path: Path, name: str) -> None:
        names = protocol(plain(tmp_path) / "names.txt", ["u1", "u2"])
        assert "no labels" in refused(tmp_path, name, protocol=names)
        assert open_corpus(tmp_path, "eval", protocol=names).unlabelled == 2

    def test_what_cannot_be_opened(self, tmp_path: Path) -> None:
        assert "train, dev, eval" in refused(tmp_path, "test")
        assert "no directory" in refused(tmp_path / "absent")
        assert "no protocol" in refused(plain(tmp_path), protocol=tmp_path / "absent.txt")


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

    def test_the_path_without_links_is_remembered(self, tmp_path: Path) -> None:
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


class TestIdentity:
    def test_it_is_of_the_trials_alone(self, tmp_path: Path) -> None:
        one = open_corpus(plain(tmp_path / "one"), "train")
        protocol(tmp_path / "two" / "protocols" / "train.txt", list(reversed(PLAIN)))
        sounds(tmp_path / "two" / "wav", "u1", "u2", "u3", "u4", extension="wav")
        two = open_corpus(tmp_path / "two", "train")
        assert one.identity() == two.identity()
        assert len(one.identity()) == 64
        int(one.identity(), 16)

    @pytest.mark.parametrize(
        ("old", "new"),
        [("u2", "u5"), ("A01 spoof", "A07 spoof"), ("A01 spoof", "- bonafide"), ("s1 u2 - A01 spoof", "")],
    )
    def test_every_difference_shows(self, tmp_path: Path, old: str, new: str) -> None:
        before = open_corpus(plain(tmp_path), "train").identity()
        sounds(tmp_path / "flac", "u5")
        protocol(tmp_path / "protocols" / "train.txt", [line.replace(old, new) for line in PLAIN])
        assert open_corpus(tmp_path, "train").identity() != before

    def test_it_stays_what_it_is(self, corpus_root: Path) -> None:
        """Checkpoints keep it: whoever changes it makes them strangers to their corpus."""
        assert open_corpus(corpus_root, "dev").identity().startswith("0c487152")


class TestSelect:
    ROWS = ("u1,1,0", "u2.flac,1,1", "u3,0,0")  # and none of u4

    def corpus(self, root: Path, name: str = "utt") -> Partition:
        protocol(root / "metadata.csv", [f"{name},open,mp3", *self.ROWS])
        return open_corpus(plain(root), "train")

    @pytest.mark.parametrize("name", ["utt", "utterance", "file"])
    def test_what_holds_is_kept(self, tmp_path: Path, name: str) -> None:
        partition = self.corpus(tmp_path, name)
        assert utterances(select(partition, "open=1")) == ["u1", "u2"]
        assert utterances(select(partition, " mp3 = 0 ")) == ["u1", "u3"]
        assert utterances(select(partition, "open=1, mp3=0")) == ["u1"]
        assert select(partition, "") == partition

    def test_it_is_said_and_changes_the_identity(self, tmp_path: Path) -> None:
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
            ("open", "column=value"),
            ("open=", "column=value"),
            ("=1", "column=value"),
            ("open=1,open=0", "two values"),
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
        with pytest.raises(ShrikeError, match="name, open"):
            select(open_corpus(tmp_path, "train"), "open=1")

    def test_a_corpus_below_the_root(self, tmp_path: Path) -> None:
        self.corpus(tmp_path / "deeper")
        assert utterances(select(open_corpus(tmp_path, "train"), "open=0")) == ["u3"]

    def test_what_ships_is_trained_on(self, corpus_root: Path) -> None:
        chosen = select(open_corpus(corpus_root, "train"), "open=1")
        assert len(chosen.trials) == 980
        with open(corpus_root / "metadata.csv", newline="") as file:
            opened = {row["utt"] for row in csv.DictReader(file) if row["open"] == "1"}
        assert {trial.utterance for trial in chosen.trials} <= opened


def test_reading_protocols_needs_no_torch() -> None:
    command = "import sys, train.corpus; print({'torch', 'numpy', 'soundfile'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
