"""Storage of original files: a folder or a bucket, by the SHA-256 of the content, or the user's own files by reference.

A file named by its content never holds the wrong image, and a second write changes nothing. The caller of write
and delete holds the write lock of the database the folder belongs to; one folder belongs to one database.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from image_search.errors import (
    ImageSearchError,
    OriginalMissing,
    SettingsError,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from image_search.records import Finding
from image_search.settings import DEFAULT_ORIGINALS

_Answer = TypeVar("_Answer")

BY_REFERENCE = "reference"  # as ORIGINALS_URL

_WRITERS = 8
_REQUEST_CONCURRENCY = 8
_HASH_START, _HASH = re.compile("[0-9a-f]{2}"), re.compile("[0-9a-f]{64}")


class Originals(Protocol):
    """Keeps files by the 64 hexadecimal digits of their SHA-256.

    Any method may raise StoreUnavailable, and SettingsError where ORIGINALS_URL names no place for files.
    """

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Keep these files; when this returns they survive a power failure. Existing files stay."""

    def read(self, sha256: str, paths: Sequence[str] = ()) -> bytes:
        """One file, byte for byte. paths: where the user has it. Raises StoreError naming it when it is not there."""

    def delete(self, hashes: Iterable[str]) -> None:
        """Remove these files; one that is not there is no error."""


def open_originals(url: str, default_folder: Path = DEFAULT_ORIGINALS, s3_endpoint_url: str = "") -> Originals:
    """The place ORIGINALS_URL names: a folder (a path or file:// URL) or a bucket; default_folder if empty.

    "reference" leaves files where they are; uploads are kept in default_folder.
    s3_endpoint_url: the server of the bucket, when neither Amazon's nor the one the environment names.
    """
    if not url:
        return FolderOriginals(default_folder)
    if url.lower() == BY_REFERENCE:
        return ReferencedOriginals(default_folder)
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FolderOriginals(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        return S3Originals(url, s3_endpoint_url)
    if parts.scheme and len(parts.scheme) > 1:  # one letter is a Windows drive
        raise SettingsError(
            f"ORIGINALS_URL begins with {parts.scheme!r}. It may be a folder, s3://bucket/prefix, or reference."
        )
    return FolderOriginals(Path(url))


def open_separate_originals(url: str, engine: str, s3_endpoint_url: str = "") -> Originals:
    """The place ORIGINALS_URL names, for an engine that cannot keep large files itself."""
    if not url:
        raise SettingsError(
            f"{engine} cannot keep the original files itself. Set ORIGINALS_URL (of a library to copy: "
            "--originals-from) to a folder of this library only, for example data/originals, to s3://bucket/prefix, "
            "or to reference, which leaves files where they are."
        )
    return open_originals(url, s3_endpoint_url=s3_endpoint_url)


class FolderOriginals:
    """Originals in a folder, spread over 256 subfolders: ab/abcdef..."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def write(self, contents: Mapping[str, bytes]) -> None:
        missing = {self._find_path(sha256): data for sha256, data in contents.items()}
        missing = {path: data for path, data in missing.items() if not _has_size(path, len(data))}
        folders = {path.parent for path in missing}
        try:
            _make_folder(self.folder, 0o700)
            for folder in folders:
                _make_folder(folder)
            # Several at once: waiting for the disk takes longer than writing, and disks gather what waits.
            with ThreadPoolExecutor(_WRITERS) as pool:
                list(pool.map(_write_file, missing.keys(), missing.values()))
            for folder in folders:
                _sync_folder(folder)
        except OSError as error:
            for path in missing:
                with suppress(OSError):
                    _find_partial(path).unlink(missing_ok=True)
                    path.unlink(missing_ok=True)
            raise _explain_error(error, self.folder) from error

    def read(self, sha256: str, paths: Sequence[str] = ()) -> bytes:
        path = self._find_path(sha256)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            # Without the path: the sentence reaches clients of the server. --check names the folder.
            raise OriginalMissing(
                "The original file is missing from the library. Register its folder again, or send the file again."
            ) from error
        except OSError as error:
            raise _explain_error(error, path) from error

    def delete(self, hashes: Iterable[str]) -> None:
        try:
            for sha256 in hashes:
                self._find_path(sha256).unlink(missing_ok=True)
        except OSError as error:
            raise _explain_error(error, self.folder) from error

    def has(self, sha256: str) -> bool:
        """Whether there is a file for it here, whatever it holds."""
        return self._find_path(sha256).exists()

    def owns(self, path: str) -> bool:
        """Whether this file is an original that is kept here."""
        name = os.path.basename(path)
        return bool(_HASH.fullmatch(name)) and os.path.realpath(path) == os.path.realpath(self._find_path(name))

    def list_hashes(self) -> dict[str, Path]:
        """Every original that is kept here, with its file. Raises StoreUnavailable."""
        try:
            folders = [folder for folder in self.folder.iterdir() if _HASH_START.fullmatch(folder.name)]
            files = (file for folder in folders for file in folder.iterdir())
            return {file.name: file for file in files if _HASH.fullmatch(file.name)}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise _explain_error(error, self.folder) from error

    def _find_path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256


class ReferencedOriginals(FolderOriginals):
    """Files stay where the user has them (ImageStore hands none with a path over); uploads are kept in a folder."""

    def __str__(self) -> str:
        return f"left where they are; uploads in {self.folder}"

    def leaves(self, path: str | None, size: int) -> bool:
        """Whether a file is at this path whose content need not be kept, because it has this size in bytes."""
        with suppress(OSError, ValueError):
            return path is not None and os.path.getsize(path) == size
        return False  # of a library that is copied, for example

    def read(self, sha256: str, paths: Sequence[str] = ()) -> bytes:
        for path in paths:
            with suppress(OSError, ValueError):
                data = Path(path).read_bytes()
                if hashlib.sha256(data).hexdigest() == sha256:
                    return data
        if paths and not self._find_path(sha256).exists():
            shown = paths[0].encode("utf-8", "backslashreplace").decode()
            raise OriginalMissing(f"{shown} was changed or moved; register its folder again.")
        return super().read(sha256)


def _write_file(path: Path, data: bytes) -> None:
    """Write under another name first: the final name appears whole or not at all."""
    partial = _find_partial(path)  # the same for every attempt, so that an interrupted one is written over
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _make_folder(folder: Path, mode: int = 0o777) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode, exist_ok=True)
        _sync_folder(folder.parent)


def _find_partial(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:  # missing or unreadable: the write will raise
        return False


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its file system orders renames itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain_error(error: OSError, path: Path) -> ImageSearchError:
    if isinstance(error, FileExistsError | NotADirectoryError):
        file = next((place for place in (path, *path.parents) if place.exists() and not place.is_dir()), path)
        return SettingsError(f"{file} is not a folder, so no originals are in it. Name a folder in ORIGINALS_URL.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"The disk of {path} is full. Nothing of this batch was kept; free some space and run again.")
    return StoreUnavailable(f"{path} cannot be read or written ({error.strerror}). Check the disk and the rights.")


class S3Originals:
    """Originals in an S3 bucket, or in anything that speaks S3 (MinIO, Ceph, R2): s3://bucket/prefix.

    An object appears whole or not at all. Credentials and region come from where every S3 program reads them:
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and so on, or the files in ~/.aws. The address of
    another server than Amazon's is S3_ENDPOINT_URL.
    """

    def __init__(self, url: str, endpoint_url: str = "") -> None:
        """Raises SettingsError for a URL without a bucket, and where the package for S3 is missing."""
        try:
            import s3fs
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"s3:// in ORIGINALS_URL needs the Python package {error.name}: pip install -r requirements-s3.txt"
            ) from error
        parts = urlsplit(url)
        if not parts.netloc or parts.query:
            raise SettingsError("ORIGINALS_URL names no bucket. Write s3://bucket or s3://bucket/prefix.")
        self.url = f"s3://{parts.netloc}{parts.path}".rstrip("/")
        # No listing is cached: another program may change the bucket at any time.
        self._files: Any = s3fs.S3FileSystem(
            endpoint_url=endpoint_url or None, use_listings_cache=False, skip_instance_cache=True
        )

    def __str__(self) -> str:
        return self.url

    def write(self, contents: Mapping[str, bytes]) -> None:
        # The client sends a checksum along, and the server refuses what does not arrive as it was sent.
        self._request(lambda item: self._write_object(*item), contents.items())

    def read(self, sha256: str, paths: Sequence[str] = ()) -> bytes:
        [data] = self._request(self._files.cat_file, [self._find_key(sha256)])
        return bytes(data)

    def delete(self, hashes: Iterable[str]) -> None:
        self._request(self._files.rm_file, [self._find_key(sha256) for sha256 in hashes])

    def _write_object(self, sha256: str, data: bytes) -> None:
        key = self._find_key(sha256)
        try:
            if self._files.info(key)["size"] == len(data):
                return
        except FileNotFoundError:
            pass
        self._files.pipe_file(key, data)

    def _find_key(self, sha256: str) -> str:
        return f"{self.url.removeprefix('s3://')}/{sha256[:2]}/{sha256}"

    def _request(self, ask: Callable[[Any], _Answer], items: Iterable[Any]) -> list[_Answer]:
        from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError

        try:
            with ThreadPoolExecutor(_REQUEST_CONCURRENCY) as pool:
                return list(pool.map(ask, items))
        except FileNotFoundError as error:
            raise StoreError(f"{self.url} has no {error}. Check the bucket and ORIGINALS_URL.") from error
        except PermissionError as error:
            raise StoreError(f"{self.url} may not be used ({error}). Check the AWS credentials.") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise SettingsError(
                f"{self.url} in ORIGINALS_URL needs the keys of its owner. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or write both into ~/.aws/credentials."
            ) from error
        except (BotoCoreError, OSError) as error:
            raise StoreUnavailable(f"{self.url} cannot be reached just now ({error}).") from error


# --check: whether files can be kept in their place. The file written to find out is removed.

_MIN_FREE = 2**30  # bytes: a few hundred photographs
_PROBE = b"image search --check"  # no image, so the original of none


def check_originals(originals: Originals | None) -> Finding:
    """Where the original files are and whether more of them can be kept there. None: in the database."""
    if originals is None:
        return Finding("originals", True, "in the database")
    if isinstance(originals, FolderOriginals):
        found = check_folder("originals", originals.folder, "ORIGINALS_URL")
        is_reference = isinstance(originals, ReferencedOriginals)
        return replace(found, what=f"left where they are; uploads: {found.what}") if is_reference else found
    sha256 = hashlib.sha256(_PROBE).hexdigest()
    try:
        originals.write({sha256: _PROBE})
        is_whole = originals.read(sha256) == _PROBE
        originals.delete([sha256])
    except (StoreError, SettingsError) as error:
        return Finding("originals", False, f"{originals} cannot be used", str(error))
    if not is_whole:
        return Finding("originals", False, f"{originals} gives back other bytes", "Use another bucket.")
    return Finding("originals", True, f"{originals}, readable and writable")


def check_folder(name: str, folder: Path, setting: str) -> Finding:
    """Whether files can be read and written in a folder, and the room on its disk. One not made yet is no fault."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path(folder.anchor))
    if not there.is_dir():
        return Finding(name, False, f"{there} is not a folder", f"Remove it, or correct {setting}.")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        remedy = f"Give this user the right to read and write {there}, or set {setting} to another place."
        return Finding(name, False, f"{there} cannot be read and written", remedy)
    free = shutil.disk_usage(there).free
    what = f"{folder}{'' if there == folder else ' (made when it is needed)'}, {free / 2**30:,.1f} GiB free"
    if free < _MIN_FREE:
        return Finding(name, False, what, f"Free some room, or set {setting} to a larger disk.")
    return Finding(name, True, what)
