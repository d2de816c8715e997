"""Frames of films, chosen by change: read_film opens a film and yields (time, image) one at a time (PyAV, optional).

Three parts that never mix: source (the file: its identity, its bytes as FFmpeg sees them, what its container says),
decoding (frames worth looking at, as upright RGB in the colours of a screen) and, here, reading within a bounded time,
whatever is wrong with the file, and choosing the frames that are kept. FFmpeg opens no other file and no address, reads
no further than the size the file had in the beginning, and finds the end of the file there when the time is up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from image_search.errors import FilmsUnavailable, UnreadableFilm
from image_search.file_kinds import SNIFFED_BYTES, describe_misnamed
from image_search.films.decoding import FrameConverter, LookReader, Signature, is_hdr, read_rotation
from image_search.films.source import (
    Clock,
    FilmFacts,
    Source,
    find_file_type,
    hash_film,
    name_file,
    read_camera,
    read_place,
    read_taken_at,
)
from image_search.settings import Settings

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

__all__ = ["FILM_SUFFIXES", "Film", "FilmFacts", "FilmFrame", "hash_film", "read_film", "require_av"]


MAX_SECONDS = 300.0

_Converted = TypeVar("_Converted")

# Lower-case suffixes, with their dot, of files that are looked at as films when a folder is read.
FILM_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mts"})
# Others, playlists for example, make FFmpeg open whatever files and addresses they name.
_DEMUXERS = "mov,matroska,avi,mpegts"
_BUFFER_BYTES = 2**18
_ENCRYPTED_TAGS = {"encv", "drmi"}


@dataclass(frozen=True, slots=True)
class FilmFrame:
    """A frame that was kept. frame_ms: milliseconds from the start of the film; image: RGB, upright, 1280 at most."""

    frame_ms: int
    image: Image.Image


class Film:
    """A film that was opened: its facts at once, its frames by iterating once, notes after that.

    facts: what the container says, and the size of the first frame.
    notes: sentences on what was left out and why; complete when the iteration has ended.
    """

    def __init__(self, path: str | os.PathLike[str], max_frames: int, max_seconds: float, max_pixels: int) -> None:
        self.name = name_file(path)
        self.notes: list[str] = []
        self._clock = Clock(max_seconds)
        self._source = Source(path, self._clock)
        try:
            self._open(max_pixels)
            self._selector = FrameSelector(max_frames, self._reader.duration_ms)
            self._frames = self._reader.read(self._selector.look_ms, self._selector.keyframe_gap_ms)
            self._first = next(self._frames, None)
            if self._first is None:
                raise UnreadableFilm(self._explain_no_frame())
            self.facts = self._read_facts(self._first[1])
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[FilmFrame]:
        """Yield the kept frames in the order of time, one at a time. Only the time spent in here counts.

        Raises UnreadableFilm at the end when not one could be made into an image.
        """
        count = 0
        try:
            for look in self._select():
                image = self._convert(self._converter.make_image, look.source)
                if image is None:
                    continue
                count += 1
                self._clock.pause()
                yield FilmFrame(look.frame_ms, image)
                self._clock.resume()
            if not count:
                raise UnreadableFilm(self._explain_no_frame())
            self.notes += self._reader.explain() + self._source.explain()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file. The iteration does it in its end."""
        container: InputContainer | None = getattr(self, "_container", None)
        if container is not None:
            container.close()
        self._source.close()

    def _open(self, max_pixels: int) -> None:
        import av
        from av.error import FFmpegError

        try:
            self._container = av.open(
                self._source,
                "r",
                container_options={"format_whitelist": _DEMUXERS},
                metadata_errors="replace",
                buffer_size=_BUFFER_BYTES,
            )
            stream = _choose_stream(self._container)
        except (FFmpegError, ValueError, OSError) as error:
            raise UnreadableFilm(self._explain_refusal(error)) from error
        if stream is None:
            raise UnreadableFilm(f"{self.name} has no moving picture in it, only sound or data.")
        if stream.codec_context is None:
            raise UnreadableFilm(f"{self.name} is of a codec that is not known here. Convert it to H.264 in MP4.")
        if stream.codec_context.codec_tag in _ENCRYPTED_TAGS:
            raise UnreadableFilm(f"{self.name} is encrypted. Only the program it was made for can play it.")
        if stream.width * stream.height > max_pixels:
            raise UnreadableFilm(
                f"{self.name} has {stream.width} x {stream.height} pixels. Convert it, or raise MAX_IMAGE_PIXELS."
            )
        self._reader = LookReader(self._container, stream, self._source.size, self._clock, max_pixels)
        self._converter = FrameConverter(float(stream.sample_aspect_ratio or 1))

    def _select(self) -> Iterator[Look]:
        assert self._first is not None
        for frame_ms, frame in chain([self._first], self._frames):
            self._first = None
            signature = self._convert(self._converter.make_signature, frame)
            if signature is not None:
                yield from self._selector.offer(Look(frame_ms, signature, frame), self._reader.progress)
        yield from self._selector.finish()

    def _convert(self, convert: Callable[[av.VideoFrame], _Converted], frame: av.VideoFrame) -> _Converted | None:
        """None for a frame whose pixels are of a kind that cannot be converted."""
        from av.error import FFmpegError

        try:
            return convert(frame)
        except (FFmpegError, ValueError):
            self._reader.is_damaged = True
            return None

    def _read_facts(self, frame: av.VideoFrame) -> FilmFacts:
        stream = self._reader.stream
        tags = {name.lower(): value for name, value in {**stream.metadata, **self._container.metadata}.items()}
        width, height = self._converter.measure(frame)
        rotation = read_rotation(frame)
        if rotation in (90, 270):
            width, height = height, width
        return FilmFacts(
            self._reader.duration_ms,
            width,
            height,
            stream.codec_context.codec.canonical_name,
            rotation,
            is_hdr(frame),
            read_taken_at(tags),
            read_camera(tags),
            *read_place(tags),
            find_file_type(self._container.format.name, tags, self._source.is_webm()),
        )

    def _explain_refusal(self, error: Exception) -> str:
        if self._clock.is_over:
            return f"{self.name} could not be opened within {self._clock.max_seconds:.0f} seconds."
        if image := describe_misnamed(self._source.read_start(SNIFFED_BYTES)):
            return f"{self.name} is {image}."
        if self._source.is_cut_off():
            return f"{self.name} has no index: it is still being written, or was cut off. Copy it again."
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        return f"{self.name} is not a film, is damaged or of an unusual kind ({reason}). Convert it to MP4."

    def _explain_no_frame(self) -> str:
        if self._clock.is_over:
            return f"{self.name} shows no frame within {self._clock.max_seconds:.0f} seconds."
        if self._reader.is_encrypted:
            return f"{self.name} is encrypted. Only the program it was made for can play it."
        return f"{self.name} has no frame that can be decoded: it is damaged or cut off. Copy it again."


def read_film(
    path: str | os.PathLike[str],
    max_frames: int = Settings.video_frames,
    max_seconds: float = MAX_SECONDS,
    max_pixels: int = Settings.max_image_pixels,
) -> Film:
    """Open a film. Iterating over the result yields its kept frames, one in memory at a time.

        film = read_film("holiday.mp4")
        for frame in film:
            print(frame.frame_ms, frame.image.size)
        print(film.facts, *film.notes)

    path:        a plain file; what it is is found in the file, not by its suffix.
    max_frames:  the most frames that are kept (VIDEO_FRAMES).
    max_seconds: the most time that is spent on it; a film that needs longer is looked at more and more coarsely.
    max_pixels:  of a frame; a film with larger ones is refused (MAX_IMAGE_PIXELS).

    Raises UnreadableFilm naming the file when no frame of it can be read, and FilmsUnavailable without the package av.
    A film that is damaged later on gives the frames that could be read, and a note.
    """
    require_av()
    return Film(path, max(1, max_frames), max_seconds, max_pixels)


def require_av() -> None:
    """Raises FilmsUnavailable, with a hint how to install it, where PyAV is missing or cannot be loaded."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise FilmsUnavailable(
            f"Films need the Python package {error.name or 'av'}. Install it: pip install -r requirements-video.txt"
        ) from error


def _choose_stream(container: InputContainer) -> av.VideoStream | None:
    """The largest video stream, or None. Cover art beside music does not count."""
    from av.stream import Discard, Disposition

    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    best = max(streams, key=_count_pixels, default=None)
    for stream in container.streams:
        if stream is not best:
            stream.discard = Discard.all
    return best


def _count_pixels(stream: av.VideoStream) -> int:
    # Without a decoder a stream has no context, and asking it for its width fails.
    return stream.width * stream.height if stream.codec_context is not None else 0


# The choice of frames to keep: by change, few of them, and never two of the same scene. Works on signatures, small
# arrays that stand for frames; knows nothing of containers and decoders.

MAX_GAP_MS = 20_000  # an unchanged scene is kept again after so long
SHORTEST_LOOK_MS = 500  # frames are compared so far apart at least
KEYFRAME_GAP_MS = 2_000  # frames between keyframes are decoded where those lie further apart

# Measured on drawn scenes: a camera that moves by one cell changes 10 cells so, another thing in the same place 30.
_CELL_CHANGE = 12  # levels of 256 by which a cell lies outside of its surroundings, in the mean of the three colours
_CHANGED_CELLS = 20  # of 2 x 256, compared both ways
_BLANK = 2.0  # levels of standard deviation: black, or one even colour
_TRANSITION_MS = 1_000  # two looks so close may lie in the same dissolve
_MAX_TRANSITION_MS = 2_000  # then it is movement, not a dissolve
_UNKNOWN_SPARE = 0.25  # share of the frames that may be kept at once in a film of unknown length


@dataclass(frozen=True, slots=True)
class Look:
    """A frame that is looked at. source: whatever the caller needs to make the image of it."""

    frame_ms: int
    signature: Signature
    source: Any


class FrameSelector:
    """Takes looks in the order of time, and returns those to keep.

    A look is kept when it differs from the one kept last, or after 20 seconds. One in the middle of a dissolve is
    replaced by the settled one after it. An even colour (black between scenes) is kept only where a film has nothing
    else. A frame is kept for every 20 seconds of the film at least, while max_frames lasts. Half of the others may be
    used wherever the film changes, the other half is spread evenly over its length.

    max_frames:  the most that are kept.
    duration_ms: of the film; None if unknown.
    """

    def __init__(self, max_frames: int, duration_ms: int | None) -> None:
        self.kept = 0
        self.look_ms, self.keyframe_gap_ms = SHORTEST_LOOK_MS, KEYFRAME_GAP_MS
        self._max_frames = max_frames
        self._spare = max_frames * _UNKNOWN_SPARE
        if duration_ms:
            # A long film has no room for a frame every two seconds, so looking that often would be wasted.
            slot = duration_ms // max_frames
            self.look_ms = max(SHORTEST_LOOK_MS, slot // 16)
            self.keyframe_gap_ms = max(KEYFRAME_GAP_MS, slot // 2)
            self._spare = max(0.0, (max_frames - duration_ms / MAX_GAP_MS) / 2)
        self._last: Look | None = None
        self._held: Look | None = None
        self._held_since = 0
        self._blank: Look | None = None

    def offer(self, look: Look, progress: float) -> Iterator[Look]:
        """The looks to keep, none to two, now that this one is known. progress: share of the film read, 0 to 1."""
        held, self._held = self._held, None
        since = look.frame_ms
        if held is not None:
            moving = (
                is_changed(held.signature, look.signature)
                and look.frame_ms - held.frame_ms < _TRANSITION_MS
                and look.frame_ms - self._held_since < _MAX_TRANSITION_MS
            )
            if moving:
                since = self._held_since
            else:
                yield from self._keep(held, progress)
        if look.signature.std(axis=(0, 1)).max() < _BLANK:
            self._blank = self._blank or look
        elif self._last is None or is_changed(self._last.signature, look.signature):
            self._held, self._held_since = look, since
        elif look.frame_ms - self._last.frame_ms >= MAX_GAP_MS:
            yield from self._keep(look, progress)

    def finish(self) -> Iterator[Look]:
        """The looks to keep at the end of the film."""
        if self._held is not None:
            yield from self._keep(self._held, 1.0)
        if not self.kept and self._blank is not None:
            yield from self._keep(self._blank, 1.0)
        self._held = self._blank = None

    def _keep(self, look: Look, progress: float) -> Iterator[Look]:
        allowed = self._spare + (self._max_frames - self._spare) * min(1.0, progress)
        if self.kept < min(self._max_frames, max(1.0, allowed)):
            self.kept += 1
            self._last = Look(look.frame_ms, look.signature, None)
            yield look


def is_changed(before: Signature, after: Signature) -> bool:
    """Whether two signatures show different scenes.

    A cell counts as changed when its colour lies outside of the colours of the same cell and its eight neighbours in
    the other signature: noise, compression and a small movement of the camera then change next to nothing.
    """
    return _count_changes(before, after) + _count_changes(after, before) >= _CHANGED_CELLS


def _count_changes(cells: Signature, others: Signature) -> int:
    below = _spread(np.minimum, others) - cells
    above = cells - _spread(np.maximum, others)
    outside = np.maximum(np.maximum(below, above), 0).mean(axis=2)
    return int((outside > _CELL_CHANGE).sum())


def _spread(choose: np.ufunc, cells: Signature) -> Signature:
    """The lowest or highest value of each cell and its neighbours."""
    padded = np.pad(cells, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = choose(choose(padded[:-2], padded[1:-1]), padded[2:])
    spread: Signature = choose(choose(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return spread
