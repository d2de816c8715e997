"""SwarmUI (and StableSwarmUI): the object "sui_image_params"."""

from __future__ import annotations

from image_search.metadata.fields import Fields, load_object
from image_search.metadata.generators.generation import Generation, as_text, read_settings


def read_swarmui(fields: Fields) -> Generation | None:
    """From a PNG's "parameters" or from UserComment; early versions put the object into the EXIF tag Model."""
    settings = load_object(fields.get("sui_image_params"))
    if settings is None:
        return None
    scheduler = as_text(settings.get("scheduler"))
    return read_settings(
        "SwarmUI",
        settings,
        sampler=as_text(settings.get("sampler")) or as_text(settings.get("comfyuisampler")),
        extra=(("Schedule type", scheduler),) if scheduler else (),
    )
