"""Transforms of sound: each does to a signal what its definition says, and nothing worse to any signal."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.features import PRESETS, RATE
from runtime.support.errors import ShrikeError
from scripts.demonstration_sound import OnSound, sound_transforms, voice, whole_chain
from train.augment import CODECS, RAWBOOST
from train.augment.chain import build_chain, played
from train.augment.codecs import FFMPEG, LIBSNDFILE, available, compress, expand, round_trip
from train.augment.filters import BandLimit, convolve, fast_length
from train.augment.noise import STEP, Dither, Gain, Noise
from train.augment.rawboost import band_stop, convolutive, impulsive, notch, stationary
from train.augment.rooms import Room, load_rooms, prepared, synthetic
from train.config import Augmentation

WORKING = available(CODECS, RATE)[0]
ALL = sound_transforms(RATE, WORKING)


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def level(sound: np.ndarray) -> float:
    """dB of the mean power."""
    return 10 * float(np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-30))


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


# ---- whatever comes in -----------------------------------------------------------------------------------------------

SOUNDS = {
    "voice": lambda n: voice(RATE, 1.0)[:n],
    "silence": lambda n: np.zeros(n, np.float32),
    "a constant": lambda n: np.full(n, 0.7, np.float32),
    "full scale": lambda n: np.where(np.arange(n) % 50 < 25, 1, -1).astype(np.float32),
    "one bit": lambda n: (np.arange(n) % 7 == 0).astype(np.float32) * np.float32(STEP),
}


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
@settings(max_examples=12, deadline=None)
@given(length=st.integers(1, 6000), kind=st.sampled_from(sorted(SOUNDS)), seed=st.integers(0, 2**31))
def test_any_sound_stays_a_sound_and_the_seed_decides(one: OnSound, length: int, kind: str, seed: int) -> None:
    sound = SOUNDS[kind](length)
    before = sound.copy()
    after = one.transform(sound, dice(seed))
    assert after.dtype == np.float32 and np.isfinite(after).all() and np.abs(after).max(initial=0) < 20
    if one.name != "speed":
        assert after.shape == sound.shape
    assert np.array_equal(sound, before)  # what came in is a view into the cache
    assert np.array_equal(after, one.transform(sound, dice(seed)))


@pytest.mark.parametrize("length", [1, 5, 1728, 80_000])
def test_everything_together_stays_within_full_scale(length: int) -> None:
    chain = whole_chain(RATE, WORKING)
    sound = np.tile(voice(RATE, 1.0), 5)[:length] * np.float32(3)
    for seed in range(8):
        rolled = dice(seed)
        heard = chain(sound, chain.draw_speed(rolled), rolled)
        assert np.abs(heard).max() <= 1 and np.isfinite(heard).all() and len(heard)


# ---- level, noise, dither --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_gain_shifts_log_power_by_itself(name: str) -> None:
    sound = 0.1 * dice().standard_normal(RATE).astype(np.float32)
    louder = Gain(12)(sound, dice(4))
    decibels = level(louder) - level(sound)
    shift = PRESETS[name].frames(louder) - PRESETS[name].frames(sound)
    assert 8 < decibels <= 12 and np.abs(shift - decibels * np.log(10) / 10).max() < 1e-3


@pytest.mark.parametrize("colour, slope", [("white", 0.0), ("pink", -3.0)])
def test_noise_has_its_ratio_and_its_slope(colour: str, slope: float) -> None:
    sound = tone(440, 5)
    noise = Noise((10, 10), colour, RATE)(sound, dice()) - sound  # type: ignore[arg-type]
    assert level(sound) - level(noise) == pytest.approx(10, abs=0.01)
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    octaves = [power[(frequency >= f) & (frequency < 2 * f)].mean() for f in (125, 250, 500, 1000, 2000, 4000)]
    assert np.polyfit(np.arange(6), 10 * np.log10(octaves), 1)[0] == pytest.approx(slope, abs=0.3)


def test_dither_takes_the_offset_and_hides_zeros() -> None:
    sound = np.concatenate([voice(RATE, 1.0), np.zeros(RATE, np.float32)]) + np.float32(0.01)
    after = Dither(1.0)(sound, dice())
    assert abs(after.mean()) < STEP / 50
    change = after - (sound - sound.mean(dtype=np.float64))
    assert np.abs(change).max() <= STEP * 1.001 and (np.diff(after[RATE:]) == 0).mean() < 0.01
    assert change.std() == pytest.approx(STEP / np.sqrt(6), rel=0.02)  # two uniform steps


# ---- bands and rooms -------------------------------------------------------------------------------------------------


def test_a_telephone_keeps_its_band_and_nothing_beside_it() -> None:
    limit = BandLimit("telephone", RATE)

    def gain(frequency: float) -> float:
        sound = tone(frequency)
        return level(limit(sound, dice())[2000:-2000]) - level(sound[2000:-2000])

    assert all(abs(gain(frequency)) < 0.6 for frequency in (300, 400, 1000, 2000, 3000, 3300))
    assert gain(3400) > -1 and gain(4000) < -14 and gain(4600) < -28 and gain(100) < -40  # G.712's mask


def test_random_bands_differ_and_leave_the_middle() -> None:
    limit, sound = BandLimit("random", RATE), tone(1000)
    after = [limit(sound, dice(seed)) for seed in range(20)]
    assert all(abs(level(one[2000:-2000]) - level(sound[2000:-2000])) < 0.2 for one in after)
    hiss = dice().standard_normal(RATE).astype(np.float32)
    assert np.std([level(limit(hiss, dice(seed))) for seed in range(20)]) > 1


def test_convolution_is_the_sum_it_is_defined_as() -> None:
    sound, response = dice(1).standard_normal((2, 300)).astype(np.float32)
    assert np.allclose(convolve(sound, response[:77]), np.convolve(sound, response[:77])[:300], atol=1e-4)
    for least in (1, 7, 1023, 84_000):
        assert least <= fast_length(least) <= 1.25 * least + 2 and fast_length(least) % 2 == 0


def test_a_unit_impulse_is_no_room_and_rooms_delay_nothing(tmp_path: Path) -> None:
    impulse = np.zeros((4000, 2), np.float32)
    impulse[40, 0] = 0.5
    soundfile.write(tmp_path / "unit.wav", impulse, RATE, subtype="FLOAT")
    (tmp_path / "notes.txt").write_text("no sound")
    responses, refused = load_rooms(tmp_path, RATE)
    assert len(responses) == 1 and len(refused) == 1 and "notes.txt" in refused[0]  # the empty channel is none
    sound = voice(RATE, 1.0)
    assert np.allclose(Room(responses, RATE)(sound, dice()), sound, atol=1e-6)
    click = np.zeros(RATE, np.float32)
    click[500] = 1
    for seed in range(10):
        heard = Room((), RATE)(click, dice(seed))
        assert np.abs(heard).argmax() == 500 and not np.abs(heard[:500]).max() > 1e-6


def test_a_room_has_energy_one_and_the_decay_it_was_made_with() -> None:
    for seed in range(10):
        response = synthetic(RATE, dice(seed))
        assert np.linalg.norm(response) == pytest.approx(1, abs=1e-5) and len(response) <= RATE
    decay = 0.4
    tail = dice().standard_normal(RATE) * 10 ** (-3 * np.arange(RATE) / RATE / decay)
    tail[0] = 5
    kept = prepared(np.concatenate([np.zeros(100), tail]), RATE)
    assert len(kept) / RATE == pytest.approx(decay, abs=0.06)  # 60 dB below the whole is a little before T60's end


def test_the_corpus_own_rooms_are_read(corpus_root: Path) -> None:
    responses, refused = load_rooms(corpus_root / "channels", RATE)
    folder = corpus_root / "channels"
    channels = sum(soundfile.info(path).channels for path in folder.glob("*.wav"))
    assert len(responses) == channels > 0  # a response for every channel; MATLAB's files state no rate
    assert all(len(response) <= RATE and abs(response[0]) == abs(response).max() for response in responses)
    assert sorted(sentence.split()[0] for sentence in refused) == sorted(path.name for path in folder.glob("*.mat"))


def test_a_folder_without_responses_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ShrikeError, match="--rir"):
            load_rooms(folder, RATE)


# ---- codecs ----------------------------------------------------------------------------------------------------------

# ITU-T G.711, tables 1a and 2a: decoder output for the first code of each positive segment, and the largest
A_LAW = {0xD5: 1, 0xC5: 33, 0xF5: 66, 0xE5: 132, 0x95: 264, 0x85: 528, 0xB5: 1056, 0xA5: 2112, 0xAA: 4032}
MU_LAW = {0xFF: 0, 0xFE: 2, 0xEF: 33, 0xDF: 99, 0xCF: 231, 0xBF: 495, 0xAF: 1023, 0x9F: 2079, 0x8F: 4191, 0x80: 8031}


@pytest.mark.parametrize("name, table, steps", [("alaw", A_LAW, 8), ("mulaw", MU_LAW, 4)])
def test_g711_decodes_as_the_standards_tables(name: str, table: dict[int, int], steps: int) -> None:
    values = expand(name)
    for code, value in table.items():
        assert values[code] == steps * value and values[code ^ 0x80] == -steps * value


@pytest.mark.parametrize("name, subtype", [("alaw", "ALAW"), ("mulaw", "ULAW")])
def test_g711_is_what_another_implementation_does(name: str, subtype: str) -> None:
    codes, samples = np.arange(256, dtype=np.uint8), np.arange(65536, dtype=np.uint16).view(np.int16)
    raw = {"samplerate": 8000, "channels": 1, "format": "RAW", "subtype": subtype}
    assert np.array_equal(soundfile.read(io.BytesIO(codes.tobytes()), dtype="int16", **raw)[0], expand(name))
    kept = compress(name, expand(name).astype(np.int16))
    assert (kept == codes).sum() == (256 if name == "alaw" else 255)  # mu-law has two zeros
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format="WAV", subtype=subtype)
    file.seek(0)
    theirs, ours = soundfile.read(file, dtype="int16")[0], round_trip(name) * 2**15
    # Negative samples on the very edge of an interval: G.191 takes one's complements, libsndfile absolute values.
    assert (theirs != ours).mean() < 0.002 and (samples[theirs != ours] < 0).all()


def test_every_codec_of_the_command_line_exists_and_the_common_ones_work() -> None:
    assert set(CODECS) == {"alaw", "mulaw", *LIBSNDFILE, *FFMPEG}
    assert {"alaw", "mulaw", "gsm", "adpcm", "vorbis"} <= set(WORKING)


@pytest.mark.parametrize("name", WORKING)
def test_codecs_keep_a_voice_in_time_and_lose_what_they_must(name: str) -> None:
    sound = tone(500) * np.hanning(RATE).astype(np.float32)
    after = build_chain(Augmentation(codecs=name, sound_share=1.0), RATE)(sound, 1.0, dice())  # type: ignore[misc]
    assert level(after - sound) < level(sound) - 8  # a codec that delayed by a millisecond would fail
    assert not np.array_equal(after, sound)
    high = tone(6000)
    lost = level(high) - level(build_chain(Augmentation(codecs=name, sound_share=1.0), RATE)(high, 1.0, dice()))  # type: ignore[misc]
    assert lost > 30 if name in ("alaw", "mulaw", "gsm", "adpcm", "amr") else lost < 6


def test_a_missing_codec_is_reported_once_and_nothing_left_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    chain = build_chain(Augmentation(codecs="gsm,amr"), RATE)
    assert chain and "codec amr needs an ffmpeg" in capsys.readouterr().err
    with pytest.raises(ShrikeError, match="amr"):
        build_chain(Augmentation(codecs="amr,g722"), RATE)


# ---- RawBoost --------------------------------------------------------------------------------------------------------


def test_notch_filters_have_their_peak_and_a_notch() -> None:
    stop = np.abs(np.fft.rfft(band_stop(101, 0.25, 0.5), 4096))  # 2 to 4 kHz
    assert stop[0] == pytest.approx(1) and stop[int(0.375 * 2048)] < 0.01
    for seed in range(20):
        taps = notch(RATE, -6.0, dice(seed))
        assert len(taps) % 2 == 1 and len(taps) <= 5 * 101
        assert np.abs(np.fft.rfft(taps, 1024)).max() == pytest.approx(10 ** (-6 / 20))


def test_rawboost_stays_within_the_published_bounds() -> None:
    sound = voice(RATE, 1.0)
    for seed in range(20):
        noise = stationary(sound, RATE, dice(seed)) - sound
        assert 9.9 < level(sound) - level(noise) < 40.1
        moved = impulsive(sound, dice(seed)) - sound
        assert (moved != 0).mean() <= 0.1 and (np.abs(moved) <= 2 * np.abs(sound) + 1e-6).all()
        filtered = convolutive(sound, RATE, dice(seed))
        assert abs(filtered.mean()) < 1e-5 and np.abs(filtered).max() <= 1 + 1e-6
    assert any((impulsive(sound, dice(seed)) != sound).mean() > 0.05 for seed in range(20))
    assert set(RAWBOOST) == {"lnl", "isd", "ssi"}


def test_convolutive_noise_makes_harmonics_that_filters_alone_cannot() -> None:
    spectra = [np.abs(np.fft.rfft(convolutive(tone(500), RATE, dice(seed)) * np.hanning(RATE))) for seed in range(9)]
    third = np.median([spectrum[1500] / spectrum[500] for spectrum in spectra])
    assert 1e-4 < third < 0.3


# ---- speed and the chain ---------------------------------------------------------------------------------------------


def test_faster_is_shorter_and_higher() -> None:
    after = played(tone(1000), 1.1)
    assert len(after) == pytest.approx(RATE / 1.1, abs=2)
    peak = np.abs(np.fft.rfft(after * np.hanning(len(after)))).argmax() * RATE / len(after)
    assert peak == pytest.approx(1100, abs=2)


def test_nothing_asked_for_is_no_chain_and_no_share_leaves_sound_alone() -> None:
    assert build_chain(Augmentation(gain=6, noise=(-90, -50), mask_bands=3, mask_frames=9, specmix=0.5), RATE) is None
    chain = build_chain(Augmentation(snr=(0, 5), speed=10, band="telephone", sound_share=0.0), RATE)
    assert chain is not None
    rolled, sound = dice(), voice(RATE, 1.0)
    assert chain.draw_speed(rolled) == 1.0 and np.array_equal(chain(sound, 1.0, rolled), sound)


def test_each_transform_touches_its_share_on_its_own() -> None:
    chain = build_chain(Augmentation(sound_gain=6, band="telephone", sound_share=0.3), RATE)
    assert chain is not None
    sound = tone(1000, 0.2) + tone(6000, 0.2) * np.float32(0.2)
    louder, narrower = [], []
    for seed in range(300):
        spectrum = np.abs(np.fft.rfft(chain(sound, 1.0, dice(seed)) * np.hanning(len(sound))))
        louder.append(abs(spectrum[200] - 400) > 1)
        narrower.append(spectrum[1200] < 10)
    assert 0.2 < np.mean(louder) < 0.4 and 0.2 < np.mean(narrower) < 0.4
    assert 0.03 < np.mean(np.array(louder) & np.array(narrower)) < 0.16
