"""Films that are broken, huge, or none at all: one sentence each, or the frames that could be read and a note."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_search.errors import UnreadableFilm
from image_search.films import Film, hash_film, read_film
from image_search.films.source import Source
from tests.fakes.examples import scale
from tests.fakes.film_files import RATE, SIZE, make_scene, make_scenes, write_film

pytestmark = pytest.mark.slow

CONTAINERS = {
    "index first": (".mp4", {"movflags": "faststart"}),
    "index last": (".mp4", {}),
    "in fragments": (".mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "Matroska": (".mkv", {}),
    "WebM": (".webm", {}),
    "AVI": (".avi", {}),
    "transport stream": (".mts", {}),
}
SCENES = make_scenes(4, 3)


def read_all(path: Path, **limits: float) -> tuple[list[int], Film]:
    """Times of the kept frames, and the film."""
    film = read_film(path, **limits)  # type: ignore[arg-type]
    return [frame.frame_ms for frame in film], film


def check_sentence(error: pytest.ExceptionInfo[UnreadableFilm], path: Path) -> str:
    """Every refusal names the file, is one line, and ends like a sentence."""
    text = str(error.value)
    assert str(path) in text
    assert text.endswith(".") and "\n" not in text
    return text


def refuse(path: Path) -> str:
    with pytest.raises(UnreadableFilm) as error:
        read_all(path)
    return check_sentence(error, path)


@cache
def make_film_bytes(kind: str) -> bytes:
    suffix, options = CONTAINERS[kind]
    with TemporaryDirectory() as folder:
        return write_film(Path(folder, f"film{suffix}"), SCENES, container_options=options).read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"not a film " * 1000, "is not a film"),
        (bytes(2**20), "is not a film"),
        (np.random.default_rng(0).bytes(2**20), "is not a film"),
        ((b"\x47\x1f\xff\x10" + bytes(184)) * 10_000, "is not a film"),
    ],
    ids=["0 bytes", "text", "zeros", "noise", "an empty transport stream"],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mts"])
def test_file_that_is_no_film_is_refused(tmp_path: Path, content: bytes, said: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    assert said in refuse(path)


def test_folder_pipe_and_absent_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "is a folder" in refuse(tmp_path / "folder.mp4")
    assert "is not a file" in refuse(tmp_path / "pipe.mp4")
    assert "cannot be read" in refuse(tmp_path / "absent.mp4")
    with pytest.raises(UnreadableFilm):
        hash_film(tmp_path / "folder.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mts"])
@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("PNG", "is a PNG picture, not a film. Give it the suffix .png."),
        ("JPEG", "is a JPEG picture, not a film. Give it the suffix .jpg."),
        ("GIF", "is a GIF picture, not a film. Give it the suffix .gif."),
    ],
)
def test_image_with_the_suffix_of_a_film_is_called_one(tmp_path: Path, format: str, said: str, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    make_scene(1).save(path, format)
    assert refuse(path).endswith(said)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi", ".mts"])
def test_film_with_the_suffix_of_another_is_read(tmp_path: Path, suffix: str) -> None:
    path = write_film(tmp_path / f"film{suffix}", SCENES)
    assert read_all(path.rename(tmp_path / "film.mp4"))[0] == [0, 3_000, 6_000, 9_000]


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{film}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {film}\n",
    ],
    ids=["HLS", "concat"],
)
def test_playlist_in_a_film_opens_no_other_file(tmp_path: Path, playlist: str) -> None:
    film = write_film(tmp_path / "film.mts", SCENES)
    path = tmp_path / "playlist.mp4"
    path.write_text(playlist.format(film=film))
    assert "is not a film" in refuse(path)


def test_sound_without_a_video_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts = 44_100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "has no moving picture" in refuse(path)


def test_codec_that_is_not_known_is_refused(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", SCENES)
    head, found, tail = path.read_bytes().rpartition(b"avc1")
    assert found
    path.write_bytes(head + b"zzzz" + tail)
    assert "codec that is not known" in refuse(path)


def test_encrypted_film_is_refused(tmp_path: Path) -> None:
    key = "0123456789abcdef0123456789abcdef"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    assert "is encrypted" in refuse(write_film(tmp_path / "film.mp4", SCENES, container_options=options))


def test_film_with_more_pixels_than_allowed_is_refused(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", SCENES)
    with pytest.raises(UnreadableFilm, match=r"192 x 108 pixels.*MAX_IMAGE_PIXELS") as error:
        read_film(path, max_pixels=10_000)
    check_sentence(error, path)


def test_film_whose_frames_are_larger_than_its_container_says_is_not_decoded(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", SCENES)
    head, found, tail = path.read_bytes().rpartition(b"avc1")
    assert found
    assert tail[24:28] == bytes([0, SIZE[0], 0, SIZE[1]])
    path.write_bytes(head + found + tail[:24] + bytes([0, 16, 0, 16]) + tail[28:])
    with pytest.raises(UnreadableFilm) as error:
        read_all(path, max_pixels=10_000)
    check_sentence(error, path)


def test_film_on_a_disk_that_fails_gives_the_frames_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_film(tmp_path / "film.mkv", make_scenes(60, 2), gop=1)
    read, left = Source.read, [40]

    def read_until_it_fails(source: Source, count: int) -> bytes:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")
        return read(source, min(count, 2**14))

    monkeypatch.setattr(Source, "read", read_until_it_fails)
    times, film = read_all(path)
    assert len(times) > 3
    assert any("damaged" in note for note in film.notes)
    assert any("cut short" in note for note in film.notes)
    with pytest.raises(UnreadableFilm, match="Input/output error"):
        read_film(path)


def test_film_of_one_frame_gives_it(tmp_path: Path) -> None:
    times, film = read_all(write_film(tmp_path / "film.mp4", [(make_scene(1), 1 / RATE)]))
    assert (times, film.notes) == ([0], [])


def test_film_that_is_black_gives_one_frame(tmp_path: Path) -> None:
    assert read_all(write_film(tmp_path / "film.mp4", [(Image.new("RGB", SIZE), 3)]))[0] == [0]


def test_film_of_ten_hours_is_covered_with_the_frames_there_are(tmp_path: Path) -> None:
    count = 1_200
    times = [place * 36_000 / count for place in range(count)]
    scenes = make_scenes(count // RATE, 1)
    path = write_film(tmp_path / "film.mkv", scenes, gop=1, times=times)
    started = time.monotonic()
    kept, film = read_all(path)
    assert time.monotonic() - started < 30
    assert film.facts.duration_ms == pytest.approx(36_000_000, rel=0.01)
    assert 100 <= len(kept) <= 300
    assert max(np.diff([0, *kept, 36_000_000])) <= 600_000


def test_film_in_8k_gives_images_of_1280_pixels(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", [(make_scene(1, (7680, 4320)), 2)], rate=1, gop=1)
    film = read_film(path)
    assert [frame.image.size for frame in film] == [(1280, 720)]
    assert (film.facts.width, film.facts.height) == (7680, 4320)


def test_film_that_grows_is_read_as_far_as_it_was_written_and_says_so(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mkv", SCENES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    film, times = read_film(path), []
    for frame in film:
        times.append(frame.frame_ms)
        with path.open("ab") as file:
            file.write(whole[len(whole) * 2 // 3 :] if len(times) == 1 else b"more")
    assert times == [0, 3_000, 6_000]
    assert any("changed while it was read" in note for note in film.notes)


def test_recording_that_is_not_finished_is_told_apart_from_damage(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(make_film_bytes("index last")[:-3_000])
    assert "has no index: it is still being written, or was cut off" in refuse(path)


@pytest.mark.parametrize("kind", ["index first", "Matroska", "WebM"])
def test_film_that_is_cut_short_gives_the_frames_before_and_says_where_it_ends(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "film.mp4"
    long = write_film(tmp_path / f"long{CONTAINERS[kind][0]}", make_scenes(8, 4), container_options=CONTAINERS[kind][1])
    path.write_bytes(long.read_bytes()[: long.stat().st_size // 2])
    times, film = read_all(path)
    assert times[:3] == [0, 4_000, 8_000]
    assert any("cut short: it ends at 00:00:1" in note for note in film.notes)


@pytest.mark.parametrize("kind", CONTAINERS)
@settings(deadline=None, max_examples=scale(60))
@given(st.data())
def test_film_that_is_cut_off_anywhere_is_read_or_refused_in_a_sentence(kind: str, data: st.DataObject) -> None:
    whole = make_film_bytes(kind)
    check_damaged(whole[: data.draw(st.integers(0, len(whole) - 1), "bytes kept")], len(SCENES))


@pytest.mark.parametrize("kind", CONTAINERS)
@settings(deadline=None, max_examples=scale(60))
@given(st.data())
def test_film_with_any_bytes_changed_is_read_or_refused_in_a_sentence(kind: str, data: st.DataObject) -> None:
    whole = bytearray(make_film_bytes(kind))
    changes = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=40)
    for place, value in data.draw(changes, "changes"):
        whole[place] = value
    check_damaged(bytes(whole), 300)


def check_damaged(content: bytes, most_frames: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        path.write_bytes(content)
        try:
            times, film = read_all(path, max_seconds=20)
        except UnreadableFilm as error:
            text = str(error)
            assert str(path) in text and text.endswith(".") and "\n" not in text
        else:
            assert 1 <= len(times) <= most_frames
            assert times == sorted(set(times))
            assert all(note.endswith(".") and "\n" not in note for note in film.notes)


def test_film_that_takes_too_long_to_open_is_refused(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", SCENES)
    with pytest.raises(UnreadableFilm, match="could not be opened within 0 seconds") as error:
        read_film(path, max_seconds=1e-6)
    check_sentence(error, path)


def test_film_that_cannot_be_read_within_its_time_ends_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_film(tmp_path / "film.mkv", make_scenes(60, 2), gop=1)
    read, delay = Source.read, [0.0]

    def read_slowly(source: Source, count: int) -> bytes:
        time.sleep(delay[0])
        return read(source, min(count, 4096))

    monkeypatch.setattr(Source, "read", read_slowly)
    film = read_film(path, max_seconds=3)
    delay[0] = 0.1
    monkeypatch.setattr("image_search.films.decoding._JUMP", 9.0)  # as in a film in which nothing can be jumped over
    started = time.monotonic()
    assert len(list(film)) > 1
    assert time.monotonic() - started < 10
    assert any("Reading was ended after 3 seconds, at 00:0" in note for note in film.notes)


def test_film_that_is_left_early_is_closed(tmp_path: Path) -> None:
    film = read_film(write_film(tmp_path / "film.mp4", SCENES))
    frames = iter(film)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="closed"):
        film._source.read(1)
