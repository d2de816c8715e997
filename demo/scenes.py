"""A scene: a place, a time, a weather and one to three things in it. Drawn twice, it gives the same pixels."""

import random
import zlib
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageFilter

from demo.backgrounds import INDOORS, PLACES, TIMELESS, TIMES, WEATHERS
from demo.concepts import load_concepts
from demo.glyphs import draw_glyph
from demo.places import draw_place

ASPECTS = ((1, 1), (4, 3), (3, 4), (3, 2))
OBJECT_LIGHT = {"day": (1.0, 1.0, 1.0), "dusk": (1.0, 0.87, 0.78), "night": (0.74, 0.78, 0.96)}


@dataclass(frozen=True)
class Item:
    """One thing: where its centre is (shares of width and height) and its length (share of the shorter side)."""

    concept: str
    glyph: str
    x: float
    y: float
    size: float
    angle: float
    mirrored: bool
    grounded: bool


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn. `time` and `weather` are empty where a place has none."""

    place: str
    time: str
    weather: str
    items: tuple[Item, ...]
    aspect: tuple[int, int]
    background_seed: int

    @property
    def concepts(self) -> tuple[str, ...]:
        """The concepts shown, each once, in the order of the items."""
        return tuple(dict.fromkeys(item.concept for item in self.items))

    @property
    def count(self) -> int:
        """How many there are, when all are the same thing; 0 when several things are shown."""
        return len(self.items) if len(self.concepts) == 1 else 0


def is_held_out(concept: str, place: str, time: str) -> bool:
    """One in ten combinations of a thing, a place and a time is never trained on."""
    return zlib.crc32(f"{concept} {place} {time}".encode()) % 10 == 0


def compose_scene(
    rng: random.Random,
    concept: str | None = None,
    *,
    others: tuple[str, ...] | None = None,
    place: str | None = None,
    time: str | None = None,
    weather: str | None = None,
    aspect: tuple[int, int] | None = None,
    held_out: bool = False,
    backgrounds: int = 1_000_000,
) -> Scene:
    """A random scene; what is given is kept. `held_out`: only combinations of the first thing never trained on."""
    names = list(load_concepts())
    concept = concept or rng.choice(names)
    if others is None:
        number = rng.choices((1, 2, 3), (50, 33, 17))[0]
        same = rng.random() < 0.4
        others = tuple(concept if same else rng.choice(names) for _ in range(number - 1))
    concepts = (concept, *others)
    for _ in range(200):
        where = place or rng.choice(PLACES)
        when = "" if where in TIMELESS else time or rng.choice(TIMES)
        # In training the others must not be in a held-out combination either: those belong to the evaluation.
        if is_held_out(concept, where, when) if held_out else not any(is_held_out(c, where, when) for c in concepts):
            break
    sky = "" if where in INDOORS else weather or rng.choices(WEATHERS, (64, 13, 13, 10))[0]
    items = place_items(rng, concepts, where)
    return Scene(where, when, sky, items, aspect or rng.choice(ASPECTS), rng.randrange(backgrounds))


def place_items(rng: random.Random, concepts: tuple[str, ...], place: str) -> tuple[Item, ...]:
    """Give each thing a spot: side by side, on the ground or in the air."""
    table = load_concepts()
    number = len(concepts)
    smallest, largest = ((0.4, 0.7), (0.3, 0.46), (0.25, 0.36))[number - 1]
    items = []
    for index, concept in enumerate(concepts):
        size = rng.uniform(smallest, largest)
        x = 0.5 + rng.uniform(-0.2, 0.2) if number == 1 else (index + 0.5) / number + rng.uniform(-0.06, 0.06)
        floating = place in ("space", "underwater") or rng.random() < 0.08
        flying = table[concept].stands == "sky"
        if floating:
            y = rng.uniform(0.32, 0.68)
        elif flying:
            y = rng.uniform(0.28, 0.5)
        else:
            y = rng.uniform(0.82, 0.95) - size / 2
        tilt = 24 if floating or flying else 9
        items.append(
            Item(
                concept,
                rng.choice(table[concept].glyphs),
                x,
                y,
                size,
                rng.uniform(-tilt, tilt),
                rng.random() < 0.5,
                not (floating or flying),
            )
        )
    return tuple(items)


@cache
def _light_glyph(glyph: str, longest: int, time: str) -> Image.Image:
    picture = draw_glyph(glyph, longest)
    if time in ("", "day"):
        return picture
    channels = picture.split()
    lit = [
        channel.point([round(v * k) for v in range(256)])
        for channel, k in zip(channels, OBJECT_LIGHT[time], strict=False)
    ]
    return Image.merge("RGBA", (*lit, channels[3]))


@cache
def _draw_shadow() -> Image.Image:
    shadow = Image.new("L", (64, 24))
    shadow.paste(110, (12, 7, 52, 17))
    return shadow.filter(ImageFilter.GaussianBlur(4))


def draw_scene(
    scene: Scene, size: tuple[int, int], background: Image.Image | None = None, detail: int = 0
) -> Image.Image:
    """The scene as RGB of `size`. A size of another aspect squashes it, as the model's preprocessing does.

    `background` spares drawing the place again (it must have `size`); `detail` is the length in pixels that
    glyphs are taken at before they are scaled, 0 for the font's own.
    """
    image = (
        background.copy()
        if background
        else draw_place(scene.place, scene.time, scene.weather, scene.background_seed, size)
    )
    short = min(scene.aspect)
    unit_x, unit_y = size[0] * short / scene.aspect[0], size[1] * short / scene.aspect[1]
    for item in scene.items:
        glyph = _light_glyph(item.glyph, detail, scene.time)
        scale = item.size / max(glyph.size)
        wide, tall = max(1, round(glyph.width * scale * unit_x)), max(1, round(glyph.height * scale * unit_y))
        glyph = glyph.resize((wide, tall), Image.Resampling.BICUBIC)
        if item.mirrored:
            glyph = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        glyph = glyph.rotate(item.angle, Image.Resampling.BICUBIC, expand=True)
        x, y = item.x * size[0], item.y * size[1]
        if item.grounded:
            shadow = _draw_shadow().resize(
                (max(1, round(wide * 1.2)), max(1, round(tall * 0.24))), Image.Resampling.BILINEAR
            )
            corner = (round(x - shadow.width / 2), round(y + tall * 0.46 - shadow.height / 2))
            image.paste((0, 0, 0), (*corner, corner[0] + shadow.width, corner[1] + shadow.height), shadow)
        image.paste(glyph, (round(x - glyph.width / 2), round(y - glyph.height / 2)), glyph)
    return image
