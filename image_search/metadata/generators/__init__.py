"""The meaning of an image's texts: readers of generators, tried in this order."""

from __future__ import annotations

from collections.abc import Callable

from image_search.metadata.containers import Extracted
from image_search.metadata.generators.automatic1111 import read_automatic1111
from image_search.metadata.generators.comfyui import read_comfyui
from image_search.metadata.generators.generation import Generation
from image_search.metadata.generators.others import (
    read_civitai,
    read_content_credentials,
    read_draw_things,
    read_easy_diffusion,
    read_fooocus,
    read_hugging_face,
    read_invokeai,
    read_midjourney,
    read_novelai,
    read_stability,
    read_stability_matrix,
    read_swarmui,
    read_tensorart,
)
from image_search.metadata.text import Fields, make_fields

# Programs built on ComfyUI keep its graph beside their own settings, so they come before it; those that borrow
# AUTOMATIC1111's text come before that.
_READERS: tuple[Callable[[Fields], Generation | None], ...] = (
    read_swarmui,
    read_invokeai,
    read_tensorart,
    read_stability_matrix,
    read_civitai,
    read_novelai,
    read_draw_things,
    read_hugging_face,
    read_fooocus,
    read_easy_diffusion,
    read_comfyui,
    read_stability,
    read_automatic1111,
    read_midjourney,
)


def detect_generator(found: Extracted) -> Generation | None:
    """The result of the first reader that recognises these texts; else the signer of the image; else None."""
    fields = make_fields(found.texts)
    for read in _READERS:
        if generation := read(fields):
            return generation
    return read_content_credentials(found)
