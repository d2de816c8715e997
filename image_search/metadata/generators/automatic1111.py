"""AUTOMATIC1111's web UI and its descendants, and whoever writes the same text."""

from __future__ import annotations

import re

from image_search.metadata.fields import Fields
from image_search.metadata.generators.generation import Generation, read_settings
from image_search.metadata.generators.infotext import Infotext, split_infotext

# "Version: ..." tells them apart: Forge f2.0.1v1.10.1-..., reForge f1.0.0v2-v1.10.1..., EasyReforge f1.0.0-v1...
_VERSIONS = (
    (re.compile(r"classic"), "Forge Classic"),
    (re.compile(r"neo"), "Forge Neo"),
    (re.compile(r"f\d+(?:\.\d+)+-v"), "EasyReforge"),
    (re.compile(r"f\d+(?:\.\d+)+v\d+-v"), "reForge"),
    (re.compile(r"f\d"), "Forge"),
    (re.compile(r"Fooocus"), "Fooocus"),
    (re.compile(r"ComfyUI"), "ComfyUI"),
    (re.compile(r"Easy Diffusion"), "Easy Diffusion"),
)


def read_automatic1111(fields: Fields) -> Generation | None:
    """The text in "parameters", unless it is JSON, which is another program's."""
    text = fields.get("parameters")
    if not isinstance(text, str) or not text.strip() or text.lstrip().startswith("{"):
        return None
    return read_infotext(text)


def read_infotext(text: str, generator: str | None = None) -> Generation:
    """A text in AUTOMATIC1111's layout, which is kept as it is. The generator is found in it unless given."""
    parts = split_infotext(text)
    settings = parts.settings
    return read_settings(
        generator or _name_generator(parts, text),
        settings,
        prompt=settings.get("raw prompt") or parts.prompt,
        negative_prompt=settings.get("raw negative prompt") or parts.negative_prompt,
        sampler=settings.get("sampler"),
        written=text.strip(),
    )


def _name_generator(parts: Infotext, text: str) -> str:
    settings = parts.settings
    version = settings.get("version", "")
    for pattern, name in _VERSIONS:
        if pattern.match(version):
            return name
    if settings.get("app", "").lower().startswith("sd.next") or "pipeline" in settings or "backend" in settings:
        return "SD.Next"
    if "Civitai resources:" in text or "Civitai metadata:" in text:
        return "Civitai"
    return "AUTOMATIC1111"
