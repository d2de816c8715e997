"""Groups of pictures that are the same picture, to choose from: the largest stays, nothing goes without a click."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from image_search.records import ImageRecord
from image_search.ui.details import describe_size
from image_search.ui.render import Tile, render_message, render_tile
from image_search.ui.words import Language, say


def render_duplicates(groups: Sequence[Sequence[ImageRecord]], language: Language) -> str:
    """One row a group, every picture but the first marked; a button deletes what is marked."""
    if not groups:
        return render_message(say(language, "no_duplicates"))
    rows = "".join(_render_group(group, language) for group in groups)
    title, question, delete = (escape(say(language, key)) for key in ("delete_marked", "delete_question", "delete_now"))
    return (
        f'<form class="duplicates">{rows}<details class="delete"><summary>{title}</summary><p>{question}</p>'
        f'<button type="submit">{delete}</button></details></form>'
    )


def _render_group(group: Sequence[ImageRecord], language: Language) -> str:
    items = []
    for place, image in enumerate(group):
        mark = (
            f'<label><input type="checkbox" name="image" value="{image.image_id}"{" checked" if place else ""}>'
            f"{escape(say(language, 'mark_for_deletion'))}</label><small>{escape(describe_size(image))}</small>"
        )
        items.append(f"<li>{render_tile(Tile.of_image(image), False, language)}{mark}</li>")
    return f'<ul class="tiles">{"".join(items)}</ul>'
