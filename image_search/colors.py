"""Pixels of any colour space to sRGB, once, while an image is decoded: for preview, contact sheet and model alike."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

_MAX_PROFILE = 8 << 20  # bytes; profiles of printing presses have 2 MiB
_MAX_TRANSFORMS = 16  # kept by a thread; a folder has few profiles
_SPACES = {"RGB ": ("RGB",), "CMYK": ("CMYK",), "GRAY": ("L",)}  # of a profile, and the modes it fits
_SRGB_GAMMA = 0.45455
_PQ, _HLG = 16, 18  # transfer functions of cICP (ITU-T H.273)
_REFERENCE_WHITE = 203.0  # nits, ITU-R BT.2408
_BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)

_SRGB = ImageCms.createProfile("sRGB")
_local = threading.local()  # LittleCMS transforms keep a cache of the last pixel, so that threads must not share one


def convert_to_srgb(image: Image.Image, info: dict[str, Any]) -> Image.Image:
    """The same picture in sRGB. image: mode RGB, L or CMYK. info: as Pillow gives it for the file.

    In this order: cICP of a PNG, an ICC profile that fits the mode, gAMA of a PNG. A profile that does not fit or is
    broken is ignored; CMYK without one is converted by Pillow's plain formula.
    """
    transfer = (info.get("cicp") or b"\0\0\0\0")[1]
    if transfer in (_PQ, _HLG) and image.mode == "RGB":
        return _convert_hdr(image, transfer, is_bt2020=info["cicp"][0] == 9)
    profile = info.get("icc_profile")
    if isinstance(profile, bytes) and 0 < len(profile) <= _MAX_PROFILE:
        transform = _get_transform(profile, image.mode)
        if transform is not None:
            return transform.apply(image)
    elif "gamma" in info and "srgb" not in info and image.mode in ("RGB", "L"):
        return _apply_gamma(image, float(info["gamma"]))
    return image


def _get_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From this profile to sRGB; None when it does not fit, is broken, or is sRGB already."""
    transforms: OrderedDict[tuple[str, bytes], ImageCms.ImageCmsTransform | None] | None
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


def _build_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode not in _SPACES.get(source.profile.xcolor_space, ()) or _is_srgb(source):
            return None
        return ImageCms.buildTransform(source, _SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except Exception:  # LittleCMS answers broken profiles with whatever goes wrong inside
        return None


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    description = (profile.profile.profile_description or "").lower()
    return description.startswith(("srgb", "c2", "built-in srgb")) and "linear" not in description


def _apply_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """gAMA of a PNG: the exponent from light to sample."""
    if not 0.05 <= gamma <= 20 or abs(gamma - _SRGB_GAMMA) < 0.01:
        return image
    table = _encode_srgb((np.arange(256) / 255) ** (1 / gamma))
    values = np.rint(table * 255).astype(int).tolist()
    return image.point(values * len(image.getbands()))


def _convert_hdr(image: Image.Image, transfer: int, is_bt2020: bool) -> Image.Image:
    """PQ or HLG to sRGB: what is brighter than the reference white is white."""
    samples = np.arange(256) / 255
    table = _decode_pq(samples) / _REFERENCE_WHITE if transfer == _PQ else _decode_hlg(samples)
    light = table[np.asarray(image)]
    if is_bt2020:
        light = light @ _BT2020_TO_BT709.T
    return Image.fromarray(np.rint(_encode_srgb(np.clip(light, 0, 1)) * 255).astype(np.uint8))


def _decode_pq(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Nits of PQ samples, SMPTE ST 2084."""
    power = samples ** (1 / 78.84375)
    light: npt.NDArray[np.float64] = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (
        1 / 0.1593017578125
    )
    return light * 10_000


def _decode_hlg(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Light of HLG samples relative to its reference white (75 % of the signal), ARIB STD-B67."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = np.where(samples <= 0.5, samples**2 / 3, (np.exp((samples - c) / a) + b) / 12)
    return light / 0.2645


def _encode_srgb(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    encoded: npt.NDArray[np.float64] = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    )
    return encoded


def scale_to_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Numbers of any size as bytes: the smallest usual white point that holds them all is white."""
    is_float = values.dtype.kind == "f"
    numbers = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, top = min(0.0, numbers.min()), numbers.max()
    whites = (1.0, 255.0, 65535.0) if is_float else (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
    high = next((white for white in whites if top <= white), top)
    scaled: npt.NDArray[np.uint8] = ((numbers - low) * (255 / (high - low))).astype(np.uint8)
    return scaled
