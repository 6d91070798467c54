"""One vocabulary: none of the words that readers had to guess, in names, strings, comments, help and docs.

CONTRIBUTING.md has the glossary. A word is banned where the field has a better one, which stands beside it here.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_house import ROOT

# Pattern -> the word to use. Case does not matter; identifiers are split at capitals and underscores first.
BANNED = {
    r"remember(s|ed|ing)?": "streaming, stateful; state",
    r"by chance": "random weights, randomly initialised",
    r"sp(eaks?|oken) for": "lists, covers",
    r"h(angs?|ung) on": "depends on",
    r"said|told|says so": "reported, printed, logged, stated",
    r"tells? apart": "distinguished",
    r"held against": "compared with",
    r"look(s|ed|ing)? at": "reads, uses, sees; or say how the value is used",
    r"what is no number|(is|are|were|was) no numbers?": "non-finite",
    r"made by code|code (makes|made|synthesi[sz]es)": "synthetic",
    r"(network|model)s? of whole windows|whole windows": "windowed model",
    r"hearing": "framer",
    r"seats": "batch buffers",
    r"classroom": "DistillationModel",
    r"mentors?": "external teacher",
    r"troubles?": "error, check",
    r"(?<!on )demands?": "require",
    r"(is|are) given \d+ new frames": "takes 16 new frames",
    r"the (card|report|graph|file|page|header|summary)s? (says?|tells?|speaks?|knows?|claims?)": "states, lists",
    r"fresh weights": "randomly initialised",
    r"who(ever)? (hears|listens|asks|looks)": "caller, receiver",
    r"is worth (more|nothing)": "say the measured difference",
    r"the house": "the repository",
    r"ground floor": "runtime",
}
PATTERN = re.compile("|".join(rf"(?P<w{n}>\b(?:{word}))(?!\w)" for n, word in enumerate(BANNED)), re.IGNORECASE)

# Places where a banned word is right, each with its reason.
EXCEPTED = {
    "tests/test_vocabulary.py": "lists the words",
    "CHANGELOG.md": "names what was removed or renamed, as it was called",
}
PYTHON = [
    path
    for room in ("runtime", "train", "export", "benchmarks", "scripts", "examples", "tests")
    for path in sorted((ROOT / room).rglob("*.py"))
]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md"), ROOT / "setup.cfg"]
FILES = [path for path in (*PYTHON, *PAGES) if path.relative_to(ROOT).as_posix() not in EXCEPTED]


def plain(name: str) -> str:
    """Split an identifier: `StateStore_of` -> `State Store of`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name)


def words(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of identifiers, comments and strings, or of a page's paragraphs."""
    source = path.read_text("utf-8")
    if path.suffix != ".py":
        yield from paragraphs(source)
        return
    comment, began = "", 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:  # a sentence may go on in the next line
            comment, began = (
                (f"{comment} {token.string.lstrip('# ')}", began) if comment else (token.string, token.start[0])
            )
            continue
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            continue
        if comment:
            yield began, comment
            comment = ""
        if token.type == tokenize.NAME:
            yield token.start[0], plain(token.string)
    if comment:
        yield began, comment
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, re.sub(r"\s+", " ", plain(node.value) if "_" in node.value else node.value)


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    number = 1
    for part in re.split(r"(\n\s*\n)", text):
        if part.strip():
            yield number, re.sub(r"\s+", " ", part)
        number += part.count("\n")


PLACES = sorted({path.relative_to(ROOT).parts[0] for path in FILES})


def files(place: str) -> list[Path]:
    return [path for path in FILES if path.relative_to(ROOT).parts[0] == place]


@pytest.mark.parametrize("place", PLACES)
def test_no_banned_word(place: str) -> None:
    found = []
    for path in files(place):
        for line, text in words(path):
            for match in PATTERN.finditer(text):
                better = list(BANNED.values())[int(str(match.lastgroup)[1:])]
                found.append(f"{path.relative_to(ROOT)}:{line}: {match[0]!r}; use: {better}")
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("place", PLACES)
def test_docstrings_begin_with_a_verb_or_a_noun(place: str) -> None:
    found = []
    for path in files(place):
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                if re.match(r"(What|Who|Whether|How|Where|Why)\b", first):
                    found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {first}")
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text", ["It remembers", "made by code", "HearingAid", "demand(x)", "card_demand", "the card says", "is said"]
)
def test_the_check_finds_what_it_should(text: str) -> None:
    assert PATTERN.search(plain(text))


def test_the_glossary_uses_none_of_them_either() -> None:
    glossary = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Glossary")[2].partition("\n## ")[0]
    assert glossary.count("\n|") > 12 and not PATTERN.search(glossary)
