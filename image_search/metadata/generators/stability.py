"""Programs around Stable Diffusion 3 that write each argument into a text chunk: "prompt" beside "prompt_3"."""

from __future__ import annotations

from image_search.metadata.fields import Fields
from image_search.metadata.generators.generation import Generation, as_text, read_settings


def read_stability(fields: Fields) -> Generation | None:
    """Stable Diffusion 3 takes up to three prompts, one for each of its text encoders; equal ones are said once."""
    if "prompt" not in fields or not ("prompt_2" in fields or "prompt_3" in fields):
        return None

    def join(*keys: str) -> str | None:
        words = (as_text(fields.get(key)) for key in keys)
        return "\n".join(dict.fromkeys(word for word in words if word)) or None

    return read_settings(
        "Stability",
        fields,
        prompt=join("prompt", "prompt_2", "prompt_3"),
        negative_prompt=join("negative_prompt", "negative_prompt_2", "negative_prompt_3"),
    )
