"""Text that every database can hold, and ImageText as columns and one JSON document.

Pictures carry whatever bytes somebody wrote into them. Databases differ in what they refuse (half surrogate pairs,
zero characters, NaN in JSON, the empty string, which Oracle takes for NULL), so it is settled here for all engines.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from unicodedata import normalize

from image_search.records import ImageText, NewImage

# These are columns of their own in every engine, because searches and filters use them.
COLUMNS = ("generation_prompt", "description", "generator", "generation_model", "taken_at")
_DETAILS = tuple(item.name for item in fields(ImageText) if item.name not in COLUMNS)


def make_storable(value: str) -> str:
    """The same text without zero characters, and with half surrogate pairs (bad file names) spelt out."""
    return value.replace("\x00", "").encode("utf-8", "backslashreplace").decode()


def make_file_name(file_path: str) -> str:
    """The name of a file without its folder, composed (NFC) as file_name always is."""
    return normalize("NFC", make_storable(os.path.basename(file_path)))


def make_image_storable(image: NewImage) -> NewImage:
    """The same image with texts a database can hold."""
    return replace(
        image,
        file_name=make_storable(image.file_name),
        file_path=None if image.file_path is None else make_storable(image.file_path),
        text=make_text_storable(image.text),
    )


def make_text_storable(text: ImageText) -> ImageText:
    """The same facts as a database gives them back: no empty strings, no NaN, keywords once each."""
    changes: dict[str, Any] = {}
    for item in fields(ImageText):
        value = getattr(text, item.name)
        if isinstance(value, str):
            changes[item.name] = make_storable(value) or None
        elif isinstance(value, float) and not math.isfinite(value):
            changes[item.name] = None
    if text.taken_at is not None:
        changes["taken_at"] = text.taken_at.replace(tzinfo=None)
    keywords = dict.fromkeys(make_storable(keyword) for keyword in text.keywords)
    keywords.pop("", None)
    raw = {make_storable(name): make_storable(value) for name, value in text.raw.items()}
    return replace(text, **changes, keywords=tuple(keywords), raw=raw)


def dump_details(text: ImageText) -> str:
    """Everything of an ImageText that has no column of its own, as a JSON object without empty entries."""
    values = {name: getattr(text, name) for name in _DETAILS}
    kept = {name: value for name, value in values.items() if value is not None and value not in ((), {})}
    return json.dumps(kept, ensure_ascii=False, allow_nan=False, default=dict)


def load_text(
    details: str | None,
    generation_prompt: str | None,
    description: str | None,
    generator: str | None,
    generation_model: str | None,
    taken_at: datetime | None,
) -> ImageText:
    """The ImageText that dump_details and the columns were made of."""
    values = json.loads(details) if details else {}
    known: dict[str, Any] = {name: values[name] for name in _DETAILS if name in values}
    if "keywords" in known:
        known["keywords"] = tuple(known["keywords"])
    return ImageText(
        generation_prompt=generation_prompt,
        description=description,
        generator=generator,
        generation_model=generation_model,
        taken_at=taken_at,
        **known,
    )
