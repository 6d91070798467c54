"""Errors that the user can fix. A command (runtime.support.command) prints them as one line and exits with code 2.

    raise ShrikeError("model.pt is not a Shrike checkpoint; train one with: python -m train --corpus PATH")

Any other exception is a bug and keeps its traceback.
"""

import sys


class ShrikeError(Exception):
    """The wrong value, the expected one, and the next step. Control characters are escaped."""

    kind, code = "error", 2  # the line's first word, and the command's exit code

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in super().__str__().split("\n"))


class AudioError(ShrikeError):
    """A sound file that cannot be decoded; the caller adds the path to the message."""


def say(sentence: str) -> None:
    """Write one line for people to stderr; stdout is for results."""
    print(printable(sentence), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escape line ends, terminal controls and undecodable bytes, all of which file names may contain."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
