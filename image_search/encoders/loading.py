"""Weights into a network, or a refusal: a network that is served has all of its weights and no others' memory."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from image_search.encoders.checkpoint import Checkpoint
from image_search.encoders.hub import set_hub_environment
from image_search.errors import ModelUnavailable

_SENTENCEPIECE_FILES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")


def import_transformers() -> Any:
    """transformers without its progress bars, advice and telemetry."""
    set_hub_environment()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def load_network(checkpoint: Checkpoint, optional_part: str = "") -> torch.nn.Module:
    """Load the network by AutoModel: float32, on the CPU, ready for inference.

    optional_part: a part that is taken out again when the checkpoint has no weights for it.
    Raises ModelUnavailable when weights are missing or do not fit.
    """
    transformers = import_transformers()
    if "auto_map" in checkpoint.config:
        patch_legacy_transformers(transformers)
    _refuse_pointer_files(checkpoint)
    network, report = transformers.AutoModel.from_pretrained(
        checkpoint.folder, trust_remote_code=checkpoint.remote_code, output_loading_info=True
    )
    missing = set(report["missing_keys"])
    if type(network).__module__.startswith("transformers_modules"):
        network = _rebuild(network, checkpoint.folder, missing)
    lacking = missing & {name for name, _ in network.named_parameters()}
    if optional_part and any(name.startswith(optional_part + ".") for name in lacking):
        setattr(network, optional_part, None)
        lacking &= {name for name, _ in network.named_parameters()}
    refuse_incomplete(checkpoint, lacking, [row[0] for row in report["mismatched_keys"]])
    return finish(network)


def finish(network: torch.nn.Module) -> torch.nn.Module:
    """float32 whatever the checkpoint was saved in, dropout off, no gradients."""
    return network.float().eval().requires_grad_(False)


def refuse_incomplete(checkpoint: Checkpoint, missing: Iterable[str], mismatched: Iterable[str] = ()) -> None:
    """Raise ModelUnavailable when weights are missing or have another shape."""
    missing, mismatched = sorted(missing), sorted(mismatched)
    if missing or mismatched:
        what = f"lacks {len(missing)}" if missing else f"has another shape in {len(mismatched)}"
        raise ModelUnavailable(
            f"{checkpoint.name} {what} of the weights its configuration asks for (such as "
            f"{(missing + mismatched)[0]}). Download {checkpoint.folder} again, or choose another EMBEDDING_MODEL."
        )


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by the names in its files, read from the disk only where they are looked at."""
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    if not tensors:
        for path in sorted(folder.glob("pytorch_model*.bin")):
            tensors.update(torch.load(path, map_location="cpu", mmap=True, weights_only=True))
    return tensors


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer by AutoTokenizer. Raises ModelUnavailable when it needs sentencepiece, which is not installed."""
    folder = checkpoint.folder
    names = {path.name for path in folder.iterdir()}
    is_sentencepiece = "tokenizer.json" not in names and not names.isdisjoint(_SENTENCEPIECE_FILES)
    if is_sentencepiece and importlib.util.find_spec("sentencepiece") is None:
        raise ModelUnavailable(f"The tokenizer of {checkpoint.name} needs a package: pip install sentencepiece")
    transformers = import_transformers()
    config = (
        json.loads((folder / "tokenizer_config.json").read_text("utf-8")) if "tokenizer_config.json" in names else {}
    )
    if config.get("tokenizer_class") == "TokenizersBackend":
        # Written by transformers 5, which renamed this class; both versions know it by the older name.
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=checkpoint.remote_code)


def _rebuild(network: Any, folder: Path, missing: set[str]) -> torch.nn.Module:
    """Build the network again with real memory and copy the weights over.

    transformers 5 builds networks without memory and fills in what the checkpoint holds. Code written before that
    makes tables (position ids, rotary angles) while it is built; they would be left as whatever the memory held.
    """
    stored = load_weights(folder).keys()
    buffers = {name for name, _ in network.named_buffers()}
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name not in missing and (name not in buffers or name in stored)
    }
    fresh: torch.nn.Module = type(network)(network.config)
    fresh.load_state_dict(state, strict=False)
    return fresh


def _refuse_pointer_files(checkpoint: Checkpoint) -> None:
    for path in (*checkpoint.folder.glob("*.safetensors"), *checkpoint.folder.glob("*.bin")):
        with path.open("rb") as file:
            if file.read(24) == b"version https://git-lfs.":
                raise ModelUnavailable(
                    f"{path} holds only a pointer to the weights. Run `git lfs pull` in {checkpoint.folder}."
                )


def patch_legacy_transformers(transformers: Any) -> None:
    """Restore two names that code on the hub still uses; harmless for other models."""
    from transformers import modeling_utils
    from transformers.utils import generic

    if not hasattr(modeling_utils, "ModelOutput"):
        modeling_utils.ModelOutput = generic.ModelOutput
    if not hasattr(transformers.PreTrainedModel, "all_tied_weights_keys"):
        transformers.PreTrainedModel.all_tied_weights_keys = {}
