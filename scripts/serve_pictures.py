"""Draw the pictures in docs/serve.md: the service's page after a file and a microphone, on a desktop and on a phone.

    python -m scripts.serve_pictures                      # docs/images/serve.png, docs/images/serve-phone.png

Chromium runs headless; its microphone hears both passages of the demo, which takes half a minute.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from runtime.audio.features import RATE
from runtime.sources.demo import PAUSE, passages
from tests.runtime.serve.browser import browser
from tests.runtime.serve.server import serving

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
ROWS = "document.querySelectorAll('#rows tr').length"
SECONDS = "parseFloat(document.querySelector('#plot').dataset.seconds)"


def draw(folder: Path, work: Path) -> None:
    """Score the sound twice, then take both pictures."""
    real, fake = passages(RATE).values()
    sound = np.concatenate([real, np.zeros(round(PAUSE * RATE), np.float32), fake])
    call = work / "call.wav"
    soundfile.write(call, sound, RATE)
    with serving() as service, browser(work / "profile", call) as page:
        page.size(1100, 1000)
        page.open(service.url)
        page.wait("document.querySelector('#models').textContent")
        page.choose(call)
        page.wait(f"{ROWS} === 1")
        page.run("document.querySelector('#mic').click()")
        page.wait(f"document.querySelector('#mic').getAttribute('aria-pressed') === 'true' && {SECONDS} < 5")
        page.wait(f"{SECONDS} >= {len(sound) / RATE:.1f}")
        page.run("document.querySelector('#mic').click()")
        page.wait(f"{ROWS} === 2")
        page.picture(folder / "serve.png")
        page.size(390, 844, "dark")
        page.picture(folder / "serve-phone.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=IMAGES, help="where the pictures are written")
    with tempfile.TemporaryDirectory() as work:
        draw(parser.parse_args().folder, Path(work))


if __name__ == "__main__":
    main()
