"""All formats of protocols, at the real size if the official files are there; errors name file and line."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

from runtime.support.errors import ShrikeError
from tests.listing import listed
from train.data.protocols import FORMS, read_protocol

# First lines of the official files, and bona fide lines as they are written there: as (line, trial's facts).
LINES = {
    "2019 LA": ("LA_0079 LA_T_1004644 - A01 spoof", ("LA_T_1004644", "LA_0079", "A01", False, "-", "")),
    "2019 LA bona fide": ("LA_0079 LA_T_1138215 - - bonafide", ("LA_T_1138215", "LA_0079", "-", True, "-", "")),
    "2019 PA": ("PA_0079 PA_T_0005401 aab CB spoof", ("PA_T_0005401", "PA_0079", "CB", False, "aab", "")),
    "2019 PA bona fide": ("PA_0079 PA_T_0000001 aaa - bonafide", ("PA_T_0000001", "PA_0079", "-", True, "aaa", "")),
    "2021 LA": (
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval",
        ("LA_E_9332881", "LA_0009", "A07", False, "alaw", "eval"),
    ),
    "2021 LA bona fide": (
        "LA_0020 LA_E_7294490 g722 loc_tx bonafide bonafide notrim progress",
        ("LA_E_7294490", "LA_0020", "-", True, "g722", "progress"),
    ),
    "2021 LA, first release of keys": (
        "- LA_E_9332881 - - - spoof - eval",
        ("LA_E_9332881", "-", "unknown", False, "-", "eval"),
    ),
    "2021 DF": (
        "TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval traditional_vocoder Task1 team20 FF E",
        ("DF_E_2000013", "TEF2", "Task1-team20", False, "low_m4a", "eval"),
    ),
    "2021 DF bona fide": (
        "LA_0023 DF_E_2000011 nocodec asvspoof - bonafide notrim hidden bonafide - - - -",
        ("DF_E_2000011", "LA_0023", "-", True, "nocodec", "hidden"),
    ),
    "2021 PA": (
        "PA_0010 PA_E_1000001 R3 M3 d4 r1 m1 s4 c4 spoof notrim eval",
        ("PA_E_1000001", "PA_0010", "s4-c4", False, "R3-M3-d4", "eval"),
    ),
    "5": (
        "E_1607 E_0009538969 M C05 2 E_0009486171 AC1 A26 spoof -",
        ("E_0009538969", "E_1607", "A26", False, "C05", ""),
    ),
    "5 bona fide": (
        "T_3734 T_0000000011 F - - - - bonafide bonafide -",
        ("T_0000000011", "T_3734", "-", True, "-", ""),
    ),
    "5, challenge": ("T_4850 T_0000000000 F - A05 spoof", ("T_0000000000", "T_4850", "A05", False, "-", "")),
    "names": ("LA_E_9332881", ("LA_E_9332881", "-", "-", None, "-", "")),
}


def written(tmp_path: Path, text: str, name: str = "protocol.txt") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(ShrikeError) as caught:
        read_protocol(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("separator", [" ", "\t", "   "])
@pytest.mark.parametrize(("line", "facts"), LINES.values(), ids=LINES.keys())
def test_a_line_of_every_form(tmp_path: Path, line: str, facts: tuple[object, ...], separator: str) -> None:
    (trial,) = read_protocol(written(tmp_path, separator.join(line.split()) + "\r\n\n"))
    assert facts == (trial.utterance, trial.speaker, trial.attack, trial.bonafide, trial.condition, trial.subset)
    assert trial.path is None


class TestOfficialFiles:
    """At their real size: whoever miscounts here evaluates something else than everybody else."""

    @pytest.mark.parametrize(
        ("name", "bonafide", "spoof", "attacks"),
        [
            ("ASVspoof2019.LA.cm.train.trn.txt.gz", 2_580, 22_800, range(1, 7)),
            ("ASVspoof2019.LA.cm.dev.trl.txt.gz", 2_548, 22_296, range(1, 7)),
            ("ASVspoof2019.LA.cm.eval.trl.txt.gz", 7_355, 63_882, range(7, 20)),
        ],
    )
    def test_2019_la(self, corpus_root: Path, name: str, bonafide: int, spoof: int, attacks: range) -> None:
        trials = read_protocol(corpus_root / "protocols" / name)
        assert Counter(trial.bonafide for trial in trials) == {True: bonafide, False: spoof}
        assert {trial.attack for trial in trials if not trial.bonafide} == {f"A{number:02}" for number in attacks}
        assert {trial.attack for trial in trials if trial.bonafide} == {"-"}

    def test_2021_la_without_labels(self, corpus_root: Path) -> None:
        trials = read_protocol(corpus_root / "protocols" / "ASVspoof2021.LA.cm.eval.trl.txt.gz")
        assert Counter(trial.bonafide for trial in trials) == {None: 181_566}

    @pytest.mark.parametrize("name", ["train", "dev", "eval"])
    def test_the_corpus_of_real_speech(self, corpus_root: Path, name: str) -> None:
        trials = read_protocol(corpus_root / "protocols" / f"{name}.txt")
        found = [(trial.utterance, trial.attack if not trial.bonafide else "-", trial.bonafide) for trial in trials]
        expected = listed(corpus_root, name)
        assert found == [(name, attack if key == "spoof" else "-", key == "bonafide") for name, attack, key in expected]


class TestPacked:
    TEXT = "s u1 - - bonafide\ns u2 - A01 spoof\n"

    def test_packed_is_as_good_whatever_its_name(self, tmp_path: Path) -> None:
        plain = read_protocol(written(tmp_path, self.TEXT))
        for name in ("packed.txt.gz", "packed.txt"):
            (tmp_path / name).write_bytes(gzip.compress(self.TEXT.encode()))
            assert read_protocol(tmp_path / name) == plain

    def test_cut_off_or_damaged(self, tmp_path: Path) -> None:
        packed = gzip.compress(self.TEXT.encode() * 1000)
        for damaged in (packed[:-20], packed[:40] + b"\0" * 20 + packed[60:], packed[:2]):
            (tmp_path / "packed.gz").write_bytes(damaged)
            assert refused(tmp_path / "packed.gz")


class TestWhatIsRefused:
    def test_a_line_that_fits_no_form_names_them_all(self, tmp_path: Path) -> None:
        sentence = refused(written(tmp_path, "s u1 - genuine\n"))
        assert "line 1" in sentence
        assert "s u1 - genuine" in sentence
        assert all(form.columns in sentence for form in FORMS)

    def test_a_line_that_is_not_like_those_before(self, tmp_path: Path) -> None:
        sentence = refused(written(tmp_path, "s u1 - - bonafide\n\ns u2 - A01\n"))
        assert "line 3" in sentence
        assert "ASVspoof 2019" in sentence

    @pytest.mark.parametrize("key", ["human", "Spoof", "1"])
    def test_an_unknown_key(self, tmp_path: Path, key: str) -> None:
        assert "bonafide" in refused(written(tmp_path, f"s u1 - - {key}\n"))

    @pytest.mark.parametrize(
        "line",
        [
            "LA_0069 LA_D_1047731 - bonafide target",
            "LA_0007-alaw-ita_tx LA_E_5013670-alaw-ita_tx alaw ita_tx bonafide nontarget notrim eval",
            "D_0062 D_0000000001 F bonafide nontarget",
        ],
    )
    def test_protocols_of_speaker_verification(self, tmp_path: Path, line: str) -> None:
        assert "ASV" in refused(written(tmp_path, line))

    def test_an_utterance_that_comes_twice(self, tmp_path: Path) -> None:
        sentence = refused(written(tmp_path, "s u1 - - bonafide\n\ns u2 - - bonafide\nt u1 - A01 spoof\n"))
        assert "u1" in sentence
        assert "line 1 " in sentence
        assert "line 4" in sentence

    @pytest.mark.parametrize("text", ["", "\n \n\t\n"])
    def test_an_empty_file(self, tmp_path: Path, text: str) -> None:
        assert refused(written(tmp_path, text))

    def test_what_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.flac").write_bytes(b"fLaC\x00\x00\x00\x22\xff\xfe")
        assert refused(tmp_path / "x.flac")
        assert refused(tmp_path)
        assert refused(tmp_path / "absent.txt")

    def test_a_placeholder_of_git_lfs(self, tmp_path: Path) -> None:
        """2021's repository holds these instead of its keys."""
        assert "line 1" in refused(written(tmp_path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"))
