"""What a user can cause and mend. Every package raises these; a command (runtime.support.command) prints one line and exits 2.

    raise ShrikeError("model.pt is not a Shrike checkpoint; train one with: python -m train --corpus PATH")

Anything else that reaches the top of a command is a bug of ours and keeps its traceback.
"""


class ShrikeError(Exception):
    """One sentence or two: what came, what was expected, what to do next. What a terminal would act on is escaped."""

    kind, code = "error", 2  # what the line begins with, and the command's exit code

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in super().__str__().split("\n"))


class AudioError(ShrikeError):
    """A sound file that cannot be used; the message does not repeat the path, who knows it adds it."""


def printable(text: str) -> str:
    """Names of files may hold anything: line ends, a terminal's commands, bytes that are no UTF-8."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
