"""Private names of other packages that this program uses, each in one module of ours.

A release that takes such a name away fails here, with its name, before anything else does.
"""

from __future__ import annotations

import importlib
import inspect
from importlib.util import find_spec
from pathlib import Path

import pytest

from image_search.settings import ROOT
from tests.fakes.absent import leave_out

HOOKS = {
    "ui/page.py": [
        "gradio.blocks:Block.async_move_resource_to_block_cache",
        "gradio.blocks:Blocks.has_launched",
        "gradio.processing_utils:async_ssrf_protected_get",
        "gradio.processing_utils:unsafe_download",
        "gradio.queueing:Queue.event_ids_to_events",
        "gradio.queueing:Queue.pending_event_ids_session",
        "gradio.queueing:Queue.pending_messages_per_session",
        "gradio.queueing:Queue.process_events",
        "gradio.queueing:Queue.sleep_when_free",
        "gradio.state_holder:SessionState.config_values",
        "gradio.state_holder:SessionState._update_config",
        "gradio.state_holder:SessionState._update_value_in_config",
        "gradio.state_holder:StateHolder.session_data",
        "gradio.state_holder:StateHolder.time_last_used",
        "safehttpx:async_validate_url",
        "safehttpx:get",
    ],
    "web/server.py": [
        "atexit:_run_exitfuncs",
        "uvicorn.protocols.http.h11_impl:H11Protocol.connections",
        "uvicorn.protocols.http.h11_impl:H11Protocol.cycle",
        "uvicorn.protocols.http.h11_impl:H11Protocol.on_response_complete",
        "uvicorn:Server.capture_signals",
        "uvicorn:Server.on_tick",
    ],
    "encoders/two_tower.py": ["transformers.utils.generic:ModelOutput"],
    "stores/milvus/client.py": [
        "milvus_lite.adapter.grpc.server:start_server_in_thread",
        "milvus_lite.exceptions:DataDirLockedError",
    ],
    "stores/redis/client.py": ["redis.lock:Lock.local"],
}


def has(module: object, names: list[str]) -> bool:
    """Whether a module has such a name, or a class such an attribute, which it may get when it is made."""
    owner = module
    for name in names[:-1]:
        owner = getattr(owner, name, None)
    if hasattr(owner, names[-1]):
        return True
    return inspect.isclass(owner) and any(
        f"self.{names[-1]}" in inspect.getsource(kind) for kind in owner.__mro__ if kind is not object
    )


@pytest.mark.parametrize(("ours", "hook"), [(ours, hook) for ours, hooks in HOOKS.items() for hook in hooks])
def test_name_that_is_hooked_into_is_there(ours: str, hook: str) -> None:
    place, _, name = hook.partition(":")
    package = place.partition(".")[0]
    if find_spec(package) is None:
        leave_out(f"{package} is not installed")
    assert has(importlib.import_module(place), name.split("."))
    assert name.split(".")[-1] in (ROOT / "image_search" / ours).read_text(encoding="utf-8")


def test_name_that_is_hooked_into_is_used_in_one_module() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "image_search").rglob("*.py")}
    private = {hook.rpartition(".")[2].rpartition(":")[2]: ours for ours, hooks in HOOKS.items() for hook in hooks}
    plain = {"get", "local", "connections", "cycle", "process_events", "on_tick"}  # words of our own as well
    offenders: list[tuple[Path, str]] = []
    for name, ours in private.items():
        others = [path for path, text in texts.items() if name in text and path != ROOT / "image_search" / ours]
        offenders += [(path, name) for path in others if name not in plain]
    assert not offenders
