"""Pixels of any colour space and depth to sRGB of 8 bits, once, while an image is decoded."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageCms

MAX_PROFILE = 8 << 20  # bytes; profiles of printing presses have 2 MiB
_MAX_TRANSFORMS = 16  # kept by a thread; a folder has few profiles
_SPACES = {"RGB ": ("RGB",), "CMYK": ("CMYK",), "GRAY": ("L",), "Lab ": ("LAB",)}  # of a profile, and modes it fits
_SRGB_GAMMA = 0.45455
_REFERENCE_WHITE = 203.0  # nits, ITU-R BT.2408
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2  # nits of a screen, and its power from light of the scene, ITU-R BT.2100
_GAMMA_22, _GAMMA_28, _LINEAR, _PQ, _HLG = 4, 5, 8, 16, 18  # transfer functions of cICP (ITU-T H.273)
_CURVES = {1, 6, 7, 11, 12, 13, 14, 15}  # of television and sRGB, shown as that of sRGB
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # x and y of white, red, green, blue
_ADOBE_RGB = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA = 2.19921875
_NTSC = (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)
_PRIMARIES = {  # of cICP
    1: _SRGB_PRIMARIES,
    5: (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: _NTSC,
    7: _NTSC,
    8: (0.31, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    22: (0.3127, 0.329, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
    4: (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# The usual white points of numbers of any size: 8, 10, 12, 14, 16, 24, 32 and 64 bits; 1 of floating point.
_WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0, 16777215.0, 4294967295.0, 18446744073709551615.0)
_SIGNED_WHITES = {1: 127.0, 2: 32767.0, 4: 2147483647.0, 8: 9223372036854775807.0}  # by bytes of a number with a sign

_LARGEST = 1e30  # larger numbers, such as -3.4e38, stand for "no value" in files of floating point

_SAMPLES = np.arange(256) / 255
_SRGB = ImageCms.createProfile("sRGB")
_local = threading.local()  # LittleCMS transforms keep a cache of the last pixel, so that threads must not share one


def convert_to_srgb(image: Image.Image, info: dict[str, Any]) -> Image.Image:
    """The same image as RGB in sRGB, from any mode; transparency is composed on white, deep numbers are scaled.

    info: as Pillow gives it for the file, with what find_color_tags found. In this order: cICP of a PNG (or the like of
    AVIF), an ICC profile that fits the mode, sRGB or gAMA and cHRM of a PNG, tags of TIFF and EXIF. Each is passed
    over where it does not fit, is broken or means nothing; CMYK without one is converted by Pillow's plain formula.
    """
    return _convert_colors(_flatten(image), info).convert("RGB")


def _flatten(image: Image.Image) -> Image.Image:
    """Convert to mode L, RGB, CMYK or LAB."""
    if image.mode in ("I", "F"):
        return Image.fromarray(scale_to_bytes(np.asarray(image)))
    if image.mode in ("LA", "La"):
        grey, alpha = image.convert("LA").split()
        return Image.composite(grey, Image.new("L", image.size, 255), alpha)
    if image.mode in ("RGBA", "RGBa"):
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _convert_colors(image: Image.Image, info: dict[str, Any]) -> Image.Image:
    is_light = image.mode in ("L", "RGB")
    if (cicp := info.get("cicp")) and is_light and cicp[0] in _PRIMARIES:
        # The last byte is 0 for samples from 16 to 235.
        samples = _SAMPLES if cicp[3] else np.clip((_SAMPLES * 255 - 16) / 219, 0, 1)
        if (table := _decode_transfer(cicp[1], samples)) is not None:
            return _convert_light(image, table, _PRIMARIES[cicp[0]], is_scene=cicp[1] == _HLG)
    profile = info.get("icc_profile")
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE:
        transform = _get_transform(profile, image.mode)
        if isinstance(transform, ImageCms.ImageCmsTransform):
            return transform.apply(image)
        if transform is _IS_SRGB:
            return image
    if ("gamma" in info or "chromaticity" in info) and "srgb" not in info and is_light:
        gamma, primaries = float(info.get("gamma") or _SRGB_GAMMA), info.get("chromaticity") or _SRGB_PRIMARIES
        # With the primaries of sRGB, a gamma of 1/2.2 means the curve of sRGB.
        is_srgb = abs(gamma - _SRGB_GAMMA) < 0.01 and _find_matrix(primaries) is None
        is_curve = not is_srgb and 0.05 <= gamma <= 20
        return _convert_light(image, _SAMPLES ** (1 / gamma) if is_curve else _decode_srgb(_SAMPLES), primaries)
    if is_light and "srgb" not in info and (tags := info.get("color_tags")):
        return _convert_light(image, *tags)
    return image


_COLOR_SPACE, _INTEROPERABILITY = 0xA001, 0xA005
_TRANSFER, _WHITE_POINT, _PRIMARY_COLORS = 301, 318, 319  # tags of TIFF


def find_color_tags(image: Image.Image) -> tuple[npt.NDArray[np.float64], tuple[float, ...]] | None:
    """The light of 256 samples and the primaries that EXIF and TIFF tags of an opened file give; None without them."""
    try:
        exif = image.getexif()
        inner = exif.get_ifd(0x8769)
        index = exif.get_ifd(_INTEROPERABILITY).get(1) if _INTEROPERABILITY in inner else ""
        # Adobe RGB is 2 by custom, and "R03" by the rules of DCF, beside "uncalibrated".
        if inner.get(_COLOR_SPACE) == 2 or str(index).startswith("R03"):
            return _SAMPLES**_ADOBE_GAMMA, _ADOBE_RGB
        tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
        curve = np.asarray(tags.get(_TRANSFER, ()), np.float64)[:256] / 65535
        white, colors = tags.get(_WHITE_POINT, _SRGB_PRIMARIES[:2]), tags.get(_PRIMARY_COLORS, _SRGB_PRIMARIES[2:])
        primaries = tuple(float(value) for value in (*white, *colors))
    except Exception:  # damaged tags do not make the image unreadable
        return None
    is_curve = len(curve) == 256 and curve[-1] > curve[0]
    if not is_curve and _find_matrix(primaries) is None:
        return None
    return curve if is_curve else _decode_srgb(_SAMPLES), primaries


_IS_SRGB, _UNFIT = True, False
_Transform = ImageCms.ImageCmsTransform | bool


def _get_transform(profile: bytes, mode: str) -> _Transform:
    """The transform from a profile to sRGB; _IS_SRGB where none is needed, _UNFIT for a broken or unfit profile."""
    transforms: OrderedDict[tuple[str, bytes], _Transform] | None
    transforms = getattr(_local, "transforms", None)
    if transforms is None:
        transforms = _local.transforms = OrderedDict()
    key = (mode, profile)
    if key not in transforms:
        transforms[key] = _build_transform(profile, mode)
        if len(transforms) > _MAX_TRANSFORMS:
            transforms.popitem(last=False)
    transforms.move_to_end(key)
    return transforms[key]


def _build_transform(profile: bytes, mode: str) -> _Transform:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode not in _SPACES.get(source.profile.xcolor_space, ()):
            return _UNFIT
        transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        if mode == "RGB" and _changes_little(transform):
            return _IS_SRGB
    except Exception:  # LittleCMS answers broken profiles with whatever goes wrong inside
        return _UNFIT
    return transform


def _changes_little(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a profile is one of the many that are sRGB, whatever its name says."""
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    colors = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(6, 36, 3))
    return max(high for _, high in ImageChops.difference(colors, transform.apply(colors)).getextrema()) <= 1  # type: ignore[misc]


# Colours that are described by a curve from samples to light, and by the colours of the three lights.


def _convert_light(
    image: Image.Image,
    table: npt.NDArray[np.float64],
    primaries: tuple[float, ...] | list[float],
    is_scene: bool = False,
) -> Image.Image:
    """table: light of each sample, 1 for white; brighter light becomes white. is_scene: it is light of the scene."""
    matrix = _find_matrix(primaries) if image.mode == "RGB" else None
    if is_scene and image.mode == "RGB":
        scene = table.astype(np.float32)[np.asarray(image)]
        brightness = scene @ _to_xyz(primaries)[1].astype(np.float32)
        light = _HLG_PEAK / _REFERENCE_WHITE * scene * np.power(brightness, _HLG_GAMMA - 1)[..., None]
        light = light if matrix is None else light @ matrix.T.astype(np.float32)
        return Image.fromarray(np.rint(encode_srgb(np.clip(light, 0, 1)) * 255).astype(np.uint8))
    if is_scene:
        table = _HLG_PEAK / _REFERENCE_WHITE * table**_HLG_GAMMA
    if matrix is None:
        encoded = np.rint(encode_srgb(np.clip(table, 0, 1)) * 255).astype(int)
        return image if np.abs(encoded - np.arange(256)).max() <= 1 else image.point(encoded.tolist() * len(image.mode))
    light = table.astype(np.float32)[np.asarray(image)] @ matrix.T.astype(np.float32)
    return Image.fromarray(np.rint(encode_srgb(np.clip(light, 0, 1)) * 255).astype(np.uint8))


def _find_matrix(primaries: tuple[float, ...] | list[float]) -> npt.NDArray[np.float64] | None:
    """Light of these primaries to light of sRGB's; None where they are sRGB's or none at all."""
    if (
        len(primaries) != 8
        or min(primaries[1::2]) <= 0
        or np.abs(np.subtract(primaries, _SRGB_PRIMARIES)).max() < 0.005
    ):
        return None
    try:
        matrix = np.linalg.inv(_to_xyz(_SRGB_PRIMARIES)) @ _to_xyz(primaries)
    except np.linalg.LinAlgError:
        return None
    return matrix if np.isfinite(matrix).all() and np.abs(matrix).max() < 10 else None


def _to_xyz(primaries: tuple[float, ...] | list[float]) -> npt.NDArray[np.float64]:
    """Light of these primaries to CIE XYZ under sRGB's white."""
    x, y = np.array(primaries[::2]), np.array(primaries[1::2])
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])  # columns: white, red, green, blue
    white, lights = xyz[:, 0], xyz[:, 1:]
    scaled = lights * np.linalg.solve(lights, white)
    wanted = np.array([0.3127 / 0.329, 1, (1 - 0.3127 - 0.329) / 0.329])
    cones = np.diag((_BRADFORD @ wanted) / (_BRADFORD @ white))
    adapted: npt.NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ scaled
    return adapted


def _decode_transfer(transfer: int, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Light of samples by the number of cICP; of HLG that of the scene. None for a number that means no curve."""
    if transfer == _PQ:
        return _decode_pq(samples) / _REFERENCE_WHITE
    if transfer == _HLG:
        return _decode_hlg(samples)
    if transfer in _CURVES:
        return _decode_srgb(samples)
    power = {_GAMMA_22: 2.2, _GAMMA_28: 2.8, _LINEAR: 1.0}.get(transfer)
    return samples**power if power else None


def _decode_pq(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Nits of PQ samples, SMPTE ST 2084."""
    power = samples ** (1 / 78.84375)
    light: npt.NDArray[np.float64] = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (
        1 / 0.1593017578125
    )
    return light * 10_000


def _decode_hlg(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Light of the scene of HLG samples, 0 to 1, ARIB STD-B67."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light: npt.NDArray[np.float64] = np.where(samples <= 0.5, samples**2 / 3, (np.exp((samples - c) / a) + b) / 12)
    return light


def _decode_srgb(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    light: npt.NDArray[np.float64] = np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)
    return light


def encode_srgb(light: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Samples of sRGB, 0 to 1, of light from 0 to 1."""
    encoded: npt.NDArray[Any] = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    )
    return encoded


def scale_to_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Numbers of any size as bytes: the smallest usual white point that holds them all is white."""
    if values.dtype == np.uint8:
        return values
    is_float = values.dtype.kind == "f"
    # A sum of all rows would hold eight bytes for each number, so that rows are looked at one by one.
    numbers = (_read_numbers(row) for row in values)
    ends = np.array([(row.min(), row.max()) for row in numbers])
    low, top = min(0.0, ends[:, 0].min()), ends[:, 1].max()
    whites = {*_WHITES, *((1.0,) if is_float else ())}
    if values.dtype.kind == "i" and values.dtype.itemsize in _SIGNED_WHITES:
        whites.add(_SIGNED_WHITES[values.dtype.itemsize])
    white = next((white for white in sorted(whites) if top <= white), top)
    scaled = np.empty(values.shape, np.uint8)
    for target, row in zip(scaled, values, strict=True):
        target[...] = np.rint((_read_numbers(row) - low) * (255 / (white - low)))
    return scaled


def _read_numbers(row: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Numbers as floating point, with zeros for NaN and for numbers larger than light can be."""
    with np.errstate(invalid="ignore"):
        numbers: npt.NDArray[np.float64] = np.nan_to_num(row.astype(np.float64), posinf=0, neginf=0)
    return np.where(np.abs(numbers) < _LARGEST, numbers, 0)
