"""What a picture's text means: one module for each generator, asked in this order."""

from __future__ import annotations

from collections.abc import Callable

from image_search.metadata.containers.found import Found
from image_search.metadata.fields import Fields, make_fields
from image_search.metadata.generators.automatic1111 import read_automatic1111
from image_search.metadata.generators.civitai import read_civitai
from image_search.metadata.generators.comfyui import read_comfyui
from image_search.metadata.generators.content_credentials import read_content_credentials
from image_search.metadata.generators.draw_things import read_draw_things
from image_search.metadata.generators.easy_diffusion import read_easy_diffusion
from image_search.metadata.generators.fooocus import read_fooocus
from image_search.metadata.generators.generation import Generation
from image_search.metadata.generators.hugging_face import read_hugging_face
from image_search.metadata.generators.invokeai import read_invokeai
from image_search.metadata.generators.midjourney import read_midjourney
from image_search.metadata.generators.novelai import read_novelai
from image_search.metadata.generators.stability import read_stability
from image_search.metadata.generators.stability_matrix import read_stability_matrix
from image_search.metadata.generators.swarmui import read_swarmui
from image_search.metadata.generators.tensorart import read_tensorart

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


def recognise(found: Found) -> Generation | None:
    """What the first generator that knows these texts makes of them; failing that, who signed the picture; or None."""
    fields = make_fields(found.texts)
    for read in _READERS:
        if generation := read(fields):
            return generation
    return read_content_credentials(found)
