"""What a user can cause and mend. Every package raises these; a command prints one line and exits 2.

    raise ShrikeError("model.pt is not a Shrike checkpoint; train one with: python -m train --corpus PATH")

Anything else that reaches the top of a command is a bug of ours and keeps its traceback.
"""


class ShrikeError(Exception):
    """One sentence or two: what came, what was expected, what to do next."""


class AudioError(ShrikeError):
    """A sound file that cannot be used; the message does not repeat the path, who knows it adds it."""
