"""Measure the demo model on scenes it was never trained on: python -m demo.evaluate [--model demo/model]

The first thing of every scene is in a combination of thing, place and time that training leaves out, and the seeds
are others. A hit is right when everything the query says is true of it.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, VisionTextDualEncoderModel

from demo.backgrounds import PLACES, TIMELESS, TIMES
from demo.captions import Mention, list_facts, write_caption
from demo.concepts import load_concepts
from demo.finish import finish_image
from demo.network import IMAGE_EDGE, embed_pixels, embed_tokens
from demo.scenes import Scene, compose_scene, draw_scene, is_held_out

Embeddings = npt.NDArray[np.float32]
EmbedImages = Callable[[Sequence[Image.Image]], Embeddings]
EmbedTexts = Callable[[Sequence[str]], Embeddings]
SEED = "evaluation"
BATCH = 50
LONGER_SIDE = 384


@dataclass(frozen=True)
class Query:
    """Words, what they mention, and the kind of query they are counted under."""

    kind: str
    text: str
    facts: frozenset[str]


def compose_gallery(number: int, seed: str = SEED) -> list[Scene]:
    """Held-out scenes in which the concepts come first evenly often."""
    rng = random.Random(seed)
    # A few concepts happen to have no combination that is held out.
    combinations = [(p, "" if p in TIMELESS else t) for p in PLACES for t in TIMES]
    concepts = [c for c in load_concepts() if any(is_held_out(c, *pair) for pair in combinations)]
    chosen = [concept for _ in range(number // len(concepts) + 1) for concept in rng.sample(concepts, len(concepts))]
    return [compose_scene(rng, concept, held_out=True) for concept in chosen[:number]]


def draw_picture(scene: Scene, rng: random.Random) -> Image.Image:
    """The scene at its own aspect, finished like a file from somewhere."""
    longer = max(scene.aspect)
    size = (LONGER_SIDE * scene.aspect[0] // longer, LONGER_SIDE * scene.aspect[1] // longer)
    return finish_image(draw_scene(scene, size), rng)


def embed_gallery(scenes: Sequence[Scene], embed: EmbedImages, seed: str) -> Embeddings:
    """Draw and embed in batches, so that the pictures never lie in memory together."""
    rows = []
    for start in range(0, len(scenes), BATCH):
        pictures = [
            draw_picture(s, random.Random(f"{seed} {start + i}")) for i, s in enumerate(scenes[start : start + BATCH])
        ]
        rows.append(embed(pictures))
    return np.concatenate(rows)


def write_queries(scenes: Sequence[Scene], seed: str = SEED) -> list[Query]:
    """One-object queries for every concept shown, composed and counting ones for the scenes; Japanese and English."""
    rng = random.Random(f"{seed} queries")
    queries = []
    for language in ("ja", "en"):
        for concept in sorted({c for scene in scenes for c in scene.concepts}):
            name = getattr(load_concepts()[concept], language)[0]
            alone = Mention((concept,))
            queries.append(Query(f"{language} one object, plain name", name, frozenset(alone.facts)))
            for kind, held_out in (("any wording", False), ("wording never trained with it", True)):
                text = write_caption(rng, alone, language, held_out)
                queries.append(Query(f"{language} one object, {kind}", text, frozenset(alone.facts)))
        for scene in scenes:
            first = scene.items[0].concept
            if scene.time:
                mention = Mention((first,), 0, scene.place, scene.time)
                text = write_caption(rng, mention, language)
                queries.append(Query(f"{language} object + place + time", text, frozenset(mention.facts)))
            if scene.count > 1:
                mention = Mention((first,), scene.count)
                text = write_caption(rng, mention, language)
                queries.append(Query(f"{language} counted objects", text, frozenset(mention.facts)))
            if len(scene.concepts) == 2:
                mention = Mention(scene.concepts)
                text = write_caption(rng, mention, language)
                queries.append(Query(f"{language} two objects", text, frozenset(mention.facts)))
    return queries


def find_first_right(scores: Embeddings, right: npt.NDArray[np.bool_]) -> int:
    """The rank, from 0, of the best right hit."""
    return int((scores > scores[right].max()).sum())


def rank_queries(
    queries: Sequence[Query], scenes: Sequence[Scene], gallery: Embeddings, embed: EmbedTexts
) -> list[int]:
    """For each query the rank of the first right hit."""
    shown = [frozenset(list_facts(scene)) for scene in scenes]
    ranks = []
    for start in range(0, len(queries), 200):
        part = queries[start : start + 200]
        for query, scores in zip(part, embed([q.text for q in part]) @ gallery.T, strict=True):
            ranks.append(find_first_right(scores, np.array([query.facts <= facts for facts in shown])))
    return ranks


def rank_views(gallery: Embeddings, again: Embeddings) -> list[int]:
    """For each scene seen again the rank of its first picture."""
    scores = again @ gallery.T
    return [int((row > row[index]).sum()) for index, row in enumerate(scores)]


def share_within(ranks: Sequence[int], first: int) -> float:
    return 100 * float(np.mean([rank < first for rank in ranks]))


def measure(scenes: Sequence[Scene], embed_images: EmbedImages, embed_texts: EmbedTexts) -> dict[str, list[int]]:
    """The ranks of the first right hits by kind of query, "picture to picture" among them."""
    gallery = embed_gallery(scenes, embed_images, f"{SEED} first")
    queries = write_queries(scenes)
    kinds: dict[str, list[int]] = {}
    for query, rank in zip(queries, rank_queries(queries, scenes, gallery, embed_texts), strict=True):
        kinds.setdefault(query.kind, []).append(rank)
    kinds["picture to picture, other light and crop"] = rank_views(
        gallery, embed_gallery(scenes, embed_images, f"{SEED} second")
    )
    return kinds


def format_table(kinds: dict[str, list[int]]) -> str:
    """A Markdown table of recalls at 1, 5 and 10 in per cent."""
    lines = ["| query | number | recall@1 | recall@5 | recall@10 |", "|---|---:|---:|---:|---:|"]
    for kind, ranks in kinds.items():
        shares = " | ".join(f"{share_within(ranks, first):.1f} %" for first in (1, 5, 10))
        lines.append(f"| {kind} | {len(ranks)} | {shares} |")
    return "\n".join(lines)


def measure_quickly(model: VisionTextDualEncoderModel, tokenizer: PreTrainedTokenizerFast, number: int = 400) -> str:
    """The table for a model in training, on a smaller gallery of other held-out scenes."""
    device = next(model.parameters()).device

    def embed_images(pictures: Sequence[Image.Image]) -> Embeddings:
        small = [p.resize((IMAGE_EDGE, IMAGE_EDGE), Image.Resampling.BICUBIC) for p in pictures]
        pixels = torch.from_numpy(np.stack([np.asarray(p) for p in small])).permute(0, 3, 1, 2).float() / 127.5 - 1
        return embed_pixels(model, pixels.to(device)).cpu().numpy()

    def embed_texts(texts: Sequence[str]) -> Embeddings:
        tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").input_ids
        return embed_tokens(model, tokens.to(device)).cpu().numpy()

    was_training = model.training
    model.eval()
    with torch.inference_mode():
        kinds = measure(compose_gallery(number, "while training"), embed_images, embed_texts)
    model.train(was_training)
    return format_table(kinds)


def main() -> None:
    from image_search.encoders import open_encoder
    from image_search.settings import Settings

    parser = argparse.ArgumentParser(description="Measure the demo model on scenes never trained on.")
    parser.add_argument(
        "--model", type=Path, default=Path(__file__).with_name("model"), help="checkpoint folder (demo/model)"
    )
    parser.add_argument("--scenes", type=int, default=1000, help="size of the gallery (1000)")
    arguments = parser.parse_args()
    encoder = open_encoder(Settings(embedding_model=str(arguments.model)))
    scenes = compose_gallery(arguments.scenes)
    concepts = len({concept for scene in scenes for concept in scene.concepts})
    print(f"{len(scenes)} scenes of {concepts} concepts, {encoder.name} {encoder.version}", file=sys.stderr)
    began = time.monotonic()
    print(format_table(measure(scenes, encoder.encode_images, encoder.encode_texts)))
    print(f"{time.monotonic() - began:.0f} s for drawing and measuring", file=sys.stderr)


if __name__ == "__main__":
    main()
