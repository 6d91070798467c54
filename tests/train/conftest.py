"""What all tests of training share."""

from tests.threads import one_thread

__all__ = ["one_thread"]
