"""What is wrong with a command line, in one sentence that says what was probably meant.

    complaint(Options, ["--modle", "f0"], "what tyro said")   # --modle: no such option; did you mean --model?

It is loaded when something is wrong, and by tests.
"""

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import tyro

from runtime.support.suggestions import nearest

# What other programs call our options, or earlier versions of this one did; no command has an option of such a name.
OTHER_NAMES = {
    "model": ("checkpoint", "ckpt", "weights", "model-path"),
    "corpus": ("data", "dataset", "data-dir", "data-path", "database", "root"),
    "out": ("output", "outdir", "out-dir", "output-dir", "save", "save-dir", "dest", "pictures"),
    "cache": ("cache-dir", "features-dir"),
    "threads": ("num-threads", "nthreads", "cpu-threads"),
    "workers": ("jobs", "num-workers", "processes", "procs"),
    "seed": ("random-seed", "random-state"),
    "batch": ("batch-size", "most"),
    "device": ("gpu", "cuda"),
    "mic": ("microphone",),
    "network": ("arch", "architecture", "backbone"),
    "file": ("input", "audio", "wav"),
    "rate": ("sample-rate", "samplerate"),
    "json": ("as-json", "format"),
    "overwrite": ("force", "replace"),
    "lr": ("learning-rate",),
    "epochs": ("num-epochs",),
}
POSITIONAL = get_args(tyro.conf.Positional[int])[1:] or tyro.conf.Positional[int].__metadata__  # type: ignore[attr-defined]


def complaint(options: Any, words: Sequence[str], told: str) -> str:
    """What `words` hold that `options` does not take; `told` is tyro's box about it."""
    positional, known = names(options)
    for word in words:
        given = word.partition("=")[0]
        name = given.lstrip("-").replace("_", "-")
        if re.match(r"--?[A-Za-z]", given) and name not in (*known, "help", "h"):
            return f"{given}: no such option{_meant(name, known)}"
    lines = _first_paragraph(told)
    text = " ".join(line.strip() for line in lines) or "this command line was not understood"
    if text.startswith("Missing from"):
        missing = [line.strip() for line in lines if re.match(r" {6}\S", line)]
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if match := re.match(r"Unrecognized options: (.*)", text):
        by_name = f"; did you mean --file {match[1]}?" if "file" in known else ""
        return f"{match[1]}: only options were expected there{by_name}"
    if match := re.match(r"invalid choice '(.*?)' for argument '(.*?)'.*?\((.*)\)", text):
        choices = re.findall(r"'(.*?)'", match[3])
        return f"{match[2]} {match[1]}: {', '.join(choices)} were expected{nearest(match[1], choices)}"
    if match := re.match(r"Missing value for argument '(?:\w+\.)?(.*?)'", text):
        return f"{match[1].upper() if match[1] in positional else match[1]}: a value was expected"
    if match := re.match(r"Error parsing (\S+): .* from \[(.*?)\].* argument count (\d+)", text):
        return f"{match[1]} {match[2]}: {match[3]} values were expected"
    if match := re.match(r"(?i)Error parsing (\S+): .*\b(int|float)\b.*'(.*)'", text):
        return f"{match[1]} {match[3]}: a {'whole ' * (match[2].lower() == 'int')}number was expected"
    return text.rstrip(".")


def names(options: Any) -> tuple[list[str], list[str]]:
    """Of a dataclass and of those within it: what stands without its name, and the options, as they are typed."""
    positional, known = list[str](), list[str]()
    for name, hint in get_type_hints(options, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        kind = get_args(hint)[0] if marks else hint
        if is_dataclass(kind):
            inner = names(kind)
            positional += inner[0]
            known += inner[1]
        else:
            (positional if POSITIONAL[0] in marks else known).append(name.replace("_", "-"))
    return positional, known


def _meant(name: str, known: Sequence[str]) -> str:
    for ours, others in OTHER_NAMES.items():
        if name in others and ours in known:
            return f"; did you mean --{ours}?"
    return nearest(name, known).replace("did you mean ", "did you mean --")


def _first_paragraph(box: str) -> list[str]:
    """Of a box that tyro drew, in Unicode or in ASCII: the lines between its title and the first rule below them."""
    kept = list[str]()
    for line in box.splitlines()[1:]:
        inner = line.replace("│", " ").rstrip()
        if inner.strip() and not inner.strip(" -─╰╯"):
            if kept:
                break
        elif inner:
            kept.append(inner)
    return kept
