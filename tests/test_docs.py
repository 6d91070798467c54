"""The pages: every link leads somewhere, every page is linked, and what they list is all there is."""

import re
import subprocess
import sys
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import pytest

from runtime.card.model_card import ModelCard

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / line
    for line in subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@lru_cache
def text(page: Path) -> str:
    """A page without its examples: what looks like a link in code is none."""
    kept = re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8"))
    return re.sub(r"`[^`\n]*`", "", kept)


def anchors(page: Path) -> set[str]:
    """The names under which GitHub lets one jump to a heading."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8")))
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def links(page: Path) -> list[str]:
    return LINK.findall(text(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            assert link.startswith("https://"), link
            continue
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{page.name}: {link}"
        assert found.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        assert not anchor or anchor in anchors(found), f"{page.name}: {link}; there are {sorted(anchors(found))}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
        waiting += [target for target in targets if target.suffix == ".md" and target.is_file()]
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= reached


@lru_cache
def options(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return set(re.findall(r"--[a-z0-9-]+", done.stdout))


def test_the_commands_in_the_pages_have_options_that_exist() -> None:
    seen = 0
    for page in PAGES:
        if "reports" in page.parts or page.name == "CHANGELOG.md":  # commands of their time
            continue
        whole = page.read_text("utf-8").replace("\\\n", " ")
        for module, rest in re.findall(r"python3? -m ((?:runtime|train|export|benchmarks)[\w.]*)([^`\n]*)", whole):
            given = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", rest.partition("#")[0]))
            seen += len(given)
            odd = given - options(module)
            assert not odd, f"{page.name}: python -m {module} has no {odd}"
    assert seen > 100


def test_the_page_about_the_card_has_every_entry_in_its_order() -> None:
    first = re.findall(r"(?m)^\| (`.*?) \|", (ROOT / "docs" / "card.md").read_text("utf-8"))
    named = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert named == [field.name for field in fields(ModelCard)]


def test_the_files_that_contributors_are_sent_to_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`((?:runtime|train|export|benchmarks|tests|examples|scripts|docs)/[\w/.-]*)`", page))
    assert len(named) > 20 and [path for path in named if not (ROOT / path).exists()] == []
