"""Fixtures of all tests of training."""

from tests.threads import one_thread

__all__ = ["one_thread"]
