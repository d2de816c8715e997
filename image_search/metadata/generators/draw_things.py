"""Draw Things: XMP, with a JSON object in exif:UserComment and a text for people in dc:description."""

from __future__ import annotations

import re

from image_search.metadata.fields import Fields
from image_search.metadata.generators.generation import Generation, as_text, fill_gaps, read_settings
from image_search.metadata.generators.infotext import split_infotext

_NEGATIVE_LINE = re.compile(r"\n-")


def read_draw_things(fields: Fields) -> Generation | None:
    """Known by its name as creator tool, or by the keys of its object."""
    tool = fields.get("CreatorTool")
    is_named = isinstance(tool, str) and tool.startswith("Draw Things")
    settings = next((found for found in fields["objects"] if {"c", "uc"} <= found.keys()), None)
    written = fields.get("parameters")
    described = _read_description(written) if isinstance(written, str) and is_named else None
    if settings is None:
        return described or (Generation("Draw Things") if is_named else None)
    found = read_settings(
        "Draw Things",
        settings,
        prompt=(as_text(settings["c"]) or "").strip(),
        negative_prompt=(as_text(settings["uc"]) or "").strip(),
    )
    return fill_gaps(found, described)


def _read_description(text: str) -> Generation:
    parts = split_infotext(text)
    words = _NEGATIVE_LINE.split(parts.prompt, maxsplit=1)
    return read_settings(
        "Draw Things",
        parts.settings,
        prompt=words[0].strip(),
        negative_prompt=words[1].strip() if len(words) > 1 else parts.negative_prompt,
    )
