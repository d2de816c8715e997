"""Decode the frames of a film that are worth looking at: keyframes, and others only where those lie far apart.

They become upright RGB images in the colours of a screen, and signatures.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from image_search.films.source import Clock

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

Signature = npt.NDArray[np.int16]  # (16, 16, 3), red, green and blue from 0 to 255

_MAX_WAITING = 64 * 2**20  # bytes of frames that wait, not decoded, for the next keyframe
_MAX_PIXELS = 16_000_000  # of larger frames, 8K, only keyframes are decoded: a decoder holds up to 16 others besides
_MAX_ERRORS = 20  # failures of the demuxer in a row
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
        self._only_keyframes = stream.width * stream.height > _MAX_PIXELS
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
            if mode != "skip" and (waiting_bytes > _MAX_WAITING or self._lags(_COARSE)):
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
        while errors < _MAX_ERRORS and not self._clock.is_over:
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
        """Jump to where reading should be by now, if it is far behind. Returns whether it did."""
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


IMAGE_SIDE = 1280  # pixels of the longer side of an image at most

_SIGNATURE_SIDE = 64  # swscale shrinks by 256 times at most: enough for frames of 16,384 pixels
_HD_HEIGHT = 720  # from here on players take colours that are not labelled for BT.709, below for BT.601

# Codes of ITU-T H.273 for the transfer of light, the matrix and the range of values.
_PQ, _HLG = 16, 18
_UNSPECIFIED = 2
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # to numbers of swscale

_SDR_WHITE = 203.0  # candela per square metre of diffuse white in HDR (ITU-R BT.2408)
_PQ_PEAK = 10_000.0
_HLG_PEAK = 1_000.0
_KNEE = 0.8  # share of the screen's white from which highlights are compressed instead of clipped
# BT.2020 primaries to those of BT.709 and sRGB (ITU-R BT.2087).
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)


class FrameConverter:
    """Turns decoded frames of one film into images and signatures; keeps swscale's tables from frame to frame."""

    def __init__(self, pixel_ratio: float) -> None:
        """pixel_ratio: width of a stored pixel divided by its height."""
        from av.video.reformatter import VideoReformatter

        self._pixel_ratio = pixel_ratio
        self._to_image, self._to_signature = VideoReformatter(), VideoReformatter()

    def measure(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height of a frame with square pixels, before it is turned."""
        return max(1, round(frame.width * self._pixel_ratio)), frame.height

    def make_signature(self, frame: av.VideoFrame) -> Signature:
        """Mean red, green and blue of 16 x 16 cells, of the frame as it is stored: int16 of shape (16, 16, 3)."""
        side = _SIGNATURE_SIDE
        pixels = self._to_signature.reformat(
            frame, side, side, "rgb24", interpolation="AREA", threads=1, **_describe_colours(frame)
        ).to_ndarray()
        cells: Signature = pixels.reshape(16, side // 16, 16, side // 16, 3).mean(axis=(1, 3)).astype(np.int16)
        return cells

    def make_image(self, frame: av.VideoFrame) -> Image.Image:
        """RGB of 1280 pixels at most, upright, with square pixels; HDR (PQ, HLG) brought to what a screen shows."""
        width, height = fit_size(*self.measure(frame))
        hdr = is_hdr(frame)
        pixels = self._to_image.reformat(
            frame,
            width,
            height,
            "rgb48le" if hdr else "rgb24",
            interpolation="AREA" if width < frame.width else "BICUBIC",
            threads=1,
            **_describe_colours(frame),
        ).to_ndarray()
        if hdr:
            pixels = _convert_hdr(pixels, frame.color_trc)
        image = Image.fromarray(pixels)
        # The display matrix says counterclockwise, as Pillow does.
        turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
        turn = turns.get(read_rotation(frame))
        return image.transpose(turn) if turn is not None else image


def read_rotation(frame: av.VideoFrame) -> int:
    """0, 90, 180 or 270 degrees counterclockwise by which the frame is turned to stand upright."""
    return round(frame.rotation / 90) % 4 * 90


def fit_size(width: int, height: int) -> tuple[int, int]:
    """The size, reduced so that the longer side has IMAGE_SIDE pixels at most."""
    factor = min(1.0, IMAGE_SIDE / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the frame's light is stored as PQ or HLG."""
    return frame.color_trc in (_PQ, _HLG)


def _describe_colours(frame: av.VideoFrame) -> dict[str, int]:
    matrix = _MATRICES.get(frame.colorspace)
    if matrix is None:
        matrix = 1 if frame.height >= _HD_HEIGHT else 5
    return {"src_colorspace": matrix}


def _convert_hdr(pixels: npt.NDArray[Any], transfer: int) -> npt.NDArray[np.uint8]:
    """uint16 in BT.2020 with PQ or HLG to uint8 in sRGB: linear light, other primaries, a knee, the curve of sRGB."""
    light = _list_light(transfer)[pixels >> 4] @ _TO_BT709.T
    over = np.maximum(light - _KNEE, 0)
    light = np.minimum(light, _KNEE) + (1 - _KNEE) * over / (over + (1 - _KNEE))
    shown: npt.NDArray[np.uint8] = _list_srgb()[(np.clip(light, 0, 1) * 4095).astype(np.uint16)]
    return shown


@cache
def _list_light(transfer: int) -> npt.NDArray[np.float32]:
    """Linear light for each of 4096 signal values; 1 is the white of a screen (ITU-R BT.2100)."""
    signal = np.linspace(0, 1, 4096)
    if transfer == _PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = signal ** (1 / m2)
        nits = _PQ_PEAK * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        nits = _HLG_PEAK * scene**1.2
    return (nits / _SDR_WHITE).astype(np.float32)


@cache
def _list_srgb() -> npt.NDArray[np.uint8]:
    light = np.linspace(0, 1, 4096)
    signal = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(signal * 255).astype(np.uint8)
