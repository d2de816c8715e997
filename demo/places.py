"""The parts of each place. A painter gets a fresh canvas and leaves it painted, the ground in its lower part."""

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from demo.backgrounds import (
    INDOORS,
    RGB,
    TIMELESS,
    Canvas,
    blend,
    draw_sky,
    draw_stars,
    draw_weather,
    light_up,
    vary,
)

Painter = Callable[[Canvas, str], None]


def _ground(canvas: Canvas, colour: RGB, spread: int = 14) -> RGB:
    return light_up(vary(colour, canvas.rng, spread), canvas.time)


def paint_sea(canvas: Canvas, weather: str) -> None:
    rng, horizon = canvas.rng, canvas.rng.uniform(0.4, 0.52)
    draw_sky(canvas, horizon, weather)
    deep, shallow = _ground(canvas, (22, 98, 168)), _ground(canvas, (72, 178, 206))
    if canvas.time == "dusk":
        shallow = blend(shallow, (255, 176, 110), 0.35)
    shore = rng.uniform(0.76, 0.9)
    canvas.fill_gradient(horizon, (deep, shallow))
    foam = light_up((232, 246, 250), canvas.time)
    for _ in range(38):
        y = rng.uniform(horizon + 0.01, shore)
        reach = (y - horizon + 0.04) * rng.uniform(0.06, 0.3)
        x = rng.random()
        canvas.fill_box(x - reach, y, x + reach, y + 0.004, blend(deep, foam, rng.uniform(0.25, 0.6)))
    canvas.draw_ridge(shore - 0.015, 0.012, 2, foam, foam)
    canvas.draw_ridge(shore, 0.012, 2, _ground(canvas, (240, 216, 164)), _ground(canvas, (222, 190, 132)))


def _draw_peaks(canvas: Canvas, base: float, colour: RGB, number: int, tall: float, snow: bool) -> None:
    rng = canvas.rng
    for index in range(number):
        x = (index + rng.uniform(0.2, 0.8)) / number
        top, half = base - tall * rng.uniform(0.65, 1), rng.uniform(0.2, 0.34)
        canvas.fill_shape([(x - half, base), (x, top), (x + half, base)], colour)
        canvas.fill_shape([(x, top), (x + half, base), (x + half * 0.2, base)], blend(colour, (0, 0, 0), 0.18))
        if snow:
            cap, white = 0.3, light_up((250, 252, 255), canvas.time)
            y = top + (base - top) * cap
            points = [(x, top), (x - half * cap, y), (x - half * 0.1, y - 0.025), (x, y + 0.012)]
            canvas.fill_shape([*points, (x + half * 0.12, y - 0.02), (x + half * cap, y)], white)


def paint_mountain(canvas: Canvas, weather: str) -> None:
    base = canvas.rng.uniform(0.6, 0.68)
    draw_sky(canvas, base, weather)
    far = blend(_ground(canvas, (128, 140, 170)), light_up((200, 214, 236), canvas.time), 0.35)
    _draw_peaks(canvas, base, far, 3, 0.42, True)
    _draw_peaks(canvas, base + 0.02, _ground(canvas, (92, 104, 124)), 2, 0.36, True)
    canvas.draw_ridge(base, 0.03, 3, _ground(canvas, (98, 140, 84)), _ground(canvas, (66, 104, 60)))


def _draw_fir(canvas: Canvas, x: float, foot: float, tall: float, colour: RGB) -> None:
    canvas.fill_box(x - 0.008, foot - tall * 0.1, x + 0.008, foot, light_up((92, 66, 44), canvas.time))
    for step in range(3):
        low, wide = foot - tall * (0.08 + 0.27 * step), tall * (0.3 - 0.07 * step)
        canvas.fill_shape(
            [(x - wide, low), (x, low - tall * 0.42), (x + wide, low)], blend(colour, (255, 255, 255), 0.03 * step)
        )


def paint_forest(canvas: Canvas, weather: str) -> None:
    rng = canvas.rng
    draw_sky(canvas, 0.6, weather)
    for row in range(3):
        colour = blend(_ground(canvas, (34, 92, 58)), light_up((150, 190, 170), canvas.time), 0.42 - 0.2 * row)
        foot = 0.6 + 0.06 * row
        canvas.draw_ridge(foot - 0.03, 0.01, 3, colour, colour)
        for index in range(9 - 2 * row):
            x = (index + rng.uniform(0, 1)) / (9 - 2 * row)
            _draw_fir(canvas, x, foot + 0.02, rng.uniform(0.32, 0.5) + 0.05 * row, vary(colour, rng, 8))
    canvas.draw_ridge(0.74, 0.012, 3, _ground(canvas, (72, 116, 58)), _ground(canvas, (44, 80, 40)))


def paint_city(canvas: Canvas, weather: str) -> None:
    rng, time = canvas.rng, canvas.time
    draw_sky(canvas, 0.72, weather)
    for row in range(2):
        x = -0.05
        while x < 1:
            wide = rng.uniform(0.09, 0.17)
            top = rng.uniform(0.18, 0.5) + 0.12 * row
            wall = blend(_ground(canvas, (118, 128, 148), 26), light_up((190, 206, 226), time), 0.4 - 0.3 * row)
            canvas.fill_box(x, top, x + wide - 0.008, 0.76, wall)
            _draw_windows(canvas, x, top, wide, wall)
            x += wide
    canvas.fill_gradient(0.75, (_ground(canvas, (128, 128, 132)), _ground(canvas, (84, 84, 90))))
    for step in range(6):
        x = step / 5 + rng.uniform(-0.02, 0.02)
        canvas.fill_box(x - 0.05, 0.87, x + 0.05, 0.882, light_up((232, 228, 206), time))


def _draw_windows(canvas: Canvas, left: float, top: float, wide: float, wall: RGB) -> None:
    rng, time = canvas.rng, canvas.time
    columns, step = max(2, round(wide / 0.035)), wide / max(2, round(wide / 0.035))
    y = top + 0.025
    while y < 0.72:
        for column in range(columns):
            lit = rng.random() < {"day": 0.0, "dusk": 0.35, "night": 0.55}[time]
            glass = (255, 220, 130) if lit else blend(wall, (220, 238, 255) if time == "day" else (10, 14, 30), 0.4)
            x = left + column * step + step * 0.25
            canvas.fill_box(x, y, x + step * 0.4, y + 0.02, glass)
        y += 0.042


def paint_desert(canvas: Canvas, weather: str) -> None:
    draw_sky(canvas, 0.58, weather)
    for step, colour in enumerate(((232, 194, 134), (222, 174, 106), (206, 150, 84))):
        top = _ground(canvas, colour)
        canvas.draw_ridge(0.55 + 0.12 * step, 0.06, 2, top, blend(top, (90, 50, 20), 0.22))


def paint_snowfield(canvas: Canvas, weather: str) -> None:
    rng = canvas.rng
    draw_sky(canvas, 0.6, weather)
    far = blend(_ground(canvas, (196, 212, 232)), light_up((240, 246, 255), canvas.time), 0.4)
    canvas.draw_ridge(0.52, 0.06, 3, far, far)
    for _ in range(rng.randint(3, 6)):
        x, tall = rng.random(), rng.uniform(0.12, 0.22)
        _draw_fir(canvas, x, 0.62, tall, light_up((196, 220, 226), canvas.time))
    for step in range(2):
        snow = light_up((246, 250, 255), canvas.time)
        canvas.draw_ridge(0.6 + 0.14 * step, 0.03, 2, snow, light_up((206, 222, 244), canvas.time))


def paint_meadow(canvas: Canvas, weather: str) -> None:
    rng = canvas.rng
    draw_sky(canvas, 0.6, weather)
    canvas.draw_ridge(0.55, 0.04, 2, _ground(canvas, (148, 200, 112)), _ground(canvas, (108, 172, 84)))
    canvas.draw_ridge(0.64, 0.03, 3, _ground(canvas, (118, 190, 82)), _ground(canvas, (72, 146, 56)))
    for _ in range(60):
        y = rng.uniform(0.68, 0.99)
        petal: RGB = rng.choice(((255, 236, 120), (255, 255, 255), (255, 160, 190), (240, 120, 120)))
        canvas.fill_circle(rng.random(), y, 0.004 + 0.012 * (y - 0.6), light_up(petal, canvas.time))


def paint_river(canvas: Canvas, weather: str) -> None:
    rng = canvas.rng
    draw_sky(canvas, 0.5, weather)
    canvas.draw_ridge(0.48, 0.05, 3, _ground(canvas, (104, 150, 116)), _ground(canvas, (86, 140, 88)))
    canvas.draw_ridge(0.55, 0.02, 3, _ground(canvas, (122, 176, 90)), _ground(canvas, (84, 140, 62)))
    bend, water = rng.uniform(-0.15, 0.15), _ground(canvas, (70, 158, 208))
    left, right = [], []
    for step in range(25):
        share = step / 24
        y, half = 0.55 + 0.45 * share, 0.03 + 0.36 * share**1.5
        middle = 0.5 + bend * math.sin(share * 4) * (1.2 - share)
        left.append((middle - half, y))
        right.append((middle + half, y))
    canvas.fill_shape([*left, *reversed(right)], water)
    for _ in range(26):
        share = rng.random()
        y, half = 0.57 + 0.42 * share, 0.02 + 0.3 * share**1.5
        x = 0.5 + bend * math.sin(share * 4) * (1.2 - share) + rng.uniform(-1, 1) * half * 0.8
        reach = 0.02 + 0.05 * share
        canvas.fill_box(x - reach, y, x + reach, y + 0.004, blend(water, light_up((255, 255, 255), canvas.time), 0.5))


def paint_ricefield(canvas: Canvas, weather: str) -> None:
    rng = canvas.rng
    draw_sky(canvas, 0.52, weather)
    canvas.draw_ridge(0.47, 0.06, 3, _ground(canvas, (96, 132, 128)), _ground(canvas, (100, 140, 104)))
    ripe = rng.random() < 0.4
    crop: RGB = (214, 186, 84) if ripe else (136, 190, 76)
    canvas.fill_gradient(0.53, (_ground(canvas, crop), _ground(canvas, blend(crop, (60, 90, 20), 0.3))))
    middle = rng.uniform(0.3, 0.7)
    path, row = light_up((176, 148, 104), canvas.time), light_up(blend(crop, (50, 90, 30), 0.5), canvas.time)
    for step in range(-9, 10):
        x = middle + step * 0.26
        canvas.fill_shape([(middle + step * 0.03, 0.53), (x - 0.02, 1), (x + 0.03, 1)], path if step % 4 == 0 else row)
    for y in (0.6, 0.74):
        canvas.fill_box(0, y, 1, y + 0.012, path)


def paint_space(canvas: Canvas, _weather: str) -> None:
    rng = canvas.rng
    canvas.fill_gradient(
        0, rng.choice((((4, 4, 18), (18, 10, 44)), ((2, 6, 20), (8, 22, 48)), ((14, 4, 28), (4, 4, 16))))
    )
    for _ in range(3):
        hue: RGB = rng.choice(((120, 60, 190), (40, 110, 200), (200, 70, 140), (40, 150, 160)))
        canvas.glow(rng.random(), rng.random(), rng.uniform(0.25, 0.55), hue, rng.uniform(0.25, 0.5))
    draw_stars(canvas, 1.0, 150)
    x, y, radius = (
        rng.uniform(0.1, 0.9),
        rng.choice((rng.uniform(0.08, 0.3), rng.uniform(0.8, 1.0))),
        rng.uniform(0.06, 0.16),
    )
    hue = rng.choice(((196, 132, 96), (120, 150, 190), (170, 110, 160), (206, 180, 130)))
    canvas.glow(x, y, radius * 1.9, hue, 0.4)
    canvas.fill_circle(x, y, radius, blend(hue, (0, 0, 0), 0.35))
    canvas.fill_circle(x - radius * 0.08, y - radius * 0.08, radius * 0.86, hue)


def paint_room(canvas: Canvas, _weather: str) -> None:
    rng, time = canvas.rng, canvas.time
    wall: RGB = rng.choice(((240, 226, 200), (214, 228, 222), (236, 212, 204), (222, 216, 234), (206, 220, 236)))
    dim = {"day": 0.0, "dusk": 0.18, "night": 0.5}[time]
    shade: RGB = (96, 48, 40) if time == "dusk" else (34, 30, 62)
    wall = blend(wall, shade, dim)
    canvas.fill_gradient(0, (wall, blend(wall, (0, 0, 0), 0.08)))
    left, top, wide = rng.uniform(0.08, 0.58), rng.uniform(0.08, 0.14), rng.uniform(0.3, 0.38)
    frame = blend((250, 246, 238), shade, dim)
    canvas.fill_box(left - 0.02, top - 0.02, left + wide + 0.02, top + 0.38, frame)
    sky: RGB = {"day": (140, 204, 250), "dusk": (250, 140, 90), "night": (14, 20, 56)}[time]
    canvas.fill_box(left, top, left + wide, top + 0.36, sky)
    if time == "night":
        canvas.fill_circle(left + wide * 0.7, top + 0.1, 0.03, (244, 240, 214))
    canvas.fill_box(left + wide / 2 - 0.007, top, left + wide / 2 + 0.007, top + 0.36, frame)
    canvas.fill_box(left, top + 0.175, left + wide, top + 0.187, frame)
    floor = blend(rng.choice(((188, 140, 96), (164, 116, 76), (206, 168, 122))), shade, dim)
    canvas.fill_gradient(0.7, (floor, blend(floor, (0, 0, 0), 0.18)))
    canvas.fill_box(0, 0.685, 1, 0.705, frame)
    for step in range(-8, 9):
        canvas.fill_shape(
            [(0.5 + step * 0.12, 0.705), (0.5 + step * 0.24, 1), (0.506 + step * 0.24, 1)], blend(floor, (0, 0, 0), 0.2)
        )
    rug: RGB = blend(rng.choice(((176, 70, 70), (70, 110, 160), (90, 140, 100), (200, 150, 80))), shade, dim)

    def draw_rug(draw: ImageDraw.ImageDraw) -> None:
        draw.ellipse((0.18 * canvas.width, 0.8 * canvas.height, 0.82 * canvas.width, 0.97 * canvas.height), fill=255)

    canvas.draw_soft(draw_rug, rug, 0.002)


def paint_underwater(canvas: Canvas, _weather: str) -> None:
    rng = canvas.rng
    canvas.fill_gradient(0, ((96, 208, 226), (28, 132, 188), (8, 60, 116)))
    for _ in range(4):
        x, lean, wide = rng.random(), rng.uniform(-0.2, 0.2), rng.uniform(0.03, 0.08)
        beam = [(x, 0.0), (x + wide, 0.0), (x + wide * 2 + lean, 0.85), (x - wide + lean, 0.85)]
        scaled = [(px * canvas.width, py * canvas.height) for px, py in beam]
        canvas.draw_soft(lambda draw, scaled=scaled: draw.polygon(scaled, fill=60), (210, 246, 252), 0.02)  # type: ignore[misc]
    sand = vary((170, 176, 140), rng)
    canvas.draw_ridge(0.86, 0.025, 3, sand, blend(sand, (20, 60, 90), 0.4))
    for _ in range(rng.randint(3, 7)):
        x, tall, sway = rng.random(), rng.uniform(0.1, 0.3), rng.uniform(0.01, 0.03)
        weed = vary((30, 120, 90), rng, 20)
        for step in range(20):
            canvas.fill_circle(x + math.sin(step * 0.7) * sway, 0.92 - tall * step / 20, 0.014 - 0.0005 * step, weed)
    for _ in range(22):
        x, y, radius = rng.random(), rng.random() * 0.85, rng.uniform(0.004, 0.014)
        canvas.fill_circle(x, y, radius, (190, 236, 246))
        canvas.fill_circle(x, y, radius * 0.7, (110, 196, 220))


PAINTERS: dict[str, Painter] = {
    "sea": paint_sea,
    "mountain": paint_mountain,
    "forest": paint_forest,
    "city": paint_city,
    "desert": paint_desert,
    "snowfield": paint_snowfield,
    "meadow": paint_meadow,
    "river": paint_river,
    "ricefield": paint_ricefield,
    "space": paint_space,
    "room": paint_room,
    "underwater": paint_underwater,
}


def draw_place(place: str, time: str, weather: str, seed: int, size: tuple[int, int]) -> Image.Image:
    """One place as RGB of `size` (width, height). `time` and `weather` are ignored where there is none of it."""
    rng = random.Random(f"{place} {time} {weather} {seed}")
    canvas = Canvas(size, rng, "day" if place in TIMELESS else time)
    weather = "clear" if place in INDOORS else weather
    PAINTERS[place](canvas, weather)
    if weather != "clear":
        draw_weather(canvas, weather)
    return canvas.image
