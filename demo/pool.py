"""A pool of drawn scenes in shared memory: other processes keep replacing them while the training picks from it."""

import os
import random
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import PreTrainedTokenizerFast

from demo.backgrounds import PLACES, TIMES, WEATHERS
from demo.captions import Mention, choose_mention, list_facts, write_caption
from demo.concepts import load_concepts
from demo.places import draw_place
from demo.scenes import Scene, compose_scene, draw_scene
from demo.tokenizer import LONGEST

EDGE = 120  # pixels; the model sees MARGIN less, the rest is for moving the crop about
CLOSE_EDGE = 64  # the same things at the same scale, but one in a picture, and a picture costs a quarter
MARGIN = 8
GLYPH_DETAIL = 64
CAPTIONS = 10  # per scene
MAX_MENTIONED = 8
VARIETIES = 24  # drawn backgrounds per place, time and weather; each is also used mirrored
REDRAWN = 0.02  # how often a cached background gives way to a new one


def name_facts() -> list[str]:
    """The names of all facts; their order is that of the columns of the facts matrix."""
    named = [f"object:{concept}" for concept in load_concepts()]
    named += [f"place:{p}" for p in PLACES] + [f"time:{t}" for t in TIMES] + [f"weather:{w}" for w in WEATHERS]
    return [*named, "count:2", "count:3"]


@dataclass
class Pool:
    """`scenes_per_concept` slots for every concept; slot i always shows concept i modulo the number of concepts."""

    pixels: torch.Tensor  # (slots, edge, edge, 3) uint8
    facts: torch.Tensor  # (slots, facts) uint8, 1 = true of the scene
    tokens: torch.Tensor  # (slots, CAPTIONS, LONGEST) int16, 0 = padding
    mentioned: torch.Tensor  # (slots, CAPTIONS, MAX_MENTIONED) int16, numbers of facts, -1 = none
    drawn: torch.Tensor  # (slots,) uint8, 1 = there is a scene

    def count_rounds(self) -> int:
        """How many scenes of every concept are drawn, counted from the first slot on."""
        missing = (self.drawn == 0).nonzero()
        return (int(missing[0]) if len(missing) else len(self.drawn)) // len(load_concepts())

    @classmethod
    def make(cls, scenes_per_concept: int, edge: int) -> "Pool":
        slots = scenes_per_concept * len(load_concepts())
        pool = cls(
            torch.zeros(slots, edge, edge, 3, dtype=torch.uint8),
            torch.zeros(slots, len(name_facts()), dtype=torch.uint8),
            torch.zeros(slots, CAPTIONS, LONGEST, dtype=torch.int16),
            torch.full((slots, CAPTIONS, MAX_MENTIONED), -1, dtype=torch.int16),
            torch.zeros(slots, dtype=torch.uint8),
        )
        for tensor in vars(pool).values():
            tensor.share_memory_()
        return pool


def start_drawing(
    pool: Pool, tokenizer: PreTrainedTokenizerFast, seed: int, workers: int, rest: float
) -> list[BaseProcess]:
    """Fill the pool, then renew it endlessly, resting `rest` seconds per scene: the training needs the processor."""
    context = get_context("fork")
    started: list[BaseProcess] = []
    for worker in range(workers):
        process = context.Process(
            target=_draw_for_ever, args=(pool, tokenizer, seed, worker, workers, rest), daemon=True
        )
        process.start()
        started.append(process)
    return started


class _Backgrounds:
    """Drawn places, kept and now and then replaced; drawing one costs more than all the things in it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kept: dict[tuple[str, str, str, int], Image.Image] = {}

    def pick(self, scene: Scene) -> Image.Image:
        key = (scene.place, scene.time, scene.weather, scene.background_seed)
        if key not in self.kept or self.rng.random() < REDRAWN:
            fine = draw_place(*key[:3], self.rng.randrange(10**9), (2 * EDGE, 2 * EDGE))
            self.kept[key] = fine.resize((EDGE, EDGE), Image.Resampling.BOX)
        kept = self.kept[key]
        return ImageOps.mirror(kept) if self.rng.random() < 0.5 else kept


Drawn = tuple[Image.Image, tuple[str, ...], list[Mention]]


def _draw_whole(rng: random.Random, concept: str, backgrounds: _Backgrounds) -> Drawn:
    """A scene, its facts and what its captions are to mention."""
    scene = compose_scene(rng, concept, backgrounds=VARIETIES)
    image = draw_scene(scene, (EDGE, EDGE), backgrounds.pick(scene), GLYPH_DETAIL)
    return image, list_facts(scene), [choose_mention(rng, scene) for _ in range(CAPTIONS)]


def _draw_close(rng: random.Random, concept: str, backgrounds: _Backgrounds) -> Drawn:
    """One thing before a piece of a place; only the thing is a fact."""
    scene = compose_scene(rng, concept, others=(), backgrounds=VARIETIES)
    item = replace(scene.items[0], x=rng.uniform(0.42, 0.58), y=rng.uniform(0.42, 0.58), size=rng.uniform(0.42, 0.95))
    left, top = rng.randrange(EDGE - CLOSE_EDGE), rng.randrange(EDGE - CLOSE_EDGE)
    piece = backgrounds.pick(scene).crop((left, top, left + CLOSE_EDGE, top + CLOSE_EDGE))
    image = draw_scene(replace(scene, items=(item,)), (CLOSE_EDGE, CLOSE_EDGE), piece, GLYPH_DETAIL)
    mention = Mention((concept,))
    return image, mention.facts, [mention] * CAPTIONS


def _draw_for_ever(
    pool: Pool, tokenizer: PreTrainedTokenizerFast, seed: int, worker: int, workers: int, rest: float
) -> None:
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rng = random.Random(f"{seed} {worker}")
    concepts = list(load_concepts())
    columns = {name: column for column, name in enumerate(name_facts())}
    backgrounds = _Backgrounds(rng)
    slots = list(range(worker, len(pool.pixels), workers))
    parent = os.getppid()
    first_round = True
    os.nice(5)
    while True:
        for slot in slots:  # at first in order, so that the training can start on the slots there are
            draw = _draw_close if pool.pixels.shape[1] == CLOSE_EDGE else _draw_whole
            image, shown, mentions = draw(rng, concepts[slot % len(concepts)], backgrounds)
            facts = torch.zeros(len(columns), dtype=torch.uint8)
            facts[[columns[name] for name in shown]] = 1
            texts = [write_caption(rng, m, rng.choices(("ja", "en", "zh"), (46, 44, 10))[0]) for m in mentions]
            encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=LONGEST, return_tensors="np")
            mentioned = np.full((CAPTIONS, MAX_MENTIONED), -1, dtype=np.int16)
            for row, mention in enumerate(mentions):
                numbers = [columns[name] for name in mention.facts]
                mentioned[row, : len(numbers)] = numbers
            pool.pixels[slot] = torch.from_numpy(np.array(image))
            pool.facts[slot] = facts
            pool.tokens[slot] = torch.from_numpy(encoded["input_ids"].astype(np.int16))
            pool.mentioned[slot] = torch.from_numpy(mentioned)
            pool.drawn[slot] = 1
            if not first_round:
                time.sleep(rest)
                if os.getppid() != parent:
                    return
        first_round = False
        rng.shuffle(slots)
