"""Score an array, then the same sound as a stream that arrives in chunks.

python examples/python_api.py                 # the demo's recording: no file is needed
python examples/python_api.py call.flac --model accurate
"""

import argparse

import soundfile

from runtime import load
from runtime.sources.demo import passages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="sound file; the demo's recording without it")
    parser.add_argument("--model", default="edge", help="accurate, edge, f0, or a path to model.onnx")
    options = parser.parse_args()
    samples, rate = (
        soundfile.read(options.file, dtype="float32") if options.file else (passages(16_000)["real"], 16_000)
    )

    with load(options.model) as detector:
        print(f"model: {detector.card.name}, {detector.card.precision}")

        summary = detector.score(samples, rate)
        print(f"whole: {summary.state}, LLR {summary.llr}, P(spoof) {summary.p_spoof}")

        stream = detector.stream(rate, prior=0.5)
        for start in range(0, len(samples), 1000):  # chunks of any size give the same verdicts
            for verdict in stream.push(samples[start : start + 1000]):
                print(f"{verdict.time:6.2f} s  {verdict.state}")
        assert stream.finish().score == summary.score


if __name__ == "__main__":
    main()
