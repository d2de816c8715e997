"""Days as people type them, for everything that asks for one: the page, its address, the terminal."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_DATE = re.compile(r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?)?", re.ASCII)


def parse_date(text: str, last: bool = False) -> datetime | None:
    """The first moment of a day, month or year (2024-05-01, 2024-05, 2024); with last, of the one after it.

    None for what is no date.
    """
    match = _DATE.fullmatch(text.strip())
    if not match:
        return None
    year, month, day = int(match[1]), int(match[2] or 1), int(match[3] or 1)
    try:
        start = datetime(year, month, day)
        if not last:
            return start
        if match[3]:
            return start + timedelta(days=1)
        if match[2]:
            return datetime(year + month // 12, month % 12 + 1, 1)
        return datetime(year + 1, 1, 1)
    except (ValueError, OverflowError):
        return None
