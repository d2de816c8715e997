"""Spaces on Hugging Face that save a diffusers pipeline's arguments as one JSON object (Animagine XL and its like)."""

from __future__ import annotations

from image_search.metadata.fields import Fields
from image_search.metadata.generators.generation import Generation, read_settings


def read_hugging_face(fields: Fields) -> Generation | None:
    """Known by diffusers' names for the settings beside "Model" and "resolution"."""
    for settings in fields["objects"]:
        if "Model" in settings and ("resolution" in settings or "num_inference_steps" in settings):
            return read_settings("Hugging Face Space", settings)
    return None
