"""How fast is an encoder on this machine, and what do a batch, the number format and our preprocessing change?

Compares encode_images on 512-pixel pictures with the bare network on tensors that are ready, which is the limit.
The networks have the shapes of known models and random weights, which compute as fast as trained ones.

    python benchmarks/encoders.py [--images 32] [--models "CLIP ViT-B/32" ...]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from image_search.encoders.preprocessing import Preprocessing
from image_search.encoders.runner import DTYPES, Runner, choose_device, choose_dtype
from image_search.encoders.two_tower import TwoTowers, finish

# Width, layers, heads and patch of the tower for pictures.
SHAPES = {"CLIP ViT-B/32": (768, 12, 12, 32), "CLIP ViT-L/16": (1024, 24, 16, 16)}


def build_runner(shape: str, device: torch.device) -> Runner:
    from transformers import CLIPConfig, CLIPModel

    width, layers, heads, patch = SHAPES[shape]
    vision = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "patch_size": patch,
    }  # fmt: skip
    network = finish(CLIPModel(CLIPConfig(vision_config=vision, text_config={"num_hidden_layers": 1})))
    prepare = Preprocessing.standard(224, Image.Resampling.BICUBIC, (0.5,) * 3, (0.5,) * 3)
    return Runner(shape, TwoTowers(network, prepare, lambda _: {}), device)


def measure_rate(run: Callable[[int], object], batch: int, images: int) -> float:
    """Images a second, after one batch to warm up."""
    rounds = max(1, images // batch)
    run(batch)
    begin = time.perf_counter()
    for _ in range(rounds):
        run(batch)
    return rounds * batch / (time.perf_counter() - begin)


def measure(runner: Runner, pictures: list[Image.Image], batch: int) -> tuple[float, float]:
    pixels = torch.randn(batch, 3, 224, 224).to(runner.device, runner.dtype)

    def run_bare(_: int) -> object:
        with torch.inference_mode():
            return runner.towers.embed_pixels(pixels).float().cpu()

    ours = measure_rate(lambda count: runner.embed_images(pictures[:count]), batch, len(pictures))
    return ours, measure_rate(run_bare, batch, len(pictures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    given = parser.parse_args()
    device = choose_device("auto")
    numbers = np.random.default_rng(0)
    pictures = [Image.fromarray(numbers.integers(0, 256, (512, 512, 3), dtype=np.uint8)) for _ in range(given.images)]
    print(f"{device.type}, {torch.get_num_threads()} threads, {given.images} pictures of 512 x 512")
    print(f"{'model':15} {'numbers':9} {'batch':>5} {'images/s':>9} {'to batch 1 float32':>19} {'to bare network':>16}")
    for shape in given.models:
        best = choose_dtype("auto", device, sys.maxsize)
        first = None
        for precision in dict.fromkeys(("float32", str(best).removeprefix("torch."))):
            runner = build_runner(shape, device)
            runner.convert(DTYPES[precision])
            for batch in (1, runner.batch_size):
                ours, bare = measure(runner, pictures, batch)
                first = first or ours
                print(
                    f"{shape:15} {precision:9} {batch:5} {ours:9.1f} {ours / first:19.2f} {ours / bare:16.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
