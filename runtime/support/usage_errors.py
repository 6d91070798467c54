"""Turn tyro's error box into one line that names the option and suggests the nearest one.

explain(Options, ["--modle", "f0"], box)      # --modle: no such option; did you mean --model?
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from runtime.support.config_file import find_options, plain
from runtime.support.suggestions import nearest


def explain(options: Any, words: Sequence[str], box: str) -> str:
    """Say what is wrong with `words`; `box` is tyro's output."""
    positional, known = option_names(options)
    for word in words:
        given = word.partition("=")[0]
        name = given.lstrip("-").replace("_", "-")
        if re.match(r"--?[A-Za-z]", given) and name not in (*known, "help", "h"):
            longer = [one for one in known if name.startswith(one) or one.startswith(name)]
            return f"{given}: no such option" + nearest(name, known, longer).replace("mean ", "mean --")
    lines = _first_paragraph(box)
    text = " ".join(line.strip() for line in lines) or "expected another command line"
    if text.startswith("Missing from"):
        return f"expected {' and '.join(line.strip() for line in lines if re.match(r' {6}[^ ]', line))}"
    if match := re.match(r"Unrecognized options: (.*)", text):
        return f"{match[1]}: expected options only" + f"; did you mean --file {match[1]}?" * ("file" in known)
    if match := re.match(r"invalid choice '(.*?)' for argument '(.*?)'.*?\((.*)\)", text):
        choices = _choices(options, match[2].lstrip("-"))
        name = match[2].upper() if match[2] in positional else match[2]
        return f"{name} {match[1]}: expected {', '.join(choices)}{nearest(match[1], choices)}"
    if match := re.match(r"Missing value for argument '(?:\w+\.)?(.*?)'", text):
        return f"{match[1].upper() if match[1] in positional else match[1]}: expected a value"
    if match := re.match(r"Error parsing (\S+): .* from \[(.*?)\].* argument count (\d+)", text):
        return f"{match[1]} {match[2]}: expected {match[3]} values"
    if match := re.match(r"(?i)Error parsing (\S+): .*\b(int|float)\b.*'(.*)'", text):
        return f"{match[1]} {match[3]}: expected a {'whole ' * (match[2].lower() == 'int')}number"
    return text.rstrip(".")


def option_names(options: Any) -> tuple[list[str], list[str]]:
    """List the positional arguments and the options, as they are typed."""
    found = find_options(options)
    return [one.name for one in found if one.positional], [one.name for one in found if not one.positional]


def _choices(options: Any, name: str) -> list[str]:
    """List the choices of an option in their order: tyro lists those of an Optional in any, and None with them."""
    kind = next(plain(one.hint) for one in find_options(options) if one.name == name.rpartition(".")[2])
    kind = next((inner for inner in get_args(kind) if get_origin(inner) is Literal), kind)  # of a tuple
    return [str(choice) for choice in get_args(kind)]


def _first_paragraph(box: str) -> list[str]:
    """Lines between the title and the first rule of the box, which is drawn in Unicode or in ASCII."""
    inner = [line.replace("│", " ").rstrip() for line in box.splitlines()[1:]]
    rules = [number for number, line in enumerate(inner) if number and line.strip() and not line.strip(" -─╰╯")]
    return [line for line in inner[: rules[0] if rules else None] if line.strip(" -─╰╯")]
