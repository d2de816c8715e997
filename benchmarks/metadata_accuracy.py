"""How many of the stated values does image_search.metadata find? Compares with an expected.json beside the pictures.

    python benchmarks/metadata_accuracy.py FOLDER

FOLDER/expected.json maps a path below FOLDER to the values its own project states for it. Every project names them in
its own way (software, sampling.seed, negativePrompt, ...); FIELDS says how they are read here. Prints a table of hits
for each field, then each miss with both values.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from image_search.metadata import read_image_text
from image_search.metadata.sidecars import find_sidecars
from image_search.records import ImageText

# The names other projects give to the generators.
GENERATORS = {
    "sd-webui": "AUTOMATIC1111",
    "a1111": "AUTOMATIC1111",
    "forge-classic": "Forge Classic",
    "forge-neo": "Forge Neo",
    "easy-reforge": "EasyReforge",
    "sd-next": "SD.Next",
    "easydiffusion": "Easy Diffusion",
    "ruined-fooocus": "Ruined Fooocus",
    "hf-space": "Hugging Face Space",
    "stability-matrix": "Stability Matrix",
    "draw-things": "Draw Things",
    "openai": "ChatGPT",
    "google": "Gemini",
}


def as_text(value: Any) -> str:
    return "" if value is None else str(value)


def as_number(value: Any) -> float | None:
    return None if value is None else float(value)


def canonical_name(value: Any) -> str:
    return as_text(value.get("name") if isinstance(value, dict) else value)


# field: (paths in expected.json, how the expected value is read, our value)
FIELDS: dict[str, tuple[tuple[str, ...], Callable[[Any], Any], Callable[[ImageText], Any]]] = {
    "generator": (
        ("software", "generator", "tool"),
        lambda value: GENERATORS.get(value, value).lower(),
        lambda text: as_text(text.generator).lower(),
    ),
    "prompt": (("prompt", "positivePrompt"), as_text, lambda text: as_text(text.prompt)),
    "negative_prompt": (("negativePrompt", "negative_prompt"), as_text, lambda text: as_text(text.negative_prompt)),
    "model": (("model",), canonical_name, lambda text: as_text(text.generation_model)),
    "seed": (("sampling.seed", "seed"), as_text, lambda text: as_text(text.seed)),
    "steps": (("sampling.steps", "steps"), as_number, lambda text: as_number(text.steps)),
    "sampler": (("sampling.sampler", "sampler"), as_text, lambda text: as_text(text.sampler)),
    "cfg": (("sampling.cfg", "cfg", "cfgScale", "cfg_scale"), as_number, lambda text: as_number(text.cfg)),
    "width": (("width",), as_text, lambda text: as_text(text.generated_size).partition("x")[0]),
    "height": (("height",), as_text, lambda text: as_text(text.generated_size).partition("x")[2]),
    "parameters": (("parameters",), as_text, lambda text: as_text(text.generation_prompt)),
    "contains": (("contains",), as_text, lambda text: text),
}


def look_up(expected: dict[str, Any], paths: tuple[str, ...]) -> tuple[bool, Any]:
    """(whether a value is stated, the value) under the first of the paths that is there."""
    for path in paths:
        value: Any = expected
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            return True, value
    return False, None


def main(folder: Path) -> int:
    expectations = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    stated: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    misses = []
    for name, expected in expectations.items():
        path = folder / name
        text = read_image_text(path.read_bytes(), sidecars=find_sidecars(path))
        for field, (paths, read_expected, read_ours) in FIELDS.items():
            is_stated, value = look_up(expected, paths)
            if not is_stated:
                continue
            stated[field] += 1
            wanted, got = read_expected(value), read_ours(text)
            if wanted == got or (field == "contains" and wanted in as_text(text.generation_prompt)):
                hits[field] += 1
            else:
                misses.append(f"{name}: {field}: expected {wanted!r}, got {got!r}")
    print(f"{'field':16} hits  stated   ({len(expectations)} files)")
    for field in FIELDS:
        print(f"{field:16} {hits[field]:4} {stated[field]:6}")
    print(f"{'all':16} {hits.total():4} {stated.total():6}")
    print(*misses, sep="\n")
    return 1 if misses else 0


if __name__ == "__main__":
    if len(sys.argv) == 2:
        sys.exit(main(Path(sys.argv[1])))
    print(__doc__)  # make bench starts every program without arguments
