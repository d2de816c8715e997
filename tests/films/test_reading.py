"""Films as they should be: which frames come out, in which colours, which way up, and what the container says."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from image_search.errors import FilmsUnavailable
from image_search.films import FILM_SUFFIXES, hash_film, read_film
from image_search.films.source import Source, read_camera, read_place, read_taken_at
from image_search.settings import ROOT
from tests.fakes.film_files import RATE, SIZE, make_scene, make_scenes, write_film

COLOURS = ((255, 255, 255), (128, 128, 128), (200, 40, 40), (40, 160, 60), (40, 60, 200), (240, 200, 40))


def list_times(path: Path) -> list[int]:
    return [frame.frame_ms for frame in read_film(path)]


def measure_difference(one: Image.Image, other: Image.Image) -> float:
    """Mean levels of 256 by which two images of one size differ."""
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


COMMON = (".mp4", ".mov", ".webm")


@pytest.mark.parametrize(
    "gop",
    [pytest.param(RATE // 2, marks=pytest.mark.slow), 2 * RATE, pytest.param(400, marks=pytest.mark.slow)],
    ids=lambda gop: f"gop {gop}",
)
@pytest.mark.parametrize(
    "suffix",
    [s if s in COMMON else pytest.param(s, marks=pytest.mark.slow) for s in sorted(FILM_SUFFIXES)],
)
@pytest.mark.slow
def test_film_gives_one_frame_of_each_scene(tmp_path: Path, suffix: str, gop: int) -> None:
    scenes = make_scenes(5, 4)
    film = read_film(write_film(tmp_path / f"film{suffix}", scenes, gop=gop))
    frames = list(film)
    assert [frame.frame_ms for frame in frames] == [0, 4_000, 8_000, 12_000, 16_000]
    for frame, (scene, _) in zip(frames, scenes, strict=True):
        assert frame.image.mode == "RGB"
        assert measure_difference(frame.image, scene) < 12
    assert film.facts.duration_ms == pytest.approx(20_000, abs=300)
    assert (film.facts.width, film.facts.height) == SIZE
    assert film.notes == []


def test_film_gives_the_settled_sight_after_a_dissolve(tmp_path: Path) -> None:
    scenes = make_scenes(3, 4)
    frames = list(read_film(write_film(tmp_path / "film.mp4", scenes, gop=4, dissolve=1.0)))
    assert len(frames) == 3
    for frame, (scene, _) in zip(frames, scenes, strict=True):
        assert measure_difference(frame.image, scene) < 12


def test_film_of_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [place / RATE if place < 2 * RATE else 2 + (place - 2 * RATE) / 2 for place in range(4 * RATE)]
    assert list_times(write_film(tmp_path / "film.mkv", make_scenes(2, 2), times=times)) == [0, 2_000]


def test_film_whose_clock_begins_late_begins_at_zero(tmp_path: Path) -> None:
    times = [3600 + place / RATE for place in range(8 * RATE)]
    assert list_times(write_film(tmp_path / "film.mts", make_scenes(2, 4), times=times)) == [0, 4_000]


def test_film_without_keyframes_but_the_first_is_decoded_through(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", make_scenes(30, 3), gop=10_000)
    assert list_times(path) == [place * 3_000 for place in range(30)]


def test_film_keeps_no_more_frames_than_asked_for_and_covers_its_length(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", make_scenes(40, 2), gop=RATE)
    times = [frame.frame_ms for frame in read_film(path, max_frames=8)]
    assert 6 <= len(times) <= 8
    assert times[-1] > 60_000


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_film_is_turned_upright(tmp_path: Path, rotation: int) -> None:
    scene = make_scene(1)
    film = read_film(write_film(tmp_path / "film.mp4", [(scene, 2)], rotation=rotation))
    upright = scene.rotate(rotation, expand=True)  # both count counterclockwise
    (frame,) = film
    assert frame.image.size == upright.size == (film.facts.width, film.facts.height)
    assert measure_difference(frame.image, upright) < 12
    assert film.facts.rotation == rotation % 360


def test_film_with_oblong_pixels_is_widened(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height = SIZE
        stream.sample_aspect_ratio = Fraction(4, 3)
        frame = av.VideoFrame.from_image(make_scene(1))
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    film = read_film(path)
    assert [frame.image.size for frame in film] == [(256, 108)]
    assert (film.facts.width, film.facts.height) == (256, 108)


def test_film_of_large_frames_gives_images_of_1280_pixels(tmp_path: Path) -> None:
    film = read_film(write_film(tmp_path / "film.mp4", [(make_scene(1, (2560, 1440)), 1)]))
    assert [frame.image.size for frame in film] == [(1280, 720)]
    assert (film.facts.width, film.facts.height) == (2560, 1440)


def write_colours(path: Path, matrix: int, value_range: int, height: int, labelled: bool = True) -> Path:
    """A film of six patches. matrix, value_range: codes of ITU-T H.273, 1 is limited and 2 full range."""
    patches = np.array(COLOURS, np.uint8).reshape(2, 3, 3)
    image = Image.fromarray(patches).resize((height * 16 // 9, height), Image.Resampling.NEAREST)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *image.size, "yuv420p"
        if labelled:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, value_range
        frame = av.VideoFrame.from_image(image)
        frame = frame.reformat(format="yuv420p", dst_colorspace=min(matrix, 5), dst_color_range=value_range)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_colours(path: Path) -> np.ndarray:
    (frame,) = read_film(path)
    width, height = frame.image.size
    places = [(width * (2 * column + 1) // 6, height * (2 * row + 1) // 4) for row in range(2) for column in range(3)]
    return np.array([frame.image.getpixel(place) for place in places], int)


@pytest.mark.parametrize(
    ("matrix", "value_range", "height", "labelled"),
    [(1, 1, 360, True), (6, 1, 360, True), (1, 2, 360, True), (6, 1, 360, False), (1, 1, 720, False)],
    ids=["BT.709", "BT.601", "full range", "no label, small: BT.601", "no label, HD: BT.709"],
)
def test_film_shows_the_colours_it_was_made_of(
    tmp_path: Path, matrix: int, value_range: int, height: int, labelled: bool
) -> None:
    colours = read_colours(write_colours(tmp_path / "film.mp4", matrix, value_range, height, labelled))
    assert np.abs(colours - COLOURS).max() <= 5


def encode_hdr(light: np.ndarray, transfer: int) -> np.ndarray:
    """Signal of PQ (16) or HLG (18) for light in candela per square metre, as ITU-R BT.2100 defines them."""
    if transfer == 16:
        root = (light / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375
    scene = (light / 1_000) ** (1 / 1.2)
    logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_film_in_hdr_shows_the_colours_of_a_screen(tmp_path: Path, transfer: int) -> None:
    path = tmp_path / "film.mkv"
    srgb = np.array(COLOURS) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_bt2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    signal = encode_hdr(linear @ np.array(to_bt2020).T * 203, transfer).reshape(2, 3, 3)
    pixels = (np.kron(signal, np.ones((180, 213, 1))) * 65535).astype(np.uint16)[:, :638]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb48le")
    frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
    frame.pts = 0
    with av.open(str(path), "w") as container:
        quiet = "log-level=none:colorprim=bt2020:colormatrix=bt2020nc:transfer="
        names = {16: "smpte2084", 18: "arib-std-b67"}
        stream = container.add_stream("libx265", rate=RATE, options={"x265-params": quiet + names[transfer]})
        stream.width, stream.height, stream.pix_fmt = 638, 360, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert read_film(path).facts.is_hdr
    assert np.abs(read_colours(path) - COLOURS).max() <= 20


def test_facts_hold_date_place_and_camera_of_a_telephone(tmp_path: Path) -> None:
    tags = {
        "com.apple.quicktime.creationdate": "2024-05-01T12:34:56+0900",
        "com.apple.quicktime.location.ISO6709": "+35.6586+139.7454+010.0/",
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 15",
    }
    options = {"movflags": "use_metadata_tags"}
    film = read_film(write_film(tmp_path / "film.mov", make_scenes(1, 1), tags=tags, container_options=options))
    assert film.facts.taken_at == datetime(2024, 5, 1, 12, 34, 56)
    assert (film.facts.latitude, film.facts.longitude) == (35.6586, 139.7454)
    assert film.facts.camera == "Apple iPhone 15"
    assert film.facts.codec == "h264"
    film.close()


def test_date_of_a_container_is_brought_from_utc_to_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert read_taken_at({"creation_time": "2024-05-01T03:34:56.000000Z"}) == datetime(2024, 5, 1, 12, 34, 56)
        assert read_taken_at({"date": "2024-05-01 03:34:56"}) == datetime(2024, 5, 1, 3, 34, 56)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "1970-01-01T00:00:00Z", "1904-01-01T00:00:00Z", "2024", "2024-13-41T25:00:00Z"])
def test_date_that_no_camera_can_mean_is_left_out(text: str) -> None:
    assert read_taken_at({"creation_time": text}) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("+35.6586+139.7454/", (35.6586, 139.7454)),
        ("-3530.5-05815.25/", (-35.5083333, -58.2541667)),
        ("+353045+1394530+12/", (35.5125, 139.7583333)),
        ("+00.0000+000.0000/", (None, None)),
        ("+95.0000+139.0000/", (None, None)),
        ("nowhere", (None, None)),
    ],
)
def test_place_is_read_in_every_form_of_the_standard(text: str, place: tuple[float | None, float | None]) -> None:
    assert read_place({"location": text}) == place


def test_camera_is_not_named_after_its_maker_twice() -> None:
    named = {"com.apple.quicktime.make": "Canon", "com.apple.quicktime.model": "Canon EOS R5"}
    assert read_camera(named) == "Canon EOS R5"
    assert read_camera({}) is None


def test_hash_covers_both_ends_and_the_size(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).bytes(3 * 2**20)

    def hash_bytes(data: bytes) -> str:
        (tmp_path / "film.mp4").write_bytes(data)
        return hash_film(tmp_path / "film.mp4")

    hashes = {hash_bytes(data) for data in (whole, b"x" + whole[1:], whole[:-1] + b"x", whole + whole[-(2**20) :])}
    assert len(hashes) == 4
    assert hash_bytes(whole) in hashes
    assert len({hash_bytes(data) for data in (b"a", b"b", b"ab", whole[: 2**20], whole[: 2**20 + 1])}) == 5


def test_hash_reads_no_more_than_both_ends_of_a_large_film(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte without content: reading it would take an hour
    assert len(hash_film(path)) == 64


@pytest.mark.slow
def test_frame_is_used_without_counting_against_the_time_of_the_film(tmp_path: Path) -> None:
    film = read_film(write_film(tmp_path / "film.mp4", make_scenes(4, 3)), max_seconds=1.5)
    times = []
    for frame in film:
        time.sleep(0.6)
        times.append(frame.frame_ms)
    assert times == [0, 3_000, 6_000, 9_000]
    assert film.notes == []


@pytest.mark.slow
def test_film_that_reads_slowly_is_covered_coarsely_but_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_film(tmp_path / "film.mkv", make_scenes(300, 2), gop=RATE)
    read = Source.read

    def read_slowly(source: Source, count: int) -> bytes:
        time.sleep(0.1)
        return read(source, min(count, 2**12))

    monkeypatch.setattr(Source, "read", read_slowly)
    started = time.monotonic()
    times = [frame.frame_ms for frame in read_film(path, max_seconds=4)]
    assert time.monotonic() - started < 10
    assert times[-1] > 450_000
    assert max(np.diff(times)) < 150_000


def test_import_of_the_package_loads_no_decoder_and_says_how_to_get_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['av'] = None\n"
        "from image_search.films import hash_film, read_film\n"
        f"read_film({str(tmp_path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        f"{FilmsUnavailable.__name__}: Films need the Python package av. "
        "Install it: pip install -r requirements-video.txt"
    )
