"""The effects of a camera and a file on a scene: light, colour, crop, blur, noise, JPEG. Seeded like the scenes."""

import io
import random

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter


def finish_image(image: Image.Image, rng: random.Random, strength: float = 1.0) -> Image.Image:
    """The picture under other light, a little cropped, and once through JPEG. No fact changes; `strength` 0 to 1."""
    width, height = image.size
    keep = 1 - 0.12 * strength * rng.random()
    left, top = rng.uniform(0, width * (1 - keep)), rng.uniform(0, height * (1 - keep))
    image = image.crop((round(left), round(top), round(left + width * keep), round(top + height * keep)))
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(1 + 0.2 * strength * rng.uniform(-1, 1))
    if rng.random() < 0.3 * strength:
        image = image.filter(ImageFilter.GaussianBlur(0.005 * min(image.size) * rng.random()))
    if rng.random() < 0.4 * strength:
        grain = np.random.default_rng(rng.getrandbits(32)).normal(0, 8 * rng.random(), (*image.size[::-1], 1))
        image = Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rng.randint(60, 95))
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")
