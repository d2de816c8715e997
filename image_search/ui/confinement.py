"""What Gradio would do for a stranger and this program will not: fetch addresses, and take files of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr


def confine(blocks: gr.Blocks) -> None:
    """Let a page take no file but what was uploaded to it.

    Whoever calls an event names the file of a component as {"path": ...}. Gradio checks that it was uploaded only in
    an application that was launched, which a mounted one never is; and it downloads a path that is an address.
    """
    blocks.has_launched = True
    for block in blocks.blocks.values():
        block.async_move_resource_to_block_cache = _refuse_addresses(block.async_move_resource_to_block_cache)


def _refuse_addresses(move: Any) -> Any:
    async def move_file(place: str | Path | None) -> str | None:
        if place is not None and "://" in str(place):
            message = "A picture is not taken from an address. Save it, and send the file."
            raise gr.Error(message, print_exception=False)
        moved: str | None = await move(place)
        return moved

    return move_file
