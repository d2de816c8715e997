"""Open a film and read the frames worth looking at, within a bounded time, whatever is wrong with the file.

FFmpeg sees the file through Source only: it opens no other file and no address, reads no further than the size the
file had in the beginning, and finds the end of the file there when the time is up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from image_search.errors import FilmsUnavailable, UnreadableFilm
from image_search.films.decoding import FrameConverter, LookReader, is_hdr, read_rotation
from image_search.films.selection import FrameSelector, Look
from image_search.films.source import (
    Clock,
    FilmFacts,
    Source,
    find_file_type,
    name_file,
    read_camera,
    read_place,
    read_taken_at,
)
from image_search.settings import Settings

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

MAX_SECONDS = 300.0

_Converted = TypeVar("_Converted")

_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mts"})
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

        Raises UnreadableFilm in the end when not one could be made into an image.
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


def list_film_suffixes() -> frozenset[str]:
    """Lower-case suffixes, with their dot, of files that are looked at as films when a folder is read."""
    return _SUFFIXES


def require_av() -> None:
    """Raises FilmsUnavailable, with a hint how to install it, where PyAV is missing or cannot be loaded."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise FilmsUnavailable(
            f"Films need the Python package {error.name or 'av'}. Install it: pip install -r requirements-video.txt"
        ) from error


def _choose_stream(container: InputContainer) -> av.VideoStream | None:
    """The largest moving picture; a cover beside music is none."""
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
