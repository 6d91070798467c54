"""Fixtures that several packages' tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def corpus_root() -> Path:
    """The corpus of real speech and real fakes that lies beside the repository; other machines skip what needs it."""
    root = Path(os.environ.get("SHRIKE_CORPUS", REPOSITORY.parent / "shared" / "corpus"))
    if not (root / "protocols").is_dir():
        pytest.skip(f"needs the speech corpus at {root} (or set SHRIKE_CORPUS)")
    return root
