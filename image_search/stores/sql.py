"""A SearchFilter as conditions of a SQL query over images i, for engines with the tables of create_all_tables.sql.

Placeholders are written %s and times are datetimes; texts must compare by their bytes (binary or "C" collation).
"""

from __future__ import annotations

from collections.abc import Iterator

from image_search.records import SearchFilter
from image_search.stores.text import sanitize

Condition = tuple[str, list[object]]  # with the values of its placeholders

_ORIENTATIONS = {"landscape": "i.width > i.height", "portrait": "i.width < i.height", "square": "i.width = i.height"}


def list_conditions(filter: SearchFilter) -> Iterator[Condition]:
    """A condition for every field that is set, except words: how those are found is each engine's own."""
    for column, operator, moment in (
        ("taken_at", ">=", filter.taken_from),
        ("taken_at", "<", filter.taken_to),
        ("upload_date", ">=", filter.registered_from),
        ("upload_date", "<", filter.registered_to),
    ):
        if moment is not None:
            yield f"i.{column} {operator} %s", [moment]
    if filter.folder is not None:
        yield _match_folder(sanitize(filter.folder))
    if filter.file_types:
        placeholders = ", ".join(["%s"] * len(filter.file_types))
        yield f"i.file_type IN ({placeholders})", [sanitize(file_type) for file_type in filter.file_types]
    if filter.orientation is not None:
        yield _ORIENTATIONS[filter.orientation], []
    if filter.min_pixels is not None:
        yield "i.width * i.height >= %s", [filter.min_pixels]
    if filter.generator is not None:
        yield "i.generator = %s", [sanitize(filter.generator)]
    if filter.generation_model is not None:
        yield "i.generation_model = %s", [sanitize(filter.generation_model)]
    if filter.has_prompt is not None:
        yield f"i.generation_prompt IS {'NOT ' if filter.has_prompt else ''}NULL", []
    if filter.keyword is not None:
        yield (
            "i.image_id IN (SELECT k.image_id FROM image_keywords k WHERE k.keyword = %s)",
            [sanitize(filter.keyword)],
        )


def _match_folder(folder: str) -> Condition:
    # Every path below /a/b lies between /a/b/ and /a/b0 (0 follows the slash), which an index can walk.
    below = folder.rstrip("/\\")
    bounds = [(below + separator, below + chr(ord(separator) + 1)) for separator in "/\\"]
    sql = " OR ".join("i.file_path >= %s AND i.file_path < %s" for _ in bounds)
    return f"({sql})", [value for pair in bounds for value in pair]
