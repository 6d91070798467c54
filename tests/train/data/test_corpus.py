"""Official layouts are found and counted, and their trials keep their identity."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime.audio.decode import load
from runtime.audio.features import RATE
from tests.listing import listed
from tests.train.data.layouts import PLAIN, plain, protocol, refused, sounds, utterances
from train.data.corpus import open_corpus


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

    @pytest.mark.parametrize("name", ["train", "dev", "eval"])
    def test_the_corpus_of_real_speech(self, corpus_root: Path, name: str) -> None:
        """It holds ASVspoof protocols too, without their audio: they do not count."""
        lines, partition = listed(corpus_root, name), open_corpus(corpus_root, name)
        assert utterances(partition) == [utterance for utterance, _, _ in lines]
        assert partition.missing == ()
        assert partition.bonafide == sum(key == "bonafide" for _, _, key in lines)
        assert partition.spoof == sum(key == "spoof" for _, _, key in lines)
        assert set(partition.attacks) == {attack for _, attack, key in lines if key == "spoof"}
        assert all(trial.path and trial.path.stem == trial.utterance for trial in partition.trials)

    def test_opus_and_flac_in_folders_of_their_own(self, tmp_path: Path) -> None:
        """Training clips may be Opus in ogg/ and others FLAC in flac/, under one protocol."""
        protocol(tmp_path / "protocols" / "train.txt", PLAIN)
        seconds = {"u1": 1.0, "u2": 1.5, "u3": 2.0, "u4": 2.5}
        for place, (name, duration) in enumerate(seconds.items()):
            extension, subtype = (("ogg", "OPUS"), ("flac", "PCM_16"))[place % 2]
            (tmp_path / extension).mkdir(exist_ok=True)
            sound = 0.1 * np.random.default_rng(place).standard_normal(int(duration * RATE))
            soundfile.write(tmp_path / extension / f"{name}.{extension}", sound, RATE, subtype=subtype)
        partition = open_corpus(tmp_path, "train")
        assert utterances(partition) == list(seconds) and partition.missing == ()
        for trial in partition.trials:
            assert trial.path is not None
            clip = load(trial.path)
            assert len(clip.samples) == seconds[trial.utterance] * RATE and clip.rate == RATE and clip.notes == ()

    def test_the_sound_of_the_corpus_can_be_read(self, corpus_root: Path) -> None:
        """Some clips of every partition, in every format that it has."""
        for name in ("train", "dev", "eval"):
            trials = [trial.path for trial in open_corpus(corpus_root, name).trials if trial.path is not None]
            for suffix in {path.suffix for path in trials}:
                paths = [path for path in trials if path.suffix == suffix]
                for path in paths[:: max(1, len(paths) // 5)]:
                    assert len(load(path).samples) > 0


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
        assert str(names) in refused(tmp_path, name, protocol=names)
        assert open_corpus(tmp_path, "eval", protocol=names).unlabelled == 2

    def test_what_cannot_be_opened(self, tmp_path: Path) -> None:
        assert "train, dev, eval" in refused(tmp_path, "test")
        assert "absent" in refused(tmp_path / "absent")
        assert "absent.txt" in refused(plain(tmp_path), protocol=tmp_path / "absent.txt")


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

    def test_it_stays_what_it_is(self, tmp_path: Path) -> None:
        """Checkpoints and cards store it, so another formula would detach them from their corpus."""
        expected = "797b11f1feb1ae4e8fc853bfbfe543d724305637d61a030d5716f920e2f30ee7"
        assert open_corpus(plain(tmp_path), "train").identity() == expected

    def test_it_is_a_hash_of_the_sorted_lines(self, corpus_root: Path) -> None:
        rows = sorted(
            f"{name} {key} {attack if key == 'spoof' else '-'}\n" for name, attack, key in listed(corpus_root, "dev")
        )
        expected = hashlib.sha256("".join(rows).encode()).hexdigest()
        assert open_corpus(corpus_root, "dev").identity() == expected


def test_reading_protocols_needs_no_torch() -> None:
    command = "import sys, train.data.corpus; print({'torch', 'numpy', 'soundfile'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
