"""The list of models and what docs/models.md says of it."""

from __future__ import annotations

import re

from image_search.encoders.checkpoint import FAMILIES, KNOWN_MODELS, RECOMMENDED, KnownModel
from image_search.settings import ROOT

DOCUMENT = ROOT / "docs" / "models.md"


def describe(model: KnownModel) -> list[str]:
    needs = [word for word, is_needed in (("page", model.gated), ("code", model.remote_code)) if is_needed]
    words = "yes" if FAMILIES[model.family].supports_text else "no"
    link = f"[{model.repo}](https://huggingface.co/{model.repo})"
    return [link, str(model.dimension), words, model.licence, " and ".join(needs) or "nothing"]


def test_document_lists_every_known_model_as_it_is() -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| [")]
    assert rows == [describe(model) for model in KNOWN_MODELS.values()]


def test_recommended_model_is_open_understands_words_and_brings_no_code() -> None:
    model = KNOWN_MODELS[RECOMMENDED]
    assert not model.gated
    assert not model.remote_code
    assert FAMILIES[model.family].supports_text
    assert model.licence == "Apache-2.0"


def test_every_family_has_its_loader() -> None:
    for family in FAMILIES.values():
        assert f"def {family.loader}(" in (ROOT / "image_search" / "encoders" / "two_tower.py").read_text(
            encoding="utf-8"
        )


def test_pinned_revision_is_a_whole_commit() -> None:
    for model in KNOWN_MODELS.values():
        assert re.fullmatch(r"([0-9a-f]{40})?", model.revision)
