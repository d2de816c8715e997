"""Fooocus and its forks: one JSON object, with keys by their name (MRE, Ruined Fooocus) or their label (SimpleSDXL)."""

from __future__ import annotations

from typing import Any

from image_search.metadata.fields import Fields
from image_search.metadata.generators.automatic1111 import read_infotext
from image_search.metadata.generators.generation import Generation, as_name, as_text, read_settings


def read_fooocus(fields: Fields) -> Generation | None:
    """Known by its scheme chunk, by the software it names, or by a base model beside a prompt."""
    has_scheme = "fooocus_scheme" in fields or fields.get("MakerNote") in ("fooocus", "a1111", "simple")
    is_named = any(
        "fooocus" in str(fields.get(key, ""))[:100].lower() for key in ("Software", "software", "Version", "version")
    )
    for settings in fields["objects"]:
        keys = {str(key).lower().replace(" ", "_") for key in settings}
        if has_scheme or is_named or {"prompt", "base_model"} <= keys or {"prompt", "performance"} <= keys:
            return _read_object(settings)
    text = fields.get("parameters")
    if (has_scheme or is_named) and isinstance(text, str) and not text.lstrip().startswith("{"):
        return read_infotext(text, "Fooocus")
    return None


def _read_object(settings: dict[str, Any]) -> Generation:
    is_ruined = "ruined" in str(settings.get("software", settings.get("Software", ""))).lower()
    plain = {str(key).lower().replace(" ", "_"): value for key, value in settings.items()}
    return read_settings(
        "Ruined Fooocus" if is_ruined else "Fooocus",
        settings,
        prompt=_strip(plain.get("prompt") or plain.get("full_prompt")),
        negative_prompt=_strip(plain.get("negative_prompt") or plain.get("negative")),
        model=as_name(plain.get("base_model_name")) or as_name(plain.get("base_model")),
        sampler=as_name(plain.get("sampler")) or as_name(plain.get("sampler_name")),
        extra=tuple((label, value) for label, key in _EXTRA if (value := as_text(plain.get(key)))),
    )


def _strip(value: Any) -> str | None:
    words = as_text(value)
    return words.strip() if words else None


_EXTRA = (("Schedule type", "scheduler"), ("Styles", "styles"), ("Performance", "performance"), ("Version", "version"))
