"""Easy Diffusion: a text chunk for each setting, or one JSON object, by its name or its label."""

from __future__ import annotations

from image_search.metadata.fields import Fields
from image_search.metadata.generators.generation import Generation, read_settings

_SIGNS = ("use_stable_diffusion_model", "Stable Diffusion model", "negative_prompt", "Negative Prompt")


def read_easy_diffusion(fields: Fields) -> Generation | None:
    """Known by the name of its model setting, or by a negative prompt in a chunk of its own with a guidance scale."""
    has_model = any(sign in fields for sign in _SIGNS[:2])
    has_settings = any(sign in fields for sign in _SIGNS[2:]) and (
        "Guidance Scale" in fields or "num_inference_steps" in fields
    )
    if not has_model and not (has_settings and ("sampler_name" in fields or "Sampler" in fields)):
        return None
    return read_settings("Easy Diffusion", fields)
