"""Score many streams with one model: windows that are due together share a call.

    python examples/many_streams.py calls/*.wav

The files play the part of calls that arrive at the same time, 0.1 s of each in turn. Names are those of sherpa-onnx.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile

from runtime import StreamBatcher, open_engine, read_card

MODELS = Path(__file__).resolve().parent.parent / "runtime" / "models"
CHUNK = 1600  # samples, 0.1 s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="mono sound files at the model's rate, 16 kHz")
    parser.add_argument("--model", type=Path, default=MODELS / "edge.onnx", help="model.onnx with its card beside it")
    options = parser.parse_args()

    card, engine = read_card(options.model), open_engine(options.model)
    batcher = StreamBatcher(engine, card.frontend)
    sounds = {}
    for path in options.files:
        samples, rate = soundfile.read(path, dtype="float32")
        if rate != card.frontend.rate or samples.ndim != 1:
            parser.error(f"{path}: expected mono at {card.frontend.rate} Hz")
        sounds[str(path)] = samples
    streams = {name: batcher.create_stream() for name in sounds}

    def print_results() -> None:
        for name, stream in streams.items():
            for score in batcher.get_result(stream):
                llr = float(card.score.llr(np.float64(score.value)))
                print(f"{name}  {score.time:6.2f} s  LLR {llr:+.2f}")

    for start in range(0, max(map(len, sounds.values())), CHUNK):
        for name, stream in streams.items():
            stream.accept_waveform(sounds[name][start : start + CHUNK])
        while ready := [stream for stream in streams.values() if batcher.is_ready(stream)]:
            batcher.decode_streams(ready)
        print_results()
    for stream in streams.values():
        batcher.remove(stream)
    engine.close()


if __name__ == "__main__":
    main()
