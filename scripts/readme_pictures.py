"""Draw the pictures in README.md: the live view in a terminal, and the plot of a file.

    python -m scripts.readme_pictures                     # docs/images/live.png, docs/images/plot.png
    python -m scripts.readme_pictures --size 200 60 /tmp  # another size of terminal, another folder

The view runs in a pseudo-terminal; pyte (a dev requirement) emulates the terminal, Pillow draws its screen.
"""

import argparse
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MOMENT = "0:00:07"  # on the view's clock: there is voice, and the window has been full for two seconds
PATIENCE = 60.0  # s
POINTS = 15  # of the font
COLOURS = {"default": "#d8dee9", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "yellow": "#e5c07b"}
COLOURS |= {"blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#ffffff", "black": "#5c6370"}
PAPER = "#1e222a"


def screen(columns: int, lines: int) -> Any:
    """Run the live view on the demo in a terminal of that size until its clock shows MOMENT."""
    import pyte

    view = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(view)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.environ["TERM"] = "xterm-256color"
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            os.environ.pop(name, None)
        time.sleep(0.2)  # the size is set meanwhile
        os.execv(sys.executable, [sys.executable, "-m", "runtime.stream", "--demo", "--realtime"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    began = time.monotonic()
    while MOMENT not in "".join(view.display) and time.monotonic() - began < PATIENCE:
        if select.select([terminal], [], [], 0.1)[0]:
            stream.feed(os.read(terminal, 65_536))
    os.kill(child, 2)
    os.waitpid(child, 0)
    os.close(terminal)
    return view


def draw(view: Any, path: Path) -> None:
    """Draw the screen as a PNG."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names = ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")
    faces = [ImageFont.truetype(fonts / name, POINTS) for name in names]
    wide, high = round(faces[0].getlength("M")), round(POINTS * 1.25)
    used = max(row for row, line in enumerate(view.display) if line.strip()) + 1
    image = Image.new("RGB", ((view.columns + 2) * wide, (used + 1) * high), PAPER)
    pen = ImageDraw.Draw(image)
    for row in range(used):
        for column in range(view.columns):
            cell = view.buffer[row][column]
            place = ((column + 1) * wide, (row + 0.5) * high)
            front, back = _colour(cell.fg, COLOURS["default"]), _colour(cell.bg, PAPER)
            if cell.reverse:
                front, back = back, front
            if back != PAPER:
                pen.rectangle((place, (place[0] + wide - 1, place[1] + high - 1)), back)
            pen.text(place, cell.data, front, faces[int(cell.bold)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return COLOURS.get(name.removeprefix("bright"), f"#{name}" if len(name) == 6 else default)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--size", nargs=2, type=int, default=(80, 24), metavar=("COLUMNS", "LINES"))
    options = parser.parse_args()
    draw(screen(*options.size), options.folder / "live.png")
    plot = [sys.executable, "-m", "runtime.stream", "--demo", "--plot", str(options.folder / "plot.png")]
    subprocess.run(plot, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
