"""Colours: whatever space a file is in, pixels become sRGB once, while it is decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from image_search.errors import UnreadableImage
from image_search.images import decode_image

COLOR = (200, 60, 50)


def write(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)  # type: ignore[arg-type]
    return file.getvalue()


def decode_color(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, "image").image, float).reshape(-1, 3).mean(0)


def add_chunk(png: bytes, kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if crc is None else crc
    return png[:33] + struct.pack(">I4s", len(content), kind) + content + checksum.to_bytes(4) + png[33:]


def make_gamma_profile(gamma: float) -> bytes:
    """A minimal ICC profile: sRGB's primaries with this gamma."""
    base = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    place = len(base)
    base += curve
    for entry in range(132, 132 + 12 * struct.unpack_from(">I", base, 128)[0], 12):
        if base[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">II", base, entry + 4, place, len(curve))
        if base[entry : entry + 4] == b"desc":
            base[entry : entry + 4] = b"xxxx"
    struct.pack_into(">I", base, 0, len(base))
    return bytes(base)


def test_profile_of_another_gamma_is_converted() -> None:
    linear = [round(255 * (((c / 255 + 0.055) / 1.055) ** 2.4)) for c in COLOR]
    profile = make_gamma_profile(1.0)
    large = (len(profile) + (3 << 20)).to_bytes(4) + profile[4:] + bytes(3 << 20)
    for written in (profile, large):
        data = write(Image.new("RGB", (8, 8), tuple(linear)), icc_profile=written)
        assert np.abs(decode_color(data) - COLOR).max() <= 4


def test_broken_profile_and_one_of_another_mode_are_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(decode_color(write(Image.new("RGB", (8, 8), COLOR), icc_profile=b"\0" * 300)) - COLOR).max() == 0
    assert np.abs(decode_color(write(Image.new("L", (8, 8), 90), icc_profile=srgb)) - 90).max() == 0


def test_png_gamma_is_applied_unless_it_is_that_of_srgb() -> None:
    png = write(Image.new("RGB", (8, 8), (55, 55, 55)))
    assert np.abs(decode_color(add_chunk(png, b"gAMA", struct.pack(">I", 100_000))) - 128).max() <= 2
    assert np.abs(decode_color(add_chunk(png, b"gAMA", struct.pack(">I", 45_455))) - 55).max() == 0


def test_hdr_png_becomes_an_image_for_a_plain_screen() -> None:
    # 58 % of the PQ signal is the reference white of 203 nits.
    color = decode_color(add_chunk(write(Image.new("RGB", (8, 8), (148, 148, 148))), b"cICP", bytes([9, 16, 0, 1])))
    assert color.min() > 240


def test_transparent_grey_of_16_bits_is_composed_on_white() -> None:
    image = Image.fromarray(np.full((8, 8), 1000, np.uint16))
    data = add_chunk(write(image), b"tRNS", struct.pack(">H", 1000))
    assert decode_color(data).min() == 255


def test_grey_of_12_bits_in_16_is_as_bright_as_that_of_8() -> None:
    data = write(Image.fromarray(np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)), "TIFF")
    assert abs(decode_color(data).mean() - 127) < 3


def test_jpeg_without_its_end_is_taken_and_marked() -> None:
    rng = np.random.default_rng(1)
    whole = write(Image.fromarray(rng.integers(0, 255, (200, 200, 3), np.uint8)), "JPEG", quality=90)
    for cut in (2, len(whole) // 50):
        decoded = decode_image(whole[:-cut], "a.jpg")
        assert decoded.is_incomplete
        assert (decoded.width, decoded.height) == (200, 200)
    assert not decode_image(whole, "a.jpg").is_incomplete
    with pytest.raises(UnreadableImage, match=r"a\.jpg is cut short: \d+% of it is there\. Copy it again\."):
        decode_image(whole[: len(whole) // 2], "a.jpg")


def test_progressive_jpeg_is_taken_from_its_first_whole_scan_on() -> None:
    rng = np.random.default_rng(1)
    whole = write(Image.fromarray(rng.integers(0, 255, (200, 200, 3), np.uint8)), "JPEG", progressive=True)
    second_scan = whole.find(b"\xff\xda", whole.find(b"\xff\xda") + 2)
    assert decode_image(whole[: second_scan + 20], "a.jpg").is_incomplete


def test_png_with_damage_or_excess_outside_the_pixels_is_taken() -> None:
    png = write(Image.new("RGB", (8, 8), COLOR))
    huge = zlib.compress(bytes(9 << 20))
    assert np.abs(decode_color(add_chunk(png, b"zTXt", b"Comment\0\0" + huge)) - COLOR).max() == 0
    assert np.abs(decode_color(add_chunk(png, b"tEXt", b"Comment\0hello", crc=1)) - COLOR).max() == 0


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG file, but damaged"),
        (b"\x89PNG\r\n" + bytes(50), "a PNG file, but its first bytes"),
        (b"II*\0" + bytes(50), "a TIFF file"),
        (b"8BPS" + bytes(50), "a Photoshop file"),
        (b"\0\0\0\x18ftypisom" + bytes(50), "a film"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "a JPEG XL (picture|file)"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"PK\x03\x04" + bytes(50), "an archive"),
    ],
)
def test_refusal_names_the_kind_of_file(data: bytes, named: str) -> None:
    with pytest.raises(UnreadableImage, match=f"thing.jpg is {named}"):
        decode_image(data, "thing.jpg")


# The same six colours by every way of writing them: (what, bytes), with light linear where LIGHT is used.

FIELDS = np.array(
    [(200, 60, 50), (60, 160, 70), (50, 80, 190), (230, 200, 60), (128, 128, 128), (190, 140, 110)], float
)
LIGHT = np.where(FIELDS / 255 <= 0.04045, FIELDS / 255 / 12.92, ((FIELDS / 255 + 0.055) / 1.055) ** 2.4)
LUMA = FIELDS @ [0.299, 0.587, 0.114]
PRIMARIES = {  # x and y of white, red, green, blue
    "sRGB": (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
    "P3": (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    "2020": (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    "A98": (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06),
}


def to_lights(name: str) -> np.ndarray:
    """The six colours as amounts of other red, green and blue lights under the same white."""

    def make(primaries: tuple[float, ...]) -> np.ndarray:
        columns = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in zip(primaries[::2], primaries[1::2], strict=True)]
        lights = np.stack(columns[1:], 1)
        return lights * np.linalg.solve(lights, columns[0])

    return np.clip(LIGHT @ (np.linalg.inv(make(PRIMARIES[name])) @ make(PRIMARIES["sRGB"])).T, 0, 1)


def to_srgb(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def to_pq(light: np.ndarray) -> np.ndarray:
    power = (203 * light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def to_hlg(light: np.ndarray) -> np.ndarray:
    """By the inverse of the display's transfer function, ITU-R BT.2100, for colours of BT.2020."""
    shown = light * 203 / 1000
    scene = shown * ((shown @ [0.2627, 0.678, 0.0593]) ** (1 / 1.2 - 1))[..., None]
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def spread(values: np.ndarray, top: float = 255, dtype: type = np.uint8) -> np.ndarray:
    """Six fields of 8 x 8 pixels side by side; values from 0 to 1."""
    numbers = values * top if np.issubdtype(dtype, np.floating) else np.rint(values * top)
    return np.repeat(np.repeat(numbers[None], 8, 0), 8, 1).astype(dtype)


def png(values: np.ndarray, *chunks: tuple[bytes, bytes], mode: str = "", icc: bytes | None = None) -> bytes:
    image = Image.fromarray(spread(values))
    data = write(image.convert(mode, colors=16, palette=Image.Palette.ADAPTIVE) if mode else image, icc_profile=icc)
    for kind, content in chunks:
        data = add_chunk(data, kind, content)
    return data


LINEAR_CURVE = tuple(257 * value for value in range(256))


def write_adobe_rgb(tags: dict[int, object]) -> bytes:
    exif = Image.Exif()
    exif._ifds[0x8769] = tags
    if isinstance(inner := tags.get(0xA005), dict):
        exif._ifds[0xA005] = inner
    return write(Image.fromarray(spread(to_lights("A98") ** (1 / 2.2))), "JPEG", exif=exif, quality=98, subsampling=0)


def add_jp2_profile(data: bytes, profile: bytes) -> bytes:
    start, header = data.index(b"colr") - 4, data.index(b"jp2h") - 4
    old = int.from_bytes(data[start : start + 4])
    box = (11 + len(profile)).to_bytes(4) + b"colr\2\0\0" + profile
    size = int.from_bytes(data[header : header + 4]) + len(box) - old
    return data[:header] + size.to_bytes(4) + data[header + 4 : start] + box + data[start + old :]


def tiff(
    pixels: np.ndarray, photometric: str, icc: bytes = b"", tags: tuple[object, ...] = (), **options: object
) -> bytes:
    file = io.BytesIO()
    tags += ((34675, 7, len(icc), icc, True),) if icc else ()
    tifffile.imwrite(file, pixels, photometric=photometric, extratags=tags, **options)  # type: ignore[arg-type]
    return file.getvalue()


def gamma_chunk(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 * gamma))


def primaries_chunk(name: str) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in PRIMARIES[name]))


def make_grey_profile() -> bytes:
    """Of linear light."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, len(curve))
    head = bytearray(128)
    struct.pack_into(">I4x4s4s4s4s12x4s", head, 0, 176 + len(curve), b"\2\x10\0\0", b"mntr", b"GRAY", b"XYZ ", b"acsp")
    struct.pack_into(">iii", head, 68, 63190, 65536, 54061)
    return bytes(head) + tags + white + curve


def make_lab(top: int) -> np.ndarray:
    """CIELAB as TIFF has it: L up to top, a and b in units of 1 or 1/256."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(spread(FIELDS / 255)), srgb, lab, outputMode="LAB")
    assert image is not None
    values = np.asarray(image).astype(np.int64)
    if top == 255:
        return values.astype(np.uint8)
    signed = values[..., 1:].astype(np.uint8).astype(np.int8).astype(np.int64) * 256
    return np.concatenate([values[..., :1] * 257, signed % 65536], -1).astype(np.uint16)


LINEAR = make_gamma_profile(1.0)
INKS = np.concatenate([1 - FIELDS / 255, np.zeros((6, 1))], 1)
COLOR_FILES = {
    "linear profile": png(LIGHT, icc=LINEAR),
    "linear profile, indexed": png(LIGHT, mode="P", icc=LINEAR),
    "linear profile, alpha": png(LIGHT, mode="RGBA", icc=LINEAR),
    "linear profile, WebP": write(Image.fromarray(spread(LIGHT)), "WEBP", lossless=True, icc_profile=LINEAR),
    "linear profile, 16 bits": tiff(spread(LIGHT, 65535, np.uint16), "rgb", LINEAR),
    "linear profile, 16 bits, planes": tiff(
        np.moveaxis(spread(LIGHT, 65535, np.uint16), -1, 0).copy(), "rgb", LINEAR, planarconfig="separate"
    ),
    "gAMA": png(LIGHT, gamma_chunk(1)),
    "gAMA, indexed": png(LIGHT, gamma_chunk(1), mode="P"),
    "sRGB before gAMA": png(FIELDS / 255, gamma_chunk(1), (b"sRGB", b"\0")),
    "cHRM and gAMA": png(to_lights("A98") ** (1 / 2.2), primaries_chunk("A98"), gamma_chunk(1 / 2.2)),
    "cHRM alone": png(to_lights("P3") ** (1 / 2.2), primaries_chunk("P3")),
    "cICP PQ": png(to_pq(to_lights("2020")), (b"cICP", bytes([9, 16, 0, 1]))),
    "cICP PQ of P3": png(to_pq(to_lights("P3")), (b"cICP", bytes([12, 16, 0, 1]))),
    "cICP HLG": png(to_hlg(to_lights("2020")), (b"cICP", bytes([9, 18, 0, 1]))),
    "cICP P3": png(to_srgb(to_lights("P3")), (b"cICP", bytes([12, 13, 0, 1]))),
    "cICP linear": png(LIGHT, (b"cICP", bytes([1, 8, 0, 1]))),
    "cICP before a profile": png(to_srgb(to_lights("P3")), (b"cICP", bytes([12, 13, 0, 1])), icc=LINEAR),
    "cICP that says nothing before a profile": png(LIGHT, (b"cICP", bytes([2, 2, 0, 1])), icc=LINEAR),
    "cICP of a narrow range": png((16 + FIELDS / 255 * 219) / 255, (b"cICP", bytes([1, 13, 0, 0]))),
    "broken profile before gAMA": png(LIGHT, gamma_chunk(1), icc=b"junk" * 50),
    "Adobe RGB by EXIF": write_adobe_rgb({0xA001: 2}),
    "Adobe RGB by the rules of DCF": write_adobe_rgb({0xA001: 0xFFFF, 0xA005: {1: "R03"}}),
    "JPEG 2000 with a profile": add_jp2_profile(write(Image.fromarray(spread(LIGHT)), "JPEG2000"), LINEAR),
    "TIFF with a transfer function": tiff(spread(LIGHT), "rgb", tags=((301, 3, 256, LINEAR_CURVE, True),)),
    "CMYK": tiff(spread(INKS), "separated"),
    "CMYK, 16 bits": tiff(spread(INKS, 65535, np.uint16), "separated"),
    "CMYK, 16 bits, planes": tiff(
        np.moveaxis(spread(INKS, 65535, np.uint16), -1, 0).copy(), "separated", planarconfig="separate"
    ),
    "Lab": tiff(make_lab(255), "cielab"),
    "Lab, 16 bits": tiff(make_lab(65535), "cielab"),
    "float": tiff(spread(FIELDS / 255, 1, np.float32), "rgb"),
    "half float": tiff(spread(FIELDS / 255, 1, np.float16), "rgb"),
    "32 bits": tiff(spread(FIELDS / 255, 2**32 - 1, np.uint32), "rgb"),
}
GREY_FILES = {
    "alpha": png(LUMA / 255, mode="LA"),
    "16 bits": write(Image.fromarray(spread(LUMA / 255, 65535, np.uint16))),
    "16 bits, white is zero": tiff(spread(1 - LUMA / 255, 65535, np.uint16), "miniswhite"),
    "12 bits": tiff(spread(LUMA / 255, 4095, np.uint16), "minisblack"),
    "float": tiff(spread(LUMA / 255, 1, np.float32), "minisblack"),
    "float of 255": tiff(spread(LUMA / 255, 255, np.float32), "minisblack"),
    "half float": tiff(spread(LUMA / 255, 1, np.float16), "minisblack"),
    "double": tiff(spread(LUMA / 255, 1, np.float64), "minisblack"),
    "32 bits": tiff(spread(LUMA / 255, 2**32 - 1, np.uint32), "minisblack"),
    "linear profile": png(np.interp(LUMA, np.arange(256), DECODED := ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4),
                          icc=make_grey_profile()),
    "linear profile, alpha": png(np.interp(LUMA, np.arange(256), DECODED), mode="LA", icc=make_grey_profile()),
    "gAMA": png(np.interp(LUMA, np.arange(256), DECODED), gamma_chunk(1)),
    "gAMA, alpha": png(np.interp(LUMA, np.arange(256), DECODED), gamma_chunk(1), mode="LA"),
}  # fmt: skip


def read_fields(data: bytes) -> np.ndarray:
    pixels = np.asarray(decode_image(data, "a").image, float)
    return np.stack([pixels[2:6, 8 * number + 2 : 8 * number + 6].reshape(-1, 3).mean(0) for number in range(6)])


@pytest.mark.parametrize("name", COLOR_FILES)
def test_colour_is_the_same_by_every_way_of_writing_it(name: str) -> None:
    assert np.abs(read_fields(COLOR_FILES[name]) - FIELDS).max() <= 4


@pytest.mark.parametrize("name", GREY_FILES)
def test_grey_is_the_same_by_every_way_of_writing_it(name: str) -> None:
    assert np.abs(read_fields(GREY_FILES[name]) - LUMA[:, None]).max() <= 3


@pytest.mark.parametrize(("depth", "color"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
def test_transparent_colour_of_any_depth_is_white(depth: int, color: int) -> None:
    # Eight pixels of which the first four have the transparent colour, 1 in each sample, the others 0.
    bits = "".join(format(value, f"0{depth}b") * (3 if color else 1) for value in (1,) * 4 + (0,) * 4)
    row = int(bits, 2).to_bytes(len(bits) // 8)
    if depth == 16:  # of which 8 bits are kept
        row = row.replace(b"\0\1", b"\1\1")
    key = struct.pack(">H", 0x0101 if depth == 16 else 1) * (3 if color else 1)
    header = struct.pack(">IIBBBBB", 8, 1, depth, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    made = (
        len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4) for kind, content in chunks
    )
    image = decode_image(b"\x89PNG\r\n\x1a\n" + b"".join(made), "a.png").image.convert("L")
    assert (image.getpixel((1, 0)), image.getpixel((6, 0))) == (255, 0)
