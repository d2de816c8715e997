"""Words to token ids: each family of models was trained on its own recipe, and a near miss is silently worse."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ftfy
import torch

Tokens = dict[str, torch.Tensor]


class Tokenize(Protocol):
    """The recipe of one family of models."""

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Token ids of texts, each tensor of shape (n, length)."""

    def is_too_long(self, text: str) -> bool:
        """Whether tokens of this text are cut off."""


@dataclass(frozen=True)
class HubTokens:
    """The tokenizer of the checkpoint.

    length:     longest query in tokens; the rest is cut off.
    fixed:      SigLIP's way: padded to `length`, no mask, lower-case. Its text tower reads the last position, padding
                or not, and was trained on lower-case text, which not every tokenizer file says.
    """

    tokenizer: Any
    length: int
    fixed: bool = False

    def __call__(self, texts: Sequence[str]) -> Tokens:
        if self.fixed:
            tokens = self.tokenizer(
                [text.lower() for text in texts],
                padding="max_length", max_length=self.length, truncation=True, return_tensors="pt",
            )  # fmt: skip
            return {"input_ids": tokens["input_ids"]}
        tokens = self.tokenizer(list(texts), padding=True, max_length=self.length, truncation=True, return_tensors="pt")
        # Token types are all zero for single sentences, which is every model's default, and not every model takes them.
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def is_too_long(self, text: str) -> bool:
        text = text.lower() if self.fixed else text
        return len(self.tokenizer(text, truncation=False, verbose=False)["input_ids"]) > self.length


class JapaneseTokens:
    """The recipe of Japanese Stable CLIP, read from its sentencepiece model.

    Not by the tokenizer of transformers: T5Tokenizer of transformers 5 maps unknown characters to </s> for this
    vocabulary, and no version applies the lower-casing that the vocabulary (which has no capitals) was made for.
    """

    LENGTH = 77
    BEGIN = 1  # <s>, and not [CLS] as in other Japanese CLIP models
    PADDING = 3  # [PAD]

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self._encode = encode

    @classmethod
    def from_folder(cls, folder: Path) -> JapaneseTokens:
        """Read spiece.model, or tokenizer.json where only that is there. Raises FileNotFoundError, ImportError."""
        for path in sorted(folder.glob("*.model")):
            from sentencepiece import SentencePieceProcessor

            return cls(SentencePieceProcessor(model_file=str(path)).encode)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"spiece.model is missing in {folder}")
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        return cls(lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids))

    def __call__(self, texts: Sequence[str]) -> Tokens:
        rows = [[self.BEGIN, *self._encode(clean_text(text))[: self.LENGTH - 1]] for text in texts]
        padded = [row + [self.PADDING] * (self.LENGTH - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (self.LENGTH - len(row)) for row in rows]
        # Left out, RoBERTa counts positions from padding_idx + 1, which is not what it was trained with.
        positions = torch.arange(self.LENGTH).repeat(len(rows), 1)
        return {
            "input_ids": torch.tensor(padded),
            "attention_mask": torch.tensor(mask),
            "position_ids": positions,
        }

    def is_too_long(self, text: str) -> bool:
        return len(self._encode(clean_text(text))) > self.LENGTH - 1


def clean_text(text: str) -> str:
    """Repair broken encodings and HTML entities, normalise spaces, lower the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip().lower()
