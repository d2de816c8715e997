"""Drawn places: sky, ground and weather, at any size. The same arguments give the same pixels."""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

RGB = tuple[int, int, int]

PLACES = (
    "sea", "mountain", "forest", "city", "desert", "snowfield", "meadow", "river", "ricefield",
    "space", "room", "underwater",
)  # fmt: skip
TIMES = ("day", "dusk", "night")
WEATHERS = ("clear", "rain", "snow", "fog")
INDOORS = frozenset({"space", "room", "underwater"})  # no weather there; the room still has a time in its window
TIMELESS = frozenset({"space", "underwater"})

SKIES: dict[str, tuple[tuple[RGB, RGB, RGB], ...]] = {
    "day": (
        ((64, 142, 224), (140, 200, 246), (224, 242, 252)),
        ((86, 164, 232), (160, 214, 248), (236, 246, 250)),
        ((50, 126, 206), (120, 188, 240), (206, 234, 250)),
    ),
    "dusk": (
        ((84, 60, 128), (232, 112, 96), (255, 196, 112)),
        ((58, 56, 118), (222, 96, 110), (255, 170, 96)),
        ((120, 74, 124), (244, 132, 84), (255, 214, 130)),
    ),
    "night": (
        ((8, 12, 38), (18, 28, 70), (40, 54, 104)),
        ((6, 8, 28), (22, 24, 64), (52, 48, 98)),
        ((10, 18, 44), (16, 38, 78), (34, 66, 104)),
    ),
}
GROUND_LIGHT = {"day": (1.0, 1.0, 1.0), "dusk": (0.86, 0.62, 0.56), "night": (0.26, 0.31, 0.5)}


def blend(first: RGB, second: RGB, share: float) -> RGB:
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def light_up(colour: RGB, time: str) -> RGB:
    """A daylight colour as it looks at `time`."""
    return tuple(min(255, round(c * k)) for c, k in zip(colour, GROUND_LIGHT[time], strict=True))  # type: ignore[return-value]


def vary(colour: RGB, rng: random.Random, spread: int = 14) -> RGB:
    shift = rng.randint(-spread, spread)
    return tuple(max(0, min(255, c + shift + rng.randint(-5, 5))) for c in colour)  # type: ignore[return-value]


def draw_gradient(size: tuple[int, int], stops: Sequence[RGB]) -> Image.Image:
    """A vertical gradient through `stops`, evenly spread."""
    height = size[1]
    places = np.linspace(0, len(stops) - 1, height)
    column = np.stack([np.interp(places, range(len(stops)), [s[c] for s in stops]) for c in range(3)], axis=1)
    return Image.fromarray(column.round().astype(np.uint8)[:, None, :]).resize(size)


class Canvas:
    """A picture under construction. Coordinates are shares of its width and height."""

    def __init__(self, size: tuple[int, int], rng: random.Random, time: str) -> None:
        self.size, self.rng, self.time = size, rng, time
        self.width, self.height = size
        self.short = min(size)
        self.image = Image.new("RGB", size)

    def fill_gradient(self, top: float, stops: Sequence[RGB], bottom: float = 1.0) -> None:
        start, end = round(top * self.height), round(bottom * self.height)
        if end > start:
            self.image.paste(draw_gradient((self.width, end - start), stops), (0, start))

    def fill_shape(self, points: Sequence[tuple[float, float]], colour: RGB) -> None:
        scaled = [(x * self.width, y * self.height) for x, y in points]
        ImageDraw.Draw(self.image).polygon(scaled, fill=colour)

    def fill_box(self, left: float, top: float, right: float, bottom: float, colour: RGB) -> None:
        box = (left * self.width, top * self.height, right * self.width, bottom * self.height)
        if box[2] >= box[0] and box[3] >= box[1]:
            ImageDraw.Draw(self.image).rectangle(box, fill=colour)

    def fill_circle(self, x: float, y: float, radius: float, colour: RGB) -> None:
        """`radius` is a share of the shorter side, so that circles stay round."""
        cx, cy, r = x * self.width, y * self.height, radius * self.short
        ImageDraw.Draw(self.image).ellipse((cx - r, cy - r, cx + r, cy + r), fill=colour)

    def glow(self, x: float, y: float, radius: float, colour: RGB, strength: float) -> None:
        """A soft light, brightest in its middle."""
        cx, cy, r = x * self.width, y * self.height, radius * self.short
        ys, xs = np.ogrid[: self.height, : self.width]
        near = np.exp(-(((xs - cx) ** 2 + (ys - cy) ** 2) / (r * r)) * 2.2) * strength
        pixels = np.asarray(self.image, dtype=np.float32)
        pixels = pixels + (np.array(colour, dtype=np.float32) - pixels) * near[..., None].astype(np.float32)
        self.image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    def draw_soft(self, draw: Callable[[ImageDraw.ImageDraw], None], colour: RGB, blur: float) -> None:
        """Paint what `draw` puts on a mask (white = painted), with edges softened by `blur` of the shorter side."""
        mask = Image.new("L", self.size)
        draw(ImageDraw.Draw(mask))
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * self.short))
        self.image.paste(Image.new("RGB", self.size, colour), (0, 0), mask)

    def draw_ridge(self, base: float, height: float, roughness: int, top: RGB, bottom: RGB) -> list[float]:
        """Rolling hills whose crest wanders about `base`; the crest's heights come back (one per column)."""
        rng = self.rng
        waves = [(rng.uniform(0.6, 1.6) * (k + 1), rng.uniform(0, math.tau), 1 / (k + 1)) for k in range(roughness)]
        xs = np.linspace(0, 1, self.width)
        crest = sum(np.sin(xs * math.tau * f + p) * a for f, p, a in waves)
        crest = base - height * np.asarray(crest) / sum(a for _, _, a in waves)
        mask = Image.new("L", self.size)
        points = [(0.0, float(self.height))]
        points += [(float(i), float(c) * self.height) for i, c in enumerate(crest)] + [(float(self.width), self.height)]
        ImageDraw.Draw(mask).polygon(points, fill=255)
        start = max(0, round(float(crest.min()) * self.height))
        paint = Image.new("RGB", self.size, top)
        paint.paste(draw_gradient((self.width, max(1, self.height - start)), (top, bottom)), (0, start))
        self.image.paste(paint, (0, 0), mask)
        return [float(c) for c in crest]


def draw_sky(canvas: Canvas, horizon: float, weather: str) -> None:
    rng, time = canvas.rng, canvas.time
    stops = list(rng.choice(SKIES[time]))
    if weather != "clear":
        grey = {"day": (176, 186, 196), "dusk": (158, 112, 112), "night": (34, 38, 58)}[time]
        stops = [blend(s, grey, 0.62) for s in stops]
    canvas.fill_gradient(0, stops, bottom=min(1.0, horizon + 0.14))
    if time == "night":
        draw_stars(canvas, horizon, 70 if weather == "clear" else 12)
    if weather == "clear":
        x = rng.uniform(0.12, 0.88)
        if time == "day":
            canvas.glow(x, horizon * 0.22, 0.3, (255, 250, 214), 0.8)
            canvas.fill_circle(x, horizon * 0.22, 0.055, (255, 246, 190))
        elif time == "dusk":
            canvas.glow(x, horizon * 0.86, 0.6, (255, 214, 120), 0.85)
            canvas.fill_circle(x, horizon * 0.86, 0.09, (255, 232, 164))
        else:
            canvas.fill_circle(x, horizon * 0.28, 0.06, (244, 240, 214))
            if rng.random() < 0.6:  # a crescent: part of the disc is painted over with the sky
                canvas.fill_circle(x + 0.024, horizon * 0.28 - 0.014, 0.054, blend(stops[0], stops[1], 0.5))
            canvas.glow(x, horizon * 0.28, 0.26, (150, 170, 220), 0.35)
    if time != "night" or weather != "clear":
        for _ in range(rng.randint(1, 4) + (3 if weather in ("rain", "snow") else 0)):
            draw_cloud(canvas, rng.random(), rng.uniform(0.05, 0.7) * horizon, weather)


def draw_stars(canvas: Canvas, horizon: float, number: int) -> None:
    for _ in range(number):
        shine = canvas.rng.randint(130, 255)
        radius = canvas.rng.choice((0.0025, 0.003, 0.005))
        canvas.fill_circle(
            canvas.rng.random(), canvas.rng.random() * horizon, radius, (shine, shine, min(255, shine + 20))
        )


def draw_cloud(canvas: Canvas, x: float, y: float, weather: str) -> None:
    rng = canvas.rng
    white: RGB = {"day": (255, 255, 255), "dusk": (255, 190, 160), "night": (58, 64, 92)}[canvas.time]
    colour = white if weather == "clear" else blend(white, (90, 96, 110), 0.5)
    spread = rng.uniform(0.07, 0.14)
    puffs = [(rng.uniform(-1.3, 1.3), rng.uniform(-0.3, 0.1), rng.uniform(0.3, 0.6)) for _ in range(7)]

    def draw_puffs(draw: ImageDraw.ImageDraw) -> None:
        for dx, dy, r in puffs:
            cx, cy = x * canvas.width + dx * spread * canvas.short, y * canvas.height + dy * spread * canvas.short
            rx, ry = r * spread * canvas.short, r * spread * canvas.short * 0.7
            draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=200)

    canvas.draw_soft(draw_puffs, colour, 0.012)


def draw_weather(canvas: Canvas, weather: str) -> None:
    rng, width, height, short = canvas.rng, canvas.width, canvas.height, canvas.short
    if weather == "fog":
        mist: RGB = {"day": (232, 238, 242), "dusk": (236, 200, 190), "night": (104, 112, 140)}[canvas.time]
        canvas.image = Image.blend(canvas.image, Image.new("RGB", canvas.size, mist), 0.45)
        for _ in range(5):
            y, x, reach = rng.uniform(0.3, 1) * height, rng.random() * width, rng.uniform(0.3, 0.7) * width
            box = (x - reach, y - 0.05 * height, x + reach, y + 0.05 * height)
            canvas.draw_soft(lambda draw, box=box: draw.ellipse(box, fill=150), mist, 0.04)  # type: ignore[misc]
    elif weather == "rain":
        canvas.image = ImageChops.multiply(canvas.image, Image.new("RGB", canvas.size, (188, 196, 210)))
        slant = rng.uniform(-0.3, 0.3)
        drops = [(rng.random() * width, rng.random() * height, rng.uniform(0.05, 0.11) * short) for _ in range(110)]
        line = max(1, round(0.006 * short))

        def draw_drops(draw: ImageDraw.ImageDraw) -> None:
            for x, y, length in drops:
                draw.line((x, y, x + slant * length, y + length), fill=165, width=line)

        canvas.draw_soft(draw_drops, (216, 228, 244), 0)
    else:
        flakes = [
            (rng.random() * width, rng.random() * height, rng.choice((0.006, 0.009, 0.013)) * short) for _ in range(120)
        ]

        def draw_flakes(draw: ImageDraw.ImageDraw) -> None:
            for x, y, r in flakes:
                draw.ellipse((x - r, y - r, x + r, y + r), fill=235)

        canvas.draw_soft(draw_flakes, (255, 255, 255), 0.001)
