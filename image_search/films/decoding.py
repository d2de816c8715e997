"""Decode the frames of a film that are worth looking at: keyframes, and others only where those lie far apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from image_search.films.source import Clock

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

_MOST_WAITING = 64 * 2**20  # bytes of frames that wait, not decoded, for the next keyframe
_MOST_PIXELS = 16_000_000  # of larger frames, 8K, only keyframes are decoded: a decoder holds up to 16 others besides
_MOST_ERRORS = 20  # failures of the demuxer in a row
_COARSE, _JUMP = 0.05, 0.15  # shares of the time limit that reading may lag behind the film
_END_TOLERANCE_MS = 5_000
_REORDERED_MS = 1_000  # by which frames may precede a keyframe that was stored before them


class LookReader:
    """Reads one stream from its start to its end.

    Keyframes are decoded by themselves. The frames after one wait undecoded until the next keyframe comes; when that is
    too far, they are decoded after all. When reading falls behind the film, measured in the time limit, keyframes alone
    are decoded; when that is not enough, parts of the film are jumped over.

    duration_ms: length of the film, None if unknown.
    progress:    share of the film that was read, 0 to 1.
    is_damaged:  whether something could not be decoded.
    """

    def __init__(
        self, container: InputContainer, stream: av.VideoStream, size: int, clock: Clock, max_pixels: int
    ) -> None:
        """size: of the file in bytes. max_pixels: larger frames are not decoded, whatever the container announces."""
        self.stream = stream
        self.progress = 0.0
        self.is_encrypted = self.is_damaged = False
        self._container, self._size, self._clock = container, size, clock
        self._decoder = stream.codec_context
        self._decoder.options = {"max_pixels": str(max_pixels)}
        self._decoder.thread_type = "AUTO"
        self._decoder.thread_count = 2
        self._start = (container.start_time or 0) / 1_000_000
        self.duration_ms = self._read_duration()
        self._only_keyframes = stream.width * stream.height > _MOST_PIXELS
        self._reached_ms = 0
        self._can_jump = True
        self._turned_back = False

    def read(self, look_ms: int, keyframe_gap_ms: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (milliseconds from the start, frame), at least look_ms apart, in the order of time."""
        last = -look_ms
        for frame in self._decode_some(look_ms, keyframe_gap_ms):
            frame_ms = self._read_time(frame)
            self.is_damaged |= frame.is_corrupt
            if frame_ms is not None and frame_ms >= last + look_ms and not frame.is_corrupt:
                last = frame_ms
                yield frame_ms, frame

    def explain(self) -> list[str]:
        """Notes on what was left out."""
        reached, length = format_time(self._reached_ms), format_time(self.duration_ms or 0)
        notes = []
        if self._clock.is_over:
            notes.append(f"Reading was ended after {self._clock.max_seconds:.0f} seconds, at {reached} of {length}.")
        elif self.duration_ms and self._reached_ms < self.duration_ms * 0.95 - _END_TOLERANCE_MS:
            notes.append(f"The film is cut short: it ends at {reached} of {length}.")
        if self.is_damaged:
            notes.append("Some of its frames are damaged and were left out.")
        if self._turned_back:
            notes.append("Its clock runs backwards in places; those parts were left out.")
        return notes

    def _decode_some(self, look_ms: int, keyframe_gap_ms: int) -> Iterator[av.VideoFrame]:
        looked: int | None = None  # time of the keyframe looked at last
        waiting: list[av.Packet[av.VideoStream]] = []  # packets from that keyframe on
        waiting_bytes = 0
        mode = "wait"  # for the next keyframe; "run": decode every frame until then; "skip" them
        for packet in self._demux():
            packet_ms = self._read_time(packet)
            if packet_ms is None:
                packet_ms = self._reached_ms
            self._follow(packet, packet_ms)
            if looked is None:
                looked = packet_ms - look_ms
            if packet.is_keyframe and not looked - _REORDERED_MS < packet_ms < looked + look_ms:
                self._turned_back |= packet_ms < looked
                self._can_jump |= packet_ms > looked
                if mode == "run":
                    yield from self._decode(None)
                yield from self._decode(packet)
                yield from self._decode(None)
                looked, waiting, waiting_bytes = packet_ms, [packet], packet.size
                mode = "skip" if self._only_keyframes or self._jump() else "wait"
                continue
            if mode != "skip" and (waiting_bytes > _MOST_WAITING or self._lags(_COARSE)):
                if mode == "run":
                    yield from self._decode(None)
                mode, waiting = "skip", []
            if mode == "run":
                yield from self._decode(packet)
            elif mode == "wait":
                waiting.append(packet)
                waiting_bytes += packet.size
                if packet_ms - looked > keyframe_gap_ms:
                    for earlier in waiting:
                        yield from self._decode(earlier)
                    mode, waiting, waiting_bytes = "run", [], 0
        if mode == "run":
            yield from self._decode(None)

    def _demux(self) -> Iterator[av.Packet[av.VideoStream]]:
        """Packets until the end; goes on behind a damaged place, a few times."""
        from av.error import FFmpegError

        errors = 0
        while errors < _MOST_ERRORS and not self._clock.is_over:
            try:
                for packet in self._container.demux(self.stream):
                    if packet.size:
                        errors = 0
                        yield packet
                return
            # PyAV trips over streams that turn up in the middle (IndexError), which damage looks like.
            except (FFmpegError, OSError, IndexError):
                self.is_damaged = True
                errors += 1

    def _decode(self, packet: av.Packet[av.VideoStream] | None) -> list[av.VideoFrame]:
        """Frames that come out for a packet; None ends a run of packets and brings out the rest."""
        from av.error import FFmpegError

        frames: list[av.VideoFrame] = []
        try:
            if packet is not None and packet.has_sidedata("encryption_info"):
                self.is_encrypted = True
                return []
            frames = self._decoder.decode(packet)
        except EOFError:  # nothing was decoded since the last end
            pass
        except FFmpegError:
            self.is_damaged = True
        if packet is None:
            self._decoder.flush_buffers()
        return frames

    def _follow(self, packet: av.Packet[av.VideoStream], packet_ms: int) -> None:
        self._reached_ms = max(self._reached_ms, packet_ms + _to_ms(packet.duration, self.stream))
        by_time = self._reached_ms / self.duration_ms if self.duration_ms else 0.0
        by_place = packet.pos / self._size if packet.pos and packet.pos > 0 else 0.0
        self.progress = min(1.0, max(self.progress, by_time, by_place))

    def _jump(self) -> bool:
        """Go on where reading should be by now, if it is far behind. Returns whether it did."""
        from av.error import FFmpegError

        if not (self._can_jump and self.duration_ms and self.stream.time_base and self._lags(_JUMP)):
            return False
        target = self.duration_ms / 1000 * min(0.99, self._clock.share) + self._start
        self._can_jump = False  # until a later keyframe shows that it led forward
        try:
            self._container.seek(int(target / self.stream.time_base), stream=self.stream)
        except FFmpegError:
            return False
        return True

    def _lags(self, share: float) -> bool:
        return self._clock.share > self.progress + share

    def _read_duration(self) -> int | None:
        stream, container = self.stream, self._container
        if container.duration and container.duration > 0:
            return container.duration // 1000
        if stream.duration and stream.duration > 0:
            return _to_ms(stream.duration, stream)
        return None

    def _read_time(self, timed: av.Packet[av.VideoStream] | av.VideoFrame) -> int | None:
        stamp = timed.pts if timed.pts is not None else timed.dts
        if stamp is None:
            return None
        return max(0, _to_ms(stamp, self.stream) - round(self._start * 1000))


def _to_ms(stamp: int | None, stream: av.VideoStream) -> int:
    return round((stamp or 0) * (stream.time_base or 0) * 1000)


def format_time(ms: int) -> str:
    """00:12:34"""
    seconds = ms // 1000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
