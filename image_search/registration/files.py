"""Find the files to register, leaving out those ignored by default, by --exclude or by .imagesearchignore.

The patterns are those of .gitignore. An .imagesearchignore applies to its folder and all below it; one further down
wins over one further up, and --exclude over both. As in git, nothing below an ignored folder can be included again.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from unicodedata import normalize

from pathspec import GitIgnoreSpec

from image_search.errors import SettingsError, UnreadableImage
from image_search.file_kinds import (
    HEIF_SUFFIXES,
    JXL_SUFFIXES,
    RAW_SUFFIXES,
    SIDECAR_SUFFIXES,
    SNIFFED_BYTES,
    looks_like_image,
    may_hold_image,
)
from image_search.films import FILM_SUFFIXES
from image_search.images import list_image_suffixes, make_printable, read_file
from image_search.metadata.text import decode_text

_MAX_SUFFIX = 12  # characters; what is longer is no suffix but part of a name
_NAMED_KINDS = 5  # kinds of files that are named in one line
_PACKAGES = (
    (HEIF_SUFFIXES, "HEIC is read with pillow-heif: pip install -r requirements-formats.txt."),
    (JXL_SUFFIXES, "JPEG XL is read with pillow-jxl-plugin: pip install -r requirements-formats.txt."),
    (RAW_SUFFIXES, "RAW files of cameras are read with rawpy: pip install -r requirements-raw.txt."),
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be an image or a film. path: absolute. byte_size, modified_ns: as when it was found."""

    path: str
    byte_size: int
    modified_ns: int


@dataclass
class FileList:
    """files in the order they will be registered, and one sentence for everything that could not be looked at.

    unread: number of files of kinds that are not read, by suffix as it is written first; "" for other names.
    """

    files: list[FoundFile] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)


def find_files(
    paths: Sequence[str | os.PathLike[str]], shard: tuple[int, int] = (1, 1), exclude: Sequence[str] = ()
) -> FileList:
    """Find the files of folders once; see FileFinder.find."""
    return FileFinder(exclude).find(paths, shard)


class FileFinder:
    """Finds the files of folders, as often as it is asked to; a file is opened once to tell its kind.

    exclude: patterns as in .gitignore of what is passed over, besides _LEFT_OUT and what .imagesearchignore names.
    """

    def __init__(self, exclude: Sequence[str] = ()) -> None:
        self._exclude = exclude
        self._sniffed: dict[FoundFile, bool] = {}

    def find(self, paths: Sequence[str | os.PathLike[str]], shard: tuple[int, int] = (1, 1)) -> FileList:
        """The files named, and the images and films in the folders named, at any depth; each once, in order of names.

        In folders files count that have the suffix of an image or a film, or an unknown one and an image's first bytes;
        what begins with a dot is passed over, and a folder that links lead to twice is read once. A file that is named
        itself counts whatever its suffix. Raises SettingsError for a pattern of exclude that is none.

        shard: (number, count). Only this machine's share of the images in folders: every image falls to exactly
        one number from 1 to count, by its path below the folder, so that machines may see the folder at different
        places.
        """
        found = FileList()
        kinds = _KindCounter()
        seen: set[str] = set()
        for name in paths:
            top = locate(name)
            try:
                status = os.stat(top)
            except (OSError, ValueError) as error:
                found.failures.append(_explain(top, error))
                continue
            if not stat.S_ISDIR(status.st_mode):
                rules = _IgnoreRules.start(os.path.dirname(top), self._exclude)
                if top not in seen and not rules.is_ignored(top, is_folder=False):
                    seen.add(top)
                    found.files.append(FoundFile(top, status.st_size, status.st_mtime_ns))
                continue
            for entry in _walk(top, _IgnoreRules.start(top, self._exclude), found.failures):
                if entry.path in seen or not _is_in_shard(entry.path, top, shard):
                    continue
                seen.add(entry.path)
                self._take(entry, found, kinds)
        found.unread = kinds.counts
        return found

    def _take(self, entry: os.DirEntry[str], found: FileList, kinds: _KindCounter) -> None:
        suffix = os.path.splitext(entry.name)[1]
        is_known = suffix.lower() in list_image_suffixes() | FILM_SUFFIXES
        try:
            status = entry.stat()
        except OSError as error:
            if is_known:
                found.failures.append(_explain(entry.path, error))
            return
        file = FoundFile(entry.path, status.st_size, status.st_mtime_ns)
        if is_known or (stat.S_ISREG(status.st_mode) and self._holds_image(file, suffix.lower())):
            found.files.append(file)
        elif suffix.lower() not in SIDECAR_SUFFIXES and stat.S_ISREG(status.st_mode):
            kinds.add(suffix)

    def _holds_image(self, file: FoundFile, suffix: str) -> bool:
        if not may_hold_image(suffix):
            return False
        if file not in self._sniffed:
            try:
                with open(file.path, "rb") as content:
                    start = content.read(SNIFFED_BYTES)
                self._sniffed[file] = looks_like_image(start, suffix, list_image_suffixes())
            except OSError:
                return False
        return self._sniffed[file]


class _KindCounter:
    """Counts files by suffix, whatever its case, under the first spelling."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._spellings: dict[str, str] = {}

    def add(self, suffix: str) -> None:
        kept = suffix if 1 < len(suffix) <= _MAX_SUFFIX and suffix.isprintable() and " " not in suffix else ""
        spelling = self._spellings.setdefault(kept.lower(), kept)
        self.counts[spelling] = self.counts.get(spelling, 0) + 1


def describe_unread(unread: Mapping[str, int], other: str = "other") -> tuple[int, str]:
    """How many files of kinds that are not read, and which: (7, ".CR2 3, .jxl 1"); the most frequent first."""
    named = Counter({suffix: count for suffix, count in unread.items() if suffix}).most_common(_NAMED_KINDS)
    total = sum(unread.values())
    rest = total - sum(count for _, count in named)
    return total, ", ".join([f"{suffix} {count}" for suffix, count in named] + ([f"{other} {rest}"] if rest else []))


def suggest_packages(unread: Mapping[str, int]) -> str:
    """A sentence about the packages that read more of these kinds; "" when there is none."""
    kinds = {suffix.lower() for suffix in unread}
    return " ".join(sentence for suffixes, sentence in _PACKAGES if kinds & suffixes)


def locate(name: str | os.PathLike[str]) -> str:
    """The whole path of what a person names, which need not exist.

    ~ is the home folder unless a file has that name. A name that does not exist as it is written is taken for the one
    that is spelt the same in another form of Unicode, which file systems of macOS use.
    """
    text = os.fspath(name)
    if text.startswith("~") and not os.path.lexists(text):
        text = os.path.expanduser(text)
    path = os.path.abspath(text)
    if path.startswith("//"):  # kept by POSIX, and no other folder on any system with this separator
        path = f"/{path.lstrip('/')}"
    return path if path.isascii() or os.path.lexists(path) else _find_spelling(path)


def _find_spelling(path: str) -> str:
    drive, rest = os.path.splitdrive(path)
    place = drive + os.sep
    for part in filter(None, rest.split(os.sep)):
        name = part
        if not os.path.lexists(os.path.join(place, part)):
            try:
                alike = (
                    other for other in sorted(os.listdir(place)) if normalize("NFC", other) == normalize("NFC", part)
                )
                name = next(alike, "")
            except (OSError, ValueError):
                name = ""
        if not name:
            return path
        place = os.path.join(place, name)
    return place


def _walk(top: str, start: _IgnoreRules, failures: list[str]) -> Iterator[os.DirEntry[str]]:
    """The entries below a folder that are no folders themselves, in the order of names."""
    visited: set[tuple[int, int]] = set()
    folders = [(top, start)]
    while folders:
        folder, rules = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
            if any(entry.name == IGNORE_FILE for entry in entries):
                rules = rules.enter(folder)
        except OSError as error:
            failures.append(_explain(folder, error))
            continue
        except UnreadableImage as error:  # what must not be registered is not known
            failures.append(f"{make_printable(folder)} is passed over: {error}")
            continue
        below = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                failures.append(_explain(entry.path, error))
                continue
            if rules.is_ignored(entry.path, is_folder):
                continue
            if is_folder:
                below.append((entry.path, rules))
            else:
                yield entry
        folders += reversed(below)


def _is_in_shard(path: str, top: str, shard: tuple[int, int]) -> bool:
    number, count = shard
    if count == 1:
        return True
    below = os.path.relpath(path, top).replace(os.sep, "/")
    digest = hashlib.blake2b(os.fsencode(below), digest_size=8).digest()  # a CRC falls into patterns with 1.png, 2.png
    return int.from_bytes(digest, "big") % count == number - 1


def _explain(path: str, error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{make_printable(path)} cannot be read ({reason}). Check that it is there and that you may."


def is_film(path: str) -> bool:
    """Whether a file is read as a film, by its suffix."""
    return os.path.splitext(path)[1].lower() in FILM_SUFFIXES


def is_missing(path: str) -> bool:
    """Whether a path certainly does not exist; False where it cannot be looked at."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


# Files and folders that are passed over.

IGNORE_FILE = ".imagesearchignore"
# Folders that other programs keep beside images: thumbnails, trash and snapshots of storage systems, archives' rests.
# Those that begin with a dot (.Trash-1000, .git) are hidden and passed over in any case.
_LEFT_OUT = {
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "@sharebin", "@sharesnap", "~snapshot",
    "$recycle.bin", "recycler", "recycled", "lost+found", "system volume information", "network trash folder",
    "temporary items", "node_modules", "__macosx",
}  # fmt: skip
# Classes of characters, which git knows and pathspec does not.
_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "digit": "0-9", "lower": "a-z", "upper": "A-Z", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
warnings.filterwarnings("ignore", category=FutureWarning, module="pathspec")  # of a [ inside of brackets


@dataclass(frozen=True)
class _IgnoreRules:
    """The rules in force in one folder. levels: (folder, its patterns), the later before the earlier."""

    levels: tuple[tuple[str, GitIgnoreSpec], ...] = ()
    excluded: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    @classmethod
    def start(cls, top: str, exclude: Sequence[str] = ()) -> _IgnoreRules:
        """The rules of --exclude below a folder that was named. Raises SettingsError for what is no pattern."""
        if not exclude:
            return cls()
        # A shell writes out ~, and a person a whole path, where a pattern begins at the folder.
        below = f"{normalize('NFC', top).rstrip(os.sep)}{os.sep}"
        lines = []
        for line in exclude:
            mark, pattern = ("!", line[1:]) if line.startswith("!") else ("", line)
            lines.append(f"{mark}/{pattern.removeprefix(below)}" if pattern.startswith(below) else line)
        try:
            return cls(excluded=((top, _parse_patterns(lines)),))
        except (ValueError, re.error) as error:
            raise SettingsError(f"--exclude has what is no pattern ({error}). Write it as in .gitignore.") from error

    def enter(self, folder: str) -> _IgnoreRules:
        """The rules below a folder that has an .imagesearchignore. Raises UnreadableImage when it cannot be used."""
        path = os.path.join(folder, IGNORE_FILE)
        if os.path.isfile(path) and not os.path.getsize(path):
            return self
        text = _decode_patterns(read_file(path))
        try:
            spec = _parse_patterns(text.replace("\r\n", "\n").split("\n"))
        except (ValueError, re.error) as error:
            raise UnreadableImage(f"{make_printable(path)} has what is no pattern ({error}).") from error
        return _IgnoreRules((*self.levels, (folder, spec)), self.excluded)

    def is_ignored(self, path: str, is_folder: bool) -> bool:
        """Whether a file or folder of this folder is passed over."""
        for base, spec in (*reversed(self.excluded), *reversed(self.levels)):
            below = normalize("NFC", os.path.relpath(path, base)).replace(os.sep, "/")
            decision = _decide(spec, f"{below}/" if is_folder else below)
            if decision is not None:
                return decision
        return is_folder and os.path.basename(path).lower() in _LEFT_OUT


def _decode_patterns(content: bytes) -> str:
    """The lines of an ignore file. One that is not UTF-8 is taken both byte by byte and in its likely encoding."""
    try:
        if b"\0" not in content:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    said = decode_text(content)
    return said if b"\0" in content else content.decode("utf-8", "surrogateescape") + "\n" + said


def _decide(spec: GitIgnoreSpec, path: str) -> bool | None:
    # In pathspec a pattern that matches a folder (up to the group ps_d) matches all below it, too. Here folders are
    # walked, as by git: "!a" includes the folder a and nothing inside it.
    for pattern in reversed(spec.patterns):
        matches = pattern.regex.finditer(path) if pattern.regex else ()
        if any(match.groupdict().get("ps_d") is None or match.end() == len(path) for match in matches):
            return pattern.include
    return None


def _parse_patterns(lines: Sequence[str]) -> GitIgnoreSpec:
    # In git a/** matches everything inside a folder but not the folder, which pathspec matches, too.
    plain = (re.sub(r"\[:([a-z]+):\]", lambda match: _CLASSES.get(match[1], match[0]), line) for line in lines)
    return GitIgnoreSpec.from_lines(re.sub(r"/\*\*(/?)\s*$", r"/**/*\1", normalize("NFC", line)) for line in plain)
