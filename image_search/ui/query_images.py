"""Query images that visitors sent, kept on disk for as long as the program runs: an address names one by its token."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from image_search.errors import UnreadableImage
from image_search.images import decode_image, make_preview

MAX_COUNT = 500  # kept; the longest unused goes first
MAX_BYTES = 2 * 2**30


class QueryImageGone(UnreadableImage):
    """A token whose image is no longer kept."""


class QueryImages:
    """Safe to use from several threads. A token is a hash of the image: the same image has the same address."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._folder = tempfile.TemporaryDirectory(prefix="image_search_")  # readable by this user only
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, data: bytes, name: str) -> str:
        """Keep an image. Returns its token. Raises UnreadableImage."""
        preview = make_preview(decode_image(data, name, self._max_pixels))
        token = hashlib.sha256(data).hexdigest()[:32]
        with self._lock:
            Path(self._folder.name).mkdir(0o700, exist_ok=True)  # a cleaner of the system may have removed it
            self._get_path(token).write_bytes(data)
            self._get_path(token, ".webp").write_bytes(preview)
            self._sizes[token] = len(data) + len(preview)
            self._sizes.move_to_end(token)
            while len(self._sizes) > MAX_COUNT or (sum(self._sizes.values()) > MAX_BYTES and len(self._sizes) > 1):
                oldest, _ = self._sizes.popitem(last=False)
                self._get_path(oldest).unlink(missing_ok=True)
                self._get_path(oldest, ".webp").unlink(missing_ok=True)
        return token

    def open(self, token: str) -> Image.Image:
        """The image, decoded. Raises QueryImageGone."""
        return decode_image(self._read(token), "The query picture", self._max_pixels).image

    def read_preview(self, token: str) -> bytes:
        """The image as WebP. Raises QueryImageGone."""
        return self._read(token, ".webp")

    def _read(self, token: str, suffix: str = "") -> bytes:
        with self._lock:
            if not re.fullmatch(r"[0-9a-f]{32}", token) or token not in self._sizes:
                raise QueryImageGone("The query picture is no longer kept here. Choose it again.")
            try:
                data = self._get_path(token, suffix).read_bytes()
            except FileNotFoundError as error:
                del self._sizes[token]
                raise QueryImageGone("The query picture is no longer kept here. Choose it again.") from error
            self._sizes.move_to_end(token)
            return data

    def _get_path(self, token: str, suffix: str = "") -> Path:
        return Path(self._folder.name, token + suffix)
