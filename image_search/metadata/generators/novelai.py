"""NovelAI: a JSON object in "Comment", from text chunks or from the hidden bits."""

from __future__ import annotations

from typing import Any

from image_search.metadata.fields import Fields, load_object
from image_search.metadata.generators.generation import Generation, as_text, read_settings

_SIGNS = {"uc", "v4_prompt", "noise_schedule", "uncond_scale", "n_samples"}


def read_novelai(fields: Fields) -> Generation | None:
    """Known by Software, or by settings that nobody else has when other programs dropped that chunk."""
    settings = load_object(fields.get("Comment")) or fields
    software = fields.get("Software")
    is_named = isinstance(software, str) and software.startswith("NovelAI")
    if not is_named and len(_SIGNS & settings.keys()) < 2:
        return None
    characters = [
        (f"{label} {number}", words)
        for label, key in (("Character", "v4_prompt"), ("Character negative prompt", "v4_negative_prompt"))
        for number, words in enumerate(_read_characters(settings.get(key)), 1)
        if words
    ]
    return read_settings(
        "NovelAI",
        settings,
        prompt=_read_caption(settings.get("v4_prompt"))
        or as_text(settings.get("prompt"))
        or as_text(fields.get("Description")),
        negative_prompt=_read_caption(settings.get("v4_negative_prompt")),
        model=as_text(fields.get("Source")),
        extra=(*characters, *(("Schedule type", name) for name in [as_text(settings.get("noise_schedule"))] if name)),
    )


def _read_caption(prompt: Any) -> str | None:
    caption = prompt.get("caption") if isinstance(prompt, dict) else None
    return as_text(caption.get("base_caption")) if isinstance(caption, dict) else None


def _read_characters(prompt: Any) -> list[str]:
    caption = prompt.get("caption") if isinstance(prompt, dict) else None
    entries = caption.get("char_captions") if isinstance(caption, dict) else None
    if not isinstance(entries, list):
        return []
    return [as_text(entry.get("char_caption")) or "" for entry in entries[:50] if isinstance(entry, dict)]
