"""Records to HTML. Everything that came from a file or a person is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate

from image_search.records import ImageRecord
from image_search.search_fusion import FoundBy, FoundHit
from image_search.ui.words import Language, say

DEMO_MODEL = "demo/model"
# What every browser of the last years can draw; anything else is offered as a download.
DRAWABLE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/bmp")


@dataclass(frozen=True)
class Tile:
    """What a session remembers of a hit it shows: enough to draw it again, no texts and no bytes."""

    image_id: int
    file_name: str
    version: str  # of the picture's content: makes its preview's address immutable
    distance: float | None = None
    found_by: FoundBy | None = None
    relevance: float | None = None  # 0 to 1, as in FoundHit

    @classmethod
    def of(cls, hit: FoundHit) -> Tile:
        image = hit.image
        return cls(image.image_id, image.file_name, get_version(image), hit.distance, hit.found_by, hit.relevance)

    @classmethod
    def of_image(cls, image: ImageRecord) -> Tile:
        return cls(image.image_id, image.file_name, get_version(image))


def get_version(image: ImageRecord) -> str:
    """A short name of the picture's content."""
    return image.content_sha256[:16]


def render_heading(language: Language, model_name: str) -> str:
    """Title and tagline, and with the demo model what it cannot do."""
    lines = ["tagline", "demo_model"] if model_name == DEMO_MODEL else ["tagline"]
    paragraphs = "".join(f"<p>{escape(say(language, line))}</p>" for line in lines)
    lost = escape(say(language, "connection_lost"))
    return f'<h1 data-lost="{lost}">{escape(say(language, "title"))}</h1>{paragraphs}'


def render_tiles(tiles: Sequence[Tile], language: Language) -> str:
    """The grid, best at the top left."""
    # How an image was found is worth a word only where there is more than one way.
    named = any(tile.found_by in ("words", "both") for tile in tiles)
    label = escape(say(language, "gallery"))
    items = [f"<li>{render_tile(tile, named, language)}</li>" for tile in tiles]
    place = find_line(tiles)
    if 0 < place < len(tiles):
        items.insert(place, f'<li class="line">{escape(say(language, "line"))}</li>')
    return f'<ul class="tiles" aria-label="{label}">{"".join(items)}</ul>'


def find_line(tiles: Sequence[Tile]) -> int:
    """How many tiles from the first on are relevant on the whole; all of them where it cannot be told.

    Where the sum of what speaks for and against relevance is largest: one stray hit further down moves nothing.
    """
    if any(tile.relevance is None for tile in tiles):
        return len(tiles)
    sums = list(accumulate((tile.relevance or 0) - 0.5 for tile in tiles))
    best = max(range(len(sums)), key=lambda place: (sums[place], place), default=-1)
    return best + 1 if sums and sums[best] >= 0 else 0


def render_tile(tile: Tile, named: bool, language: Language) -> str:
    """The inside of one place of the grid. named: whether to say how the picture was found."""
    name = escape(tile.file_name)
    label, facts = name, ""
    if tile.distance is not None:
        label += f"、{say(language, 'distance_short')} {tile.distance:.4f}"
        facts += f'<span class="distance">{tile.distance:.4f}</span>'
    if tile.relevance is not None:
        label += f"、{say(language, 'relevance')} {tile.relevance:.0%}"
    if named and tile.found_by:
        found_by = escape(say(language, f"found_by_{tile.found_by}"))
        label += f"、{found_by}"
        facts += f'<span class="badge {tile.found_by}">{found_by}</span>'
    facts += "" if tile.relevance is None else render_bar(tile.relevance)
    similar = escape(say(language, "show_similar"))
    preview = f"images/{tile.image_id}/preview?v={tile.version}"
    return (
        f'<button type="button" class="tile" data-image="{tile.image_id}" aria-label="{label}">'
        f'<img src="{preview}&amp;small=1" srcset="{preview} 2x" alt="" loading="lazy" decoding="async">'
        f'<span class="label"><span class="name">{name}</span>{facts}</span></button>'
        f'<button type="button" class="similar" tabindex="-1" title="{similar}" aria-label="{similar}">≈</button>'
    )


def render_bar(relevance: float) -> str:
    """A bar as long as the relevance; pale below the line."""
    kind = "bar" if relevance >= 0.5 else "bar low"
    return f'<span class="{kind}"><i style="width:{relevance:.0%}"></i></span>'


def render_message(title: str, hint: str = "", kind: str = "empty") -> str:
    """A sentence where pictures would be. kind: empty, notice or problem."""
    role = "alert" if kind == "problem" else "status"
    more = f"<p>{escape(hint)}</p>" if hint else ""
    return f'<div class="message {kind}" role="{role}"><strong>{escape(title)}</strong>{more}</div>'


def render_progress(title: str, done: int, count: int, hint: str = "") -> str:
    """A sentence with a bar that says how far it is."""
    more = f"<p>{escape(hint)}</p>" if hint else ""
    return (
        f'<div class="message notice" role="status"><strong>{escape(title)}</strong>'
        f'<progress value="{done}" max="{max(count, 1)}"></progress>{more}</div>'
    )


def render_summary(title: str, detail: str, filtered: str, address: str) -> str:
    """The line above the grid. address: of this search, for the browser's address bar and its history."""
    badge = f'<span class="badge">{escape(filtered)}</span>' if filtered else ""
    return (
        f'<h2 data-address="{escape(address)}">{escape(title)}</h2>{badge}'
        f'<span class="timing" role="status">{escape(detail)}</span>'
    )
