"""The private folder for uploads and other temporary files: made at start, emptied at the end.

Gradio's own default, /tmp/gradio, belongs to the first user of the computer who starts any Gradio program, and keeps
uploads that were cut off.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

from image_search.errors import SettingsError

CLEANING_INTERVAL = 3600.0  # seconds
MAX_UPLOAD_AGE = 24 * 3600.0  # seconds; a page may search with an upload as long as it is open
_UPLOADS = "uploads"

_log = logging.getLogger(__name__)


class TemporaryFiles:
    """The folder of one server. Call it before Gradio is imported, which remembers the folder."""

    def __init__(self, host: str, port: int) -> None:
        """Remove folders that were left when a server of this address was killed, and make a new one."""
        prefix = f"image_search_{re.sub(r'[^0-9A-Za-z.]', '-', host)}_{port}_"
        try:
            parent = Path(tempfile.gettempdir())
            for left in parent.glob(f"{prefix}*"):
                if _is_own(left):
                    shutil.rmtree(left, ignore_errors=True)
            self.folder = Path(tempfile.mkdtemp(prefix=prefix))
        except OSError as error:
            raise SettingsError(
                f"No folder for uploads can be made ({error.strerror}). Name a folder with free space in TMPDIR."
            ) from error
        self.uploads = self.folder / _UPLOADS
        self._stop = threading.Event()
        self._former = (tempfile.tempdir, os.environ.pop("GRADIO_TEMP_DIR", None))
        tempfile.tempdir = str(self.folder)
        os.environ["GRADIO_TEMP_DIR"] = str(self.uploads)
        self.ensure()

    def ensure(self) -> None:
        """Make the folder again when a cleaner of the system removed it. Raises OSError."""
        self.folder.mkdir(0o700, exist_ok=True)
        if not _is_own(self.folder):  # made by another user in the meantime
            raise PermissionError(f"{self.folder} belongs to another user")
        self.uploads.mkdir(0o700, exist_ok=True)

    def start_cleaning(self) -> None:
        """Delete old uploads every hour, in a thread that ends with the program or with close."""
        threading.Thread(target=self._clean_until_stopped, name="clean uploads", daemon=True).start()

    def clean(self, max_age: float = MAX_UPLOAD_AGE) -> None:
        """Delete uploads that are older, in seconds."""
        oldest = time.time() - max_age
        for place, _, names in os.walk(self.uploads, topdown=False):
            for name in names:
                path = Path(place, name)
                try:
                    if path.lstat().st_ctime < oldest:
                        path.unlink()
                except OSError as error:
                    _log.debug("%s was not deleted: %s", path, error)
            if place != str(self.uploads):
                try:
                    os.rmdir(place)
                except OSError:  # not empty
                    continue

    def close(self) -> None:
        """Delete the folder with everything in it."""
        self._stop.set()
        shutil.rmtree(self.folder, ignore_errors=True)
        tempfile.tempdir, gradio = self._former
        if gradio is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = gradio

    def _clean_until_stopped(self) -> None:
        while not self._stop.wait(CLEANING_INTERVAL):
            self.clean()


def _is_own(folder: Path) -> bool:
    """Whether a folder, and no link, belongs to this user."""
    try:
        return not folder.is_symlink() and (os.name == "nt" or folder.stat().st_uid == os.geteuid())
    except OSError:
        return False
