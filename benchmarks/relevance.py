"""Does "nothing stands out" come true? Relevance without labels, against thresholds that were chosen with them.

A library of demo scenes shows half of the concepts; the queries ask for all of them: by words, by a picture, and by a
picture with words. So about half of the queries by one thing have no right answer, and most of the mixed ones have
none. A hit is right when everything the query says is true of it.

The two rivals see the answers first: the best fixed cut-off on the inner product, and the best cut-off on the plain
z-score, each chosen for these very queries. Ours uses the code of the page; its few constants were chosen with the
library of one seed, so that another seed shows what they are worth.

    python benchmarks/relevance.py [--scenes 800] [--seed another]
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from demo.captions import Mention, list_facts, write_caption  # noqa: E402
from demo.concepts import load_concepts  # noqa: E402
from demo.evaluate import draw_picture  # noqa: E402
from demo.scenes import PLACES, Scene, compose_scene  # noqa: E402
from image_search.encoders import open_encoder  # noqa: E402
from image_search.encoders.base import Embeddings, Encoder  # noqa: E402
from image_search.search.query import QueryVector, blend_embeddings  # noqa: E402
from image_search.search.relevance import (  # noqa: E402
    SAMPLE_SIZE,
    compute_match_threshold,
    compute_relevance,
    compute_relevance_threshold,
    measure_reference_scores,
)
from image_search.search.tagging import Tagger  # noqa: E402
from image_search.settings import Settings  # noqa: E402

LISTED = 48  # hits of each query that are judged: three pages
OURS = "ours, no labels"
KINDS = ("words", "picture", "picture + words")
Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """A query, its kind, and what must be true of a right hit."""

    kind: str
    blend: QueryVector
    facts: frozenset[str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare relevance with the best fixed cut-offs.")
    parser.add_argument("--scenes", type=int, default=800, help="size of the library (800)")
    parser.add_argument("--seed", default="relevance", help="another word draws another library and other queries")
    arguments = parser.parse_args()
    encoder = open_encoder(Settings(embedding_model=str(ROOT / "demo" / "model")))
    rng = random.Random(arguments.seed)
    concepts = sorted(load_concepts())
    shown = rng.sample(concepts, len(concepts) // 2)
    places = rng.sample(PLACES, len(PLACES) * 2 // 3)
    scenes = [compose_library_scene(rng, shown, places) for _ in range(arguments.scenes)]
    library = embed_scenes(encoder, scenes, "library")
    queries = write_queries(encoder, rng, concepts)
    facts = [frozenset(list_facts(scene)) for scene in scenes]
    right = np.array([[query.facts <= known for known in facts] for query in queries])
    print(f"Model {encoder.name} {encoder.version}, seed {arguments.seed}")
    compare_methods(library, queries, right, Tagger(encoder).embeddings)


def compare_methods(library: Embeddings, queries: Sequence[Labelled], right: Flags, tags: Embeddings) -> None:
    """Print both tables. right: which of the library's pictures answers which query."""
    blends = [query.blend for query in queries]
    scores = np.stack([blend.embedding for blend in blends]) @ library.T
    sample = library[np.random.default_rng(0).permutation(len(library))[:SAMPLE_SIZE]]
    background = measure_reference_scores(sample, tags)
    assert background is not None
    own = np.stack([blend.embedding for blend in blends]) @ sample.T
    evidence = np.stack([compute_relevance(background, blend, row) for blend, row in zip(blends, scores, strict=True)])
    rivals = {
        "fixed cut-off, best": scores.astype(np.float64),
        "z-score, best": (scores - own.mean(axis=1, keepdims=True)) / own.std(axis=1, keepdims=True),
    }
    kinds = np.array([query.kind for query in queries])
    answered = right.any(axis=1)
    count = len(library)
    print(f"{count} scenes; queries: " + ", ".join(f"{(kinds == kind).sum()} by {kind}" for kind in KINDS))
    print(f"{answered.mean():.0%} of them have a right answer\n")
    matches = evidence / np.array([[compute_match_threshold(blend, count)] for blend in blends])
    lines = evidence / np.array([[compute_relevance_threshold(blend, count)] for blend in blends])
    print_table("There is a match", rivals | {OURS: matches}, None, kinds, answered, right)
    print_table("The line", rivals | {OURS: lines}, matches, kinds, answered, right)


def compose_library_scene(rng: random.Random, concepts: Sequence[str], places: Sequence[str]) -> Scene:
    first = rng.choice(concepts)
    others = tuple(rng.choice(concepts) for _ in range(rng.choices((0, 1, 2), (50, 33, 17))[0]))
    return compose_scene(rng, first, others=others, place=rng.choice(places))


def embed_scenes(encoder: Encoder, scenes: Sequence[Scene], seed: str) -> Embeddings:
    rows = []
    for start in range(0, len(scenes), 50):
        pictures = [
            draw_picture(scene, random.Random(f"{seed} {start + place}"))
            for place, scene in enumerate(scenes[start : start + 50])
        ]
        rows.append(encoder.encode_images(pictures))
        print(f"\r{min(start + 50, len(scenes))} of {len(scenes)} pictures drawn", end="", file=sys.stderr)
    print(file=sys.stderr)
    return np.concatenate(rows)


def write_queries(encoder: Encoder, rng: random.Random, concepts: Sequence[str]) -> list[Labelled]:
    """Each concept by its name in both languages, by a caption, with a place, as a picture, and as one with words."""
    wanted: list[tuple[str, frozenset[str]]] = []
    for language in ("ja", "en"):
        for concept in concepts:
            alone = Mention((concept,))
            placed = Mention((concept,), 0, rng.choice(PLACES))
            wanted.append((getattr(load_concepts()[concept], language)[0], frozenset(alone.facts)))
            wanted += [(write_caption(rng, mention, language), frozenset(mention.facts)) for mention in (alone, placed)]
    words = encoder.encode_texts([text for text, _ in wanted])
    queries = [Labelled("words", _blend([row], []), facts) for row, (_, facts) in zip(words, wanted, strict=True)]

    scenes = [compose_scene(rng, concept, others=()) for concept in concepts]
    mentions = [Mention((), 0, rng.choice(PLACES)) for _ in scenes]
    added = encoder.encode_texts([write_caption(rng, mention, "ja") for mention in mentions])
    for scene, picture, mention, text in zip(
        scenes, embed_scenes(encoder, scenes, "query"), mentions, added, strict=True
    ):
        thing = Mention(scene.concepts[:1]).facts
        queries.append(Labelled("picture", _blend([], [picture]), frozenset(thing)))
        queries.append(Labelled("picture + words", _blend([text], [picture]), frozenset((*thing, *mention.facts))))
    return queries


def print_table(
    title: str,
    methods: dict[str, Numbers],
    ours: Numbers | None,
    kinds: npt.NDArray[np.str_],
    answered: Flags,
    right: Flags,
) -> None:
    """precision / recall, and the mean of recall on both sides (match) or F1 (line), for all queries and by kind.

    ours: for the line, our judgement of a match, 1 and more; where nothing matches, all of a list is below its line.
    """
    print(f"| {title} | all queries | " + " | ".join(KINDS) + " |\n|---|---|" + "---|" * len(KINDS))
    for name, values in methods.items():
        order = np.argsort(-values, axis=1)[:, :LISTED]
        best = np.take_along_axis(values, order[:, :1], 1)
        threshold = 1.0 if name == OURS else choose_threshold(best[:, 0], answered, False)
        truth, judged = answered[:, None], best
        if ours is not None:
            is_match = best >= threshold if name != OURS else np.take_along_axis(ours, order[:, :1], 1) >= 1
            judged = np.where(is_match, np.take_along_axis(values, order, 1), -np.inf)
            truth = np.take_along_axis(right, order, 1)
            if name != OURS:
                threshold = choose_threshold(judged[np.isfinite(judged)], truth[np.isfinite(judged)], True)
        cells = []
        for kind in ("all", *KINDS):
            rows = np.ones(len(kinds), bool) if kind == "all" else kinds == kind
            said, true = judged[rows] >= threshold, np.broadcast_to(truth[rows], judged[rows].shape)
            precision, recall, mark = measure(said, true, ours is not None)
            cells.append(f"{precision:.2f} / {recall:.2f} · **{mark:.3f}**")
        chosen = "" if name == OURS else f" ({threshold:.2f})"
        print(f"| {name}{chosen} | " + " | ".join(cells) + " |")
    print()


def choose_threshold(values: Numbers, truth: Flags, line: bool) -> float:
    """The cut-off with the best mark, found with the answers in hand."""
    candidates = np.quantile(values, np.linspace(0, 1, 400))
    return float(max(candidates, key=lambda candidate: measure(values >= candidate, truth, line)[2]))


def measure(said: Flags, true: Flags, line: bool) -> tuple[float, float, float]:
    """Precision, recall, and F1 for the line or balanced accuracy for a match."""
    right = float((said & true).sum())
    precision, recall = right / max(float(said.sum()), 1.0), right / max(float(true.sum()), 1.0)
    if line:
        return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)
    refused = float((~said & ~true).sum()) / max(float((~true).sum()), 1.0)
    return precision, recall, (recall + refused) / 2


def _blend(words: list[Embeddings], pictures: list[Embeddings]) -> QueryVector:
    blend = blend_embeddings(words, pictures, [])
    assert blend is not None
    return blend


if __name__ == "__main__":
    main()
