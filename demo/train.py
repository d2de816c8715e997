"""Train the demo model from nothing on scenes drawn meanwhile: python -m demo.train [--minutes 95]

Stopped at any moment, it goes on from its last checkpoint when started again. The learning rate follows the time
spent, so that a run ends when it should on a fast and on a slow machine alike.
"""

import argparse
import math
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, VisionTextDualEncoderModel

from demo.augment import augment_pixels
from demo.concepts import load_concepts
from demo.evaluate import measure_quickly
from demo.losses import FactPrototypes, contrast, contrast_views, match_captions
from demo.network import DIMENSION, build_model, embed_pixels, embed_tokens, export_model, quieten_directions
from demo.pool import CAPTIONS, CLOSE_EDGE, EDGE, Pool, name_facts, start_drawing
from demo.tokenizer import train_tokenizer

CLOSE_SHARE = 0.105  # of the time goes to things seen close, which is cheap; the rest to whole scenes
CLOSE_BATCH = (256, 1)  # concepts, pictures of each
SCENE_BATCH = (32, 4)  # alike things in one batch make the place and the time matter
SECOND_VIEWS = 32
QUIETER = 0.2  # by how much place, time, weather and number count less in the end; chosen on a gallery of its own
ENOUGH_ROUNDS = 6  # scenes per concept to begin with; the pool goes on filling
REPORT_EVERY = 50
CLOSE_RATE, SCENE_RATE, TEXT_RATE, WARM_UP = 2.5e-3, 1.6e-3, 0.5, 0.03


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--minutes", type=float, default=95, help="training time, evaluations not counted (95)")
    parser.add_argument("--work", type=Path, default=Path("demo/work"), help="checkpoints and tokenizer (demo/work)")
    parser.add_argument("--export", type=Path, default=Path("demo/model"), help="where the result goes (demo/model)")
    parser.add_argument("--scenes", type=int, default=80, help="scenes kept per concept, 50 kB each (80)")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw (2)")
    parser.add_argument("--rest", type=float, default=0.012, help="seconds each rests per scene (0.012)")
    parser.add_argument("--threads", type=int, default=2, help="threads that train on a CPU (2)")
    parser.add_argument("--evaluate", type=float, default=10, help="minutes between evaluations (10)")
    return parser.parse_args()


def load_tokenizer(work: Path) -> PreTrainedTokenizerFast:
    folder = work / "tokenizer"
    if not folder.is_dir():
        train_tokenizer().save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


class Training:
    """The model and all that a checkpoint must hold."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, work: Path, minutes: float) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer, self.file, self.seconds = tokenizer, work / "checkpoint.pt", minutes * 60
        self.model: VisionTextDualEncoderModel = build_model(len(tokenizer))
        self.model = self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prototypes = FactPrototypes(name_facts(), DIMENSION).to(self.device)
        with torch.no_grad():
            self.model.logit_scale.fill_(math.log(14.0))
        groups = [
            {"params": [p for name, p in self.model.named_parameters() if not is_text(name)], "share": 1.0},
            {"params": [p for name, p in self.model.named_parameters() if is_text(name)], "share": TEXT_RATE},
            {"params": list(self.prototypes.parameters()), "share": 1.0, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=SCENE_RATE, betas=(0.9, 0.98), weight_decay=0.03)
        self.step, self.spent = 0, 0.0
        if self.file.is_file():
            self.restore()

    def restore(self) -> None:
        kept = torch.load(self.file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(kept["model"])
        self.prototypes.load_state_dict(kept["prototypes"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.step, self.spent = kept["step"], kept["spent"]
        print(f"going on at step {self.step}, {self.spent / 60:.1f} minutes", flush=True)

    def save(self) -> None:
        kept = {"step": self.step, "spent": self.spent, "model": self.model.state_dict()}
        kept |= {"prototypes": self.prototypes.state_dict(), "optimizer": self.optimizer.state_dict()}
        fresh = self.file.with_suffix(".new")
        torch.save(kept, fresh)
        fresh.replace(self.file)

    @property
    def is_close(self) -> bool:
        """Still in the first part, of things seen close."""
        return self.spent < CLOSE_SHARE * self.seconds

    def set_rate(self) -> float:
        """Each part has its own warm-up and its own cosine; the first ends at a tenth of its peak."""
        progress = min(1.0, self.spent / self.seconds)
        if self.is_close:
            progress, peak, floor = progress / CLOSE_SHARE, CLOSE_RATE, 0.1
        else:
            progress, peak, floor = (progress - CLOSE_SHARE) / (1 - CLOSE_SHARE), SCENE_RATE, 0.002
        rate = peak * min(progress / WARM_UP + 0.02, max(floor, 0.5 * (1 + math.cos(math.pi * progress))))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        return rate

    def learn(self, pool: Pool, chooser: torch.Generator) -> dict[str, float]:
        """One step on one batch; the losses come back."""
        slots = choose_slots(pool, chooser, CLOSE_BATCH if self.is_close else SCENE_BATCH)
        shown = pool.facts[slots].to(self.device).float()
        rows = torch.randint(0, CAPTIONS, (len(slots),), generator=chooser)
        tokens = pool.tokens[slots, rows].to(self.device).long()
        tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]
        mentioned = torch.zeros(len(slots), shown.shape[1] + 1, device=self.device)
        mentioned.scatter_(1, pool.mentioned[slots, rows].to(self.device).long() % mentioned.shape[1], 1)
        mentioned = mentioned[:, :-1]  # -1, "none", went to the last column
        pixels = pool.pixels[slots].to(self.device)
        views = augment_pixels(torch.cat((pixels, pixels[:: len(pixels) // SECOND_VIEWS])))
        with torch.autocast(self.device.type, torch.bfloat16):
            seen = embed_pixels(self.model, views)
            texts = embed_tokens(self.model, tokens)
        images, again = seen[: len(slots)], seen[len(slots) :]
        scale = self.model.logit_scale.exp().clamp(max=60)
        first = torch.cat((images[:: len(slots) // SECOND_VIEWS], _drop_every(images, len(slots) // SECOND_VIEWS)))
        losses = {
            "match": contrast(images, texts, match_captions(shown, mentioned), scale),
            "image": self.prototypes(images, shown, 0),
            "text": self.prototypes(texts, mentioned, 1),
            "views": contrast_views(first, again, scale),
        }
        loss = losses["match"] + 0.3 * losses["image"] + 0.3 * losses["text"] + 0.15 * losses["views"]
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}


def is_text(name: str) -> bool:
    """Whether a parameter of this name belongs to the text tower."""
    return name.startswith("text_")


def _drop_every(rows: torch.Tensor, step: int) -> torch.Tensor:
    return rows[torch.arange(len(rows), device=rows.device) % step != 0]


def choose_slots(pool: Pool, chooser: torch.Generator, shape: tuple[int, int]) -> torch.Tensor:
    """Slots of a few concepts with several scenes each, all of them drawn."""
    rounds = pool.count_rounds()
    number = len(load_concepts())
    concepts = torch.randperm(number, generator=chooser)[: shape[0]].repeat_interleave(shape[1])
    return concepts + number * torch.randint(0, rounds, concepts.shape, generator=chooser)


def fill_pool(
    tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace, edge: int
) -> tuple[Pool, list[BaseProcess]]:
    """A new pool with scenes enough to begin, and the processes that go on filling it."""
    pool = Pool.make(arguments.scenes, edge)
    drawing = start_drawing(pool, tokenizer, int(time.time()), arguments.workers, arguments.rest)
    while pool.count_rounds() < min(ENOUGH_ROUNDS, arguments.scenes):
        if not all(process.is_alive() for process in drawing):
            raise SystemExit("drawing failed: see the message above")
        time.sleep(1)
    return pool, drawing


def train_part(training: Training, pool: Pool, until: float, evaluate_every: float) -> None:
    """Train until so many seconds are spent, with a report now and then and a checkpoint every two minutes."""
    chooser = torch.Generator().manual_seed(training.step)
    saved = measured = time.monotonic()
    reported, sums = training.spent, dict[str, float]()
    training.model.train()
    while training.spent < until:
        began = time.monotonic()
        rate = training.set_rate()
        for name, value in training.learn(pool, chooser).items():
            sums[name] = sums.get(name, 0) + value / REPORT_EVERY
        training.spent += time.monotonic() - began
        if training.step % REPORT_EVERY == 0:
            pace = REPORT_EVERY / (training.spent - reported)
            shown = " ".join(f"{name} {value:.3f}" for name, value in sums.items())
            print(
                f"{training.spent / 60:6.1f} min step {training.step} rate {rate:.5f} {shown} {pace:.2f} steps/s",
                flush=True,
            )
            reported, sums = training.spent, {}
        if time.monotonic() - saved > 120:
            training.save()
            saved = time.monotonic()
        if time.monotonic() - measured > evaluate_every:
            print(measure_quickly(training.model, training.tokenizer), flush=True)
            measured = time.monotonic()
    training.save()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(arguments.work)
    training = Training(tokenizer, arguments.work, arguments.minutes)
    for edge, until in ((CLOSE_EDGE, CLOSE_SHARE), (EDGE, 1.0)):
        until *= training.seconds
        if training.spent < until:
            pool, drawing = fill_pool(tokenizer, arguments, edge)
            train_part(training, pool, until, arguments.evaluate * 60)
            for process in drawing:
                process.terminate()
    circumstances = [column for column, name in enumerate(name_facts()) if not name.startswith("object:")]
    quieten_directions(training.model, training.prototypes.directions[circumstances], QUIETER)
    print(measure_quickly(training.model, tokenizer), flush=True)
    export_model(training.model, tokenizer, arguments.export)


if __name__ == "__main__":
    main()
