"""Print verdicts on a microphone, with a callback of your own.

    python examples/mic.py                        # until Ctrl-C
    python examples/mic.py --device USB --seconds 20

The callback copies the samples and returns; everything else happens in the main thread. For a service that survives
unplugging use `python -m runtime.stream --mic`.
"""

import argparse
import queue
import time

import numpy as np
import sounddevice

from runtime import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="edge", help="accurate, edge, f0, or a path to model.onnx")
    parser.add_argument("--device", help="part of the microphone's name; the default one without it")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options = parser.parse_args()

    blocks: queue.Queue[tuple[np.ndarray, bool]] = queue.Queue()

    def callback(data: np.ndarray, frames: int, when: object, status: sounddevice.CallbackFlags) -> None:
        blocks.put((data.copy(), bool(status.input_overflow)))

    rate = int(sounddevice.query_devices(options.device, "input")["default_samplerate"])
    with load(options.model) as detector:
        stream, state = detector.stream(rate), None
        microphone = sounddevice.InputStream(rate, 0, options.device, 1, "float32", callback=callback)
        end = time.monotonic() + options.seconds
        try:
            with microphone:
                while time.monotonic() < end:
                    samples, overflow = blocks.get(timeout=5)
                    if overflow:
                        print("samples were dropped: the machine is too slow")
                    for verdict in stream.push(samples):
                        if verdict.state != state:
                            state = verdict.state
                            print(f"{verdict.time:6.1f} s  {state}", flush=True)
        except KeyboardInterrupt:
            pass
        print(stream.finish().line())


if __name__ == "__main__":
    main()
