"""How many examples a property is tried with: as many as a test names, and a tenth of them in make test-fast."""

from __future__ import annotations

from hypothesis import settings

WHOLE, FAST = 100, 10  # of a test that names no number


def scale(count: int) -> int:
    """The examples of this run for a test that wants so many in a whole run."""
    return max(1, count * settings.default.max_examples // WHOLE)  # type: ignore[attr-defined]


def use_few_examples() -> None:
    """From now on; called before any test is imported."""
    settings.register_profile("fast", max_examples=FAST)
    settings.load_profile("fast")
