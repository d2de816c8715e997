"""TensorArt: its own object "generation_data" beside a graph of ComfyUI."""

from __future__ import annotations

from image_search.metadata.fields import Fields, load_object
from image_search.metadata.generators.comfyui import read_graph
from image_search.metadata.generators.generation import Generation, as_name, fill_gaps, read_settings


def read_tensorart(fields: Fields) -> Generation | None:
    """Words and model from its object, where models have readable names; settings from the graph that was run."""
    text = fields.get("generation_data")
    settings = load_object(text.rstrip("\x00") if isinstance(text, str) else text)
    if settings is None:
        return None
    found = read_settings("TensorArt", settings, model=as_name(settings.get("baseModel")))
    return fill_gaps(found, read_graph(load_object(fields.get("prompt"))))
