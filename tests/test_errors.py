"""Every error that a user can cause reads as help: one line, what came, what was expected or what to do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_house import FLOORS, ROOT

RAISED = {"ShrikeError", "AudioError", "NoDeviceError"}
# What was expected, or what to do. An error that has none of these words is a statement, and no help.
HELP = re.compile(
    r"expected|did you mean|must be|needs?\b|belongs? (to|there)|\bwants\b|python -m|pip install|apt install|--help"
    r"|cannot be (read|written|opened)\b.*\{\}"  # and the system's reason
    r"|(available|it has|its columns|networks that can|embedded are|any of|both are)\b"  # and what there is instead
    r"|at least|at most|\bone of\b|there are|known are|are allowed|only like|no model of ours"
    r"|\b(give|gives|try|use|say|name|put|leave|lower|raise|choose|copy|export|build|rename|run|mend|pipe|measure|look|check|point"
    r"|remove|free|wait|update|train|ask|write|set)\b"
)


def text(node: ast.expr) -> str | None:
    """The words of an expression; what is filled in stands as {}. None: they come from elsewhere."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else _filled(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text(node.left), text(node.right)
        return None if left is None and right is None else (left or "{}") + (right or "{}")
    if isinstance(node, ast.IfExp):
        both = text(node.body), text(node.orelse)
        return None if None in both else " / ".join(map(str, both))
    return None


def _filled(part: ast.expr) -> str:
    """nearby() and nearest() end a sentence; a constant says what to do; anything else is a value."""
    source = ast.unparse(part).lstrip("f'\"{(")
    if re.match(r"[A-Z_]+\b", source):
        return "needs {}"
    return "" if re.match(r"(nearby|nearest)\(", source) else "{}"


def sentences(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, words, and whether somebody else adds what it is about."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in RAISED and node.args and (words := text(node.args[0])):
                yield node.lineno, words, node.func.id != "ShrikeError"
            elif node.func.id == "require" and (words := text(node.args[1])):
                yield node.lineno, words, True  # of an entry of a card: runtime.card.codec says which
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Compare | ast.BoolOp):
            words = text(node.elts[1]) or ""
            if " " in words:
                yield node.lineno, words, False


def only_passes_on(words: str) -> bool:
    """A frame around what others say: `{}, line {}: {}`."""
    return words.count("{}") >= 2 and len(re.findall(r"[a-z]{2,}", words)) <= 2


FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_error_is_one_line_that_names_what_came_and_what_helps(path: Path) -> None:
    for line, words, about in sentences(path):
        where = f"{path.name}:{line}: {words}"
        assert "\n" not in words, f"several lines: {where}"
        assert not words.endswith((".", "!", " ")), f"an error ends without a full stop: {where}"
        assert not re.search(r"(?i)\b(invalid|illegal|bad|oops|failed|sorry|please)\b", words), where
        assert about or re.search(r"\{\}|--\w|python -m|\w", words), f"what came? {where}"
        assert about or only_passes_on(words) or HELP.search(words), f"what was expected, what to do? {where}"


def test_there_are_errors_to_look_at() -> None:
    assert sum(1 for path in FILES for _ in sentences(path)) > 300
