"""Score an array, then the same sound as a stream that arrives in chunks.

python examples/python_api.py                 # a synthesised vowel: no file is needed
python examples/python_api.py call.flac --model wide
"""

import argparse

import numpy as np
import soundfile

from runtime import load


def vowel(seconds: float = 6.0, rate: int = 16_000) -> np.ndarray:
    """Synthesise harmonics of a wandering pitch: (samples,) float32."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 10 * np.sin(2 * np.pi * 0.7 * time)) / rate
    return (0.05 * sum(np.sin(k * phase) / k for k in range(1, 20))).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="sound file; a synthesised vowel without it")
    parser.add_argument("--model", default="f0", help="f0, wide, or a path to model.onnx")
    options = parser.parse_args()
    samples, rate = soundfile.read(options.file, dtype="float32") if options.file else (vowel(), 16_000)

    with load(options.model) as detector:
        print(f"model: {detector.card.name}, {detector.card.precision}")

        summary = detector.score(samples, rate)
        print(f"whole: {summary.state}, LLR {summary.llr}, P(spoof) {summary.p_spoof}")

        stream = detector.stream(rate, prior=0.5, sure=0.7)
        for start in range(0, len(samples), 1000):  # chunks of any size give the same verdicts
            for verdict in stream.push(samples[start : start + 1000]):
                print(f"{verdict.time:6.2f} s  {verdict.state}")
        assert stream.finish().score == summary.score


if __name__ == "__main__":
    main()
