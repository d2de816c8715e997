"""Which processor, and with how many bits."""

from __future__ import annotations

import torch

from image_search.errors import ModelUnavailable

# Below this a network is so quick that converting it, and its rounding, buys nothing.
WORTH_HALF_PRECISION = 50_000_000
LEAST_COSINE = 0.999
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(setting: str) -> torch.device:
    """The device for DEVICE auto, cpu or cuda. Raises ModelUnavailable when cuda is asked for and not there."""
    if setting == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if setting == "cuda":
        why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch finds no NVIDIA GPU"
        raise ModelUnavailable(f"DEVICE is cuda, but {why}. Set DEVICE to auto or cpu, or mend the installation.")
    return torch.device("cpu")


def choose_dtype(setting: str, device: torch.device, parameters: int) -> torch.dtype:
    """The number format for PRECISION auto, float32, bfloat16 or float16.

    Raises ModelUnavailable for float16 on a CPU, where it is five times slower than float32.
    """
    if setting == "float16" and device.type == "cpu":
        raise ModelUnavailable("PRECISION float16 needs a GPU. Set PRECISION to auto, float32 or bfloat16.")
    if setting != "auto":
        return DTYPES[setting]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if parameters >= WORTH_HALF_PRECISION and _cpu_computes_bfloat16() else torch.float32


def _cpu_computes_bfloat16() -> bool:
    # Emulated, bfloat16 is two to four times slower than float32.
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def suggest_batch_size(device: torch.device) -> int:
    """Pictures in a batch: on a CPU more than eight only fall out of the cache."""
    return 8 if device.type == "cpu" else 128
