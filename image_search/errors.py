"""Every error a user can meet, each with one sentence: what happened, to which file or setting, what to do next.

ImageSearchError
├── SettingsError          a setting is missing, malformed or contradicts another
├── UnreadableImage        a file is not an image, is broken, or is too large to open safely
├── UnreadableFilm         a file is not a film, is broken or encrypted, or has no frame that can be decoded
├── FilmsUnavailable       the package that reads films is not installed
├── EncoderError           the embedding model cannot be used
│   ├── ModelUnavailable   it is missing, gated, incomplete or cannot be reached
│   └── TextNotSupported   words were given to a model that embeds images only
├── RecognizerUnavailable  text in images cannot be read: a package is missing or broken
└── StoreError             the database refused or cannot do what was asked
    ├── StoreUnavailable   it cannot be reached now; the same call may succeed later
    ├── SchemaError        its tables are missing or have another shape than this program needs
    ├── StoreFull          no room is left for more
    ├── ImageNotFound      no image has this id
    ├── OriginalMissing    the original file of an image is not where the library keeps it
    ├── ContentKnown       another image has this content already
    └── EmbeddingRefused   an embedding has the wrong dimension, is not finite or has no length
"""

import re

# Control characters but tab and line feed, and marks that turn the direction of what follows.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape_controls(text: str, in_json: bool = False) -> str:
    """Text with what a terminal would obey (a file's name may hold it) written as \\x1b, \\u202e and so on.

    in_json: as \\u001b, which means the same in the strings of JSON.
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}" if in_json else ascii(match.group())[1:-1], text)


class ImageSearchError(Exception):
    """Base of all errors this package raises on purpose; str(error) is ready to be shown to a user."""

    def __str__(self) -> str:
        return escape_controls(super().__str__())


class SettingsError(ImageSearchError):
    """A setting is missing, malformed or contradicts another."""


class UnreadableImage(ImageSearchError):
    """A file is not an image, is broken, or is too large to open safely."""


class UnreadableFilm(ImageSearchError):
    """A file is not a film, is broken or encrypted, or has no frame that can be decoded."""


class FilmsUnavailable(ImageSearchError):
    """The package that reads films is not installed."""


class EncoderError(ImageSearchError):
    """The embedding model cannot be used."""


class ModelUnavailable(EncoderError):
    """The embedding model is missing, gated, incomplete or cannot be reached.

    code: the reason as a key of the page's messages (model_error_...), "" for one that has no text of its own.
    """

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


class TextNotSupported(EncoderError):
    """Words were given to a model that embeds images only."""


class RecognizerUnavailable(ImageSearchError):
    """Text in images cannot be read: a package is missing or broken."""


class StoreError(ImageSearchError):
    """The database rejected an operation or cannot do it."""


class StoreUnavailable(StoreError):
    """The database cannot be reached now; the same call may succeed later."""


class SchemaError(StoreError):
    """The tables are missing or have another shape than this program needs."""


class StoreFull(StoreError):
    """No room is left for more images."""


class ImageNotFound(StoreError):
    """No image has this id."""


class OriginalMissing(StoreError):
    """The original file of an image is not where the library keeps it."""


class ContentKnown(StoreError):
    """Another image, live or in the trash, has this content already."""


class EmbeddingRefused(StoreError):
    """An embedding has the wrong dimension, is not finite or has no length."""
