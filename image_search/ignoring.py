"""Files and folders that a registration passes over: by default, by --exclude, and by .imagesearchignore.

The patterns are those of .gitignore. An .imagesearchignore speaks for its folder and all below it; one further down
comes before one further up, and --exclude before both. As in git nothing below a folder that is passed over can be
taken in again.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

from pathspec import GitIgnoreSpec

from image_search.errors import SettingsError, UnreadableImage
from image_search.images import make_printable, read_file
from image_search.metadata.text import decode_text

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
class IgnoreRules:
    """The rules in force in one folder. levels: (folder, its patterns), the later before the earlier."""

    levels: tuple[tuple[str, GitIgnoreSpec], ...] = ()
    excluded: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    @classmethod
    def start(cls, top: str, exclude: Sequence[str] = ()) -> IgnoreRules:
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
            return cls(excluded=((top, _parse(lines)),))
        except (ValueError, re.error) as error:
            raise SettingsError(f"--exclude has what is no pattern ({error}). Write it as in .gitignore.") from error

    def enter(self, folder: str) -> IgnoreRules:
        """The rules below a folder that has an .imagesearchignore. Raises UnreadableImage when it cannot be used."""
        path = os.path.join(folder, IGNORE_FILE)
        if os.path.isfile(path) and not os.path.getsize(path):
            return self
        text = _decode(read_file(path))
        try:
            spec = _parse(text.replace("\r\n", "\n").split("\n"))
        except (ValueError, re.error) as error:
            raise UnreadableImage(f"{make_printable(path)} has what is no pattern ({error}).") from error
        return IgnoreRules((*self.levels, (folder, spec)), self.excluded)

    def is_ignored(self, path: str, is_folder: bool) -> bool:
        """Whether a file or folder of this folder is passed over."""
        for base, spec in (*reversed(self.excluded), *reversed(self.levels)):
            below = normalize("NFC", os.path.relpath(path, base)).replace(os.sep, "/")
            decision = _decide(spec, f"{below}/" if is_folder else below)
            if decision is not None:
                return decision
        return is_folder and os.path.basename(path).lower() in _LEFT_OUT


def _decode(content: bytes) -> str:
    """The lines of an ignore file. Names are bytes: one that is no UTF-8 stands for itself, and for what it says."""
    try:
        if b"\0" not in content:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    said = decode_text(content)
    return said if b"\0" in content else content.decode("utf-8", "surrogateescape") + "\n" + said


def _decide(spec: GitIgnoreSpec, path: str) -> bool | None:
    # pathspec lets a pattern speak for all below a folder that it matches, which ends at the group ps_d. Here folders
    # are walked, as by git: "!a" takes in the folder a and nothing inside of it.
    for pattern in reversed(spec.patterns):
        matches = pattern.regex.finditer(path) if pattern.regex else ()
        if any(match.groupdict().get("ps_d") is None or match.end() == len(path) for match in matches):
            return pattern.include
    return None


def _parse(lines: Sequence[str]) -> GitIgnoreSpec:
    # In git a/** is what lies inside of a folder, without the folder itself, which pathspec matches, too.
    plain = (re.sub(r"\[:([a-z]+):\]", lambda match: _CLASSES.get(match[1], match[0]), line) for line in lines)
    return GitIgnoreSpec.from_lines(re.sub(r"/\*\*(/?)\s*$", r"/**/*\1", normalize("NFC", line)) for line in plain)
