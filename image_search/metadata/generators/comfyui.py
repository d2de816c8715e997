"""ComfyUI: the graph that was run ("prompt"), or the one that was drawn ("workflow") where only that is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from image_search.metadata.generators.comfyui_graph import MAX_DEPTH, MAX_VISITS, Graph, Node, convert_workflow
from image_search.metadata.generators.generation import (
    Generation,
    as_name,
    as_number,
    as_seed,
    as_size,
    as_steps,
    fill_gaps,
    read_automatic1111,
)
from image_search.metadata.text import Fields, load_object

# The words of a ComfyUI graph: from a sampler's "positive" or "negative" up to the nodes they were typed into.
#
# Custom nodes are without number, so nothing here lists them all: an input whose name says text holds words or leads
# to words, one whose name says conditioning leads further up. Only nodes that break this rule are named.

_TEXT_INPUT = re.compile(
    r"(?:(?:positive|negative|pos|neg|populated|wildcard|base|global|local|input|style|opt)_?)?"
    r"(?:text|prompt|string|str)s?_?(?:positive|negative|pos|neg|input|multiline|[a-z]|\d{1,2})?"
    r"|clip_[lgh]|t5xxl|t5|llama|bert|mt5xl|tags|value|positive|negative|part_?\d{1,2}|any_?\d{1,2}|text_[a-z0-9]+",
    re.IGNORECASE,
)
_CONDITIONING_INPUT = re.compile(
    r".*(?:cond|guider|embeds|pipe|tuple|context)[a-z_]*\d*|any_?\d{0,2}|input|source|value|noise_prediction|on_true|on_false|\*?",
    re.IGNORECASE,
)
_BOTH_ROLES_INPUT = re.compile(r".*(?:embeds|pipe|tuple|context)[a-z_]*\d*|neg\w*|uncond\w*", re.IGNORECASE)
_SWITCH = re.compile(r"[\w ()-]{0,40}Switch[\w ()-]{0,40}")
_NUMBERED = re.compile(r"[A-Za-z_]{1,30}?(\d{1,2})")
_SILENT = re.compile(r"ConditioningZeroOut|TextGenerate|.*(?:LLM|Ollama|Florence|Interrogat|Tagger|Caption).*")
_PLAIN_CLASSES = re.compile(r".*(?:Encode|Conditioning|Apply).*")


def find_words(graph: Graph, node: Node, role: str) -> str:
    """The words behind an input of this node; role is "positive" or "negative". "" where there are none."""
    walk = _Walk(graph, role)
    texts = walk.read_input(node.inputs.get(role))
    if not texts:
        # An input named conditioning at the sampler itself is the positive one; a pipe or a tuple carries both.
        leads_on = _CONDITIONING_INPUT if role == "positive" else _BOTH_ROLES_INPUT
        texts = [text for name in node.inputs if leads_on.fullmatch(name) for text in walk.read_named(node, name)]
    return _join(texts)


def _join(texts: list[str]) -> str:
    """Texts on lines of their own, each once; one alone stays as it was typed."""
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    return distinct[0] if len(distinct) == 1 else "\n".join(text.strip() for text in distinct)


class _Walk:
    """One walk for one role; a node is read once, so that cycles and shared parts end."""

    def __init__(self, graph: Graph, role: str) -> None:
        self.graph = graph
        self.opposite = "neg" if role == "positive" else "pos"
        self.role = role
        self.seen: set[str] = set()

    def read_input(self, value: Any, depth: int = 0) -> list[str]:
        if isinstance(value, str):
            return [value] if value.strip() else []
        node = self.graph.follow(value)
        if node is None or node.key in self.seen or depth > MAX_DEPTH or len(self.seen) > MAX_VISITS:
            return []
        self.seen.add(node.key)
        return self._read_node(node, depth + 1)

    def read_named(self, node: Node, name: str, depth: int = 0) -> list[str]:
        """Words behind an input by its name, unless the name belongs to the other role."""
        return [] if self.opposite in name.lower() else self.read_input(node.inputs[name], depth)

    def _read_node(self, node: Node, depth: int) -> list[str]:
        if _SILENT.fullmatch(node.kind):
            return []
        if node.kind == "ComfySwitchNode":
            chosen = self.graph.find_value(node, "switch") is not False
            branches = ("on_true", "on_false") if chosen else ("on_false", "on_true")
            return next((found for name in branches if (found := self.read_input(node.inputs.get(name), depth))), [])
        if _SWITCH.fullmatch(node.kind) and (name := self._choose(node)):
            return self.read_input(node.inputs[name], depth)
        if node.inputs.get("populated_text"):  # wildcards as they were drawn, beside the pattern
            return self.read_input(node.inputs["populated_text"], depth)
        texts: list[str] = []
        for name in node.inputs:
            if _TEXT_INPUT.fullmatch(name) and name != "text_0":
                texts += self.read_named(node, name, depth)
        if not texts and isinstance(node.inputs.get("text_0"), str):  # a node that shows text keeps what it showed
            texts = [node.inputs["text_0"]]
        if texts and not _PLAIN_CLASSES.fullmatch(node.kind):
            texts = [self._concatenate(node, texts)]
        if self.role in node.inputs and texts:
            return texts
        before: list[str] = []  # an area or a box adds its words to those of the nodes it is made from
        for name in node.inputs:
            if _CONDITIONING_INPUT.fullmatch(name) and not _TEXT_INPUT.fullmatch(name):
                before += self.read_named(node, name, depth)
        return before + texts

    def _choose(self, node: Node) -> str | None:
        """The input that a switch lets through: that of the number it has, or the first that is there."""
        numbered = {name: int(match[1]) for name in node.inputs if (match := _NUMBERED.fullmatch(name))}
        chosen = self.graph.find_number(node, "select", "index", "Input", "input", "selected")
        names = [name for name, number in numbered.items() if chosen is None or number == chosen]
        return next((name for name in names if node.inputs[name] not in (None, "")), None)

    def _concatenate(self, node: Node, texts: list[str]) -> str:
        """The texts that a node for strings puts together, with its own separator."""
        between = next(
            (node.inputs[key] for key in ("delimiter", "separator", "join_with") if key in node.inputs), ", "
        )
        return (between.replace("\\n", "\n") if isinstance(between, str) else ", ").join(dict.fromkeys(texts))


_NAME = "ComfyUI"
_MODEL_INPUTS = (
    "ckpt_name",
    "unet_name",
    "base_ckpt_name",
    "model_name",
    "gguf_name",
    "model_path",
    "checkpoint",
    "model",
)
_LATENT_INPUT = re.compile(r"latent\w*|samples|image[s_]?\w*|pixels|optional_latent|pipe|\*?")
_SIZED_INPUT = re.compile(r"latent\w*|samples|pipe|\*?")
_MAX_PASSES = 20
_SECOND_PASS = re.compile(r".*(?:Detailer|Upscale|Restore).*")


def read_comfyui(fields: Fields) -> Generation | None:
    """Nodes that save metadata also write AUTOMATIC1111's text, with settings that the graph lacks."""
    graph = find_graph(fields)
    found = read_graph(graph) if graph else None
    if found is None and (workflow := load_object(fields.get("workflow"))):
        found = read_graph(convert_workflow(workflow)) or Generation(_NAME)
    if found is None:
        return None
    if not found.prompt and (text := read_automatic1111(fields)):
        return fill_gaps(Generation(_NAME), text)
    return fill_gaps(found, read_automatic1111(fields)) if found.prompt else found


def find_graph(fields: Fields) -> dict[str, Any] | None:
    """The API graph: in "prompt", or an object of its own."""
    objects: Sequence[dict[str, Any]] = fields.get("objects", ())
    for candidate in (load_object(fields.get("prompt")), *objects):
        if candidate and any(isinstance(node, dict) and "class_type" in node for node in candidate.values()):
            return candidate
    return None


def read_graph(nodes: dict[str, Any] | None) -> Generation | None:
    """The settings of the sampler that made the image first; None when this is no graph of ComfyUI."""
    graph = Graph(nodes or {})
    if not graph.nodes:
        return None
    sampler = _find_sampler(graph)
    if sampler is None:
        prompt, negative = _read_loose_words(graph)
        return Generation(_NAME, prompt, negative, model=_find_model(graph, None))
    guider = graph.follow(sampler.inputs.get("guider"))
    prompt, negative = (find_words(graph, guider or sampler, role) or None for role in ("positive", "negative"))
    if not prompt and not negative:
        prompt, negative = _read_loose_words(graph)
    sigmas = graph.follow(sampler.inputs.get("sigmas"))
    noise = graph.follow(sampler.inputs.get("noise"))
    method = graph.follow(sampler.inputs.get("sampler"))
    guidance = _find_guidance(graph, guider or sampler)
    cfg = as_number(_first(graph, [sampler, guider], "cfg", "cfg_scale", "true_gs"))
    return Generation(
        _NAME,
        prompt=prompt,
        negative_prompt=negative,
        model=_find_model(graph, guider or sampler),
        seed=as_seed(_first(graph, [sampler, noise], "seed", "noise_seed")),
        steps=as_steps(_first(graph, [sampler, *_chain(graph, sigmas, "sigmas")], "steps")),
        sampler=as_name(_first(graph, [sampler, method], "sampler_name")) or (method.kind if method else None),
        cfg=guidance if cfg is None else cfg,
        size=_find_size(graph, sampler),
        extra=(
            *_list_extra(graph, sampler, sigmas),
            *([] if guidance is None or cfg is None else [("Distilled CFG scale", f"{guidance:g}")]),
        ),
    )


def _is_sampler(node: Node) -> bool:
    has_seed = node.inputs.keys() & {"seed", "noise_seed", "noise"}
    has_method = node.inputs.keys() & {"steps", "sigmas", "sampler_name", "sampler"}
    has_source = node.inputs.keys() & {
        "positive",
        "guider",
        "conditioning",
        "text_embeds",
        "sdxl_tuple",
        "pipe",
        "basic_pipe",
        "model",
    }
    return bool(has_seed and has_method and has_source)


def _find_sampler(graph: Graph) -> Node | None:
    """The first pass: from what is saved to the nearest sampler, then on to those its latent image came from."""
    samplers = [node for node in graph.nodes.values() if _is_sampler(node)]
    samplers.sort(key=lambda node: bool(_SECOND_PASS.fullmatch(node.kind)))
    known = {node.key for node in samplers}
    reached = (node for end in graph.find_ends()[:20] for node in (end, *graph.walk_up(end)) if node.key in known)
    current = next(reached, None)
    if current is None:
        return samplers[0] if samplers else None
    for _ in range(_MAX_PASSES):
        earlier = [
            node
            for node in graph.walk_up(current, lambda name: bool(_LATENT_INPUT.fullmatch(name)))
            if node.key in known
        ] + _find_cascade_stages(graph, current, known)
        known -= {current.key}
        if not earlier:
            break
        current = earlier[-1]
    return current


def _find_cascade_stages(graph: Graph, sampler: Node, known: set[str]) -> list[Node]:
    """Stable Cascade: what stage C sampled comes to the sampler of stage B inside its conditioning."""
    conditioning = graph.walk_up(sampler, lambda name: name in ("positive", "conditioning"))
    latents = [latent for node in conditioning if (latent := graph.follow(node.inputs.get("stage_c")))]
    return [node for latent in latents for node in (latent, *graph.walk_up(latent)) if node.key in known]


def _first(graph: Graph, nodes: list[Node | None], *names: str) -> Any:
    return next((value for node in nodes if (value := graph.find_value(node, *names)) is not None), None)


def _chain(graph: Graph, node: Node | None, name: str) -> list[Node | None]:
    """A node and those before it by an input of this name (sigmas may be split or flipped on their way)."""
    return [node, *graph.walk_up(node, lambda given: given == name)] if node else []


def _find_model(graph: Graph, sampler: Node | None) -> str | None:
    """The name in the loader at the head of the model's chain; failing that, of any loader."""

    def leads_to_model(name: str) -> bool:
        return name in (
            "model",
            "base_model",
            "pipe",
            "basic_pipe",
            "sdxl_tuple",
            "context",
            "guider",
            "*",
        ) or name.startswith("model")

    chain = [sampler, *graph.walk_up(sampler, leads_to_model)] if sampler else []
    for node in [*chain, *(node for node in graph.nodes.values() if {"ckpt_name", "unet_name"} & node.inputs.keys())]:
        if (
            node
            and "lora" not in node.kind.lower()
            and "Upscale" not in node.kind
            and (name := _read_model_name(graph, node))
        ):
            return name
    return None


def _read_model_name(graph: Graph, node: Node) -> str | None:
    for key in _MODEL_INPUTS:
        value = node.inputs.get(key)
        if graph.follow(value) and key == "model":
            continue
        if name := as_name(value if isinstance(value, dict) else graph.find_value(node, key)):
            return name
    return None


def _find_size(graph: Graph, sampler: Node) -> str | None:
    for node in (sampler, *graph.walk_up(sampler, lambda name: bool(_SIZED_INPUT.fullmatch(name)))):
        if "samples" in node.inputs:
            continue  # it scales what came before
        chooser = graph.follow(node.inputs.get("width"))
        if size := _read_preset(node) or (chooser and _read_preset(chooser)):
            return size
        width = graph.find_number(node, "width", "empty_latent_width")
        height = graph.find_number(node, "height", "empty_latent_height")
        if width and height:
            return as_size(width, height)
    return None


def _read_preset(node: Node) -> str | None:
    """A size chosen from a list, such as "3:4 portrait 896x1152"; numbers beside it count for "custom" only."""
    for name in ("dimensions", "resolution", "aspect_ratio"):
        value = node.inputs.get(name)
        if isinstance(value, str) and (match := re.search(r"(\d{2,5}) ?x ?(\d{2,5})", value[:200])):
            return as_size(match[0])
    return None


def _find_guidance(graph: Graph, sampler: Node) -> float | None:
    """Flux has its guidance in the conditioning instead of a scale in the sampler."""
    for node in graph.walk_up(sampler, lambda name: "cond" in name or name == "positive"):
        if (guidance := graph.find_number(node, "guidance")) is not None:
            return guidance
    return None


def _list_extra(graph: Graph, sampler: Node, sigmas: Node | None) -> Iterator[tuple[str, str]]:
    if scheduler := as_name(_first(graph, [sampler, *_chain(graph, sigmas, "sigmas")], "scheduler")):
        yield "Schedule type", scheduler
    denoise = as_number(_first(graph, [sampler, *_chain(graph, sigmas, "sigmas")], "denoise"))
    if denoise is not None and denoise < 1:
        yield "Denoising strength", f"{denoise:g}"
    loras = (lora for node in graph.nodes.values() for lora in _list_loras(node))
    for lora in list(dict.fromkeys(lora for lora in loras if lora and lora != "None"))[:50]:
        yield "Lora", lora


_LORA_INPUT = re.compile(r"lora(?:_name)?(?:_(\d{1,2}))?", re.IGNORECASE)


def _list_loras(node: Node) -> Iterator[str | None]:
    """One name, or those of a stack: lora_name_1 with its switch_1, or rgthree's {"on": true, "lora": ...}."""
    for name, value in node.inputs.items():
        if not (match := _LORA_INPUT.fullmatch(name)):
            continue
        if isinstance(value, dict):
            if value.get("on", True):
                yield as_name(value.get("lora"))
        elif isinstance(value, str) and node.inputs.get(f"switch_{match[1]}") != "Off":
            yield as_name(value)


def _read_loose_words(graph: Graph) -> tuple[str | None, str | None]:
    """The first words typed in, and those titled negative, of a graph whose paths end in unknown nodes."""
    words: dict[bool, str] = {}
    for node in graph.nodes.values():
        if not re.search(r"Text(?:Encode|.?Box)|ShowText|Prompt", node.kind):
            continue
        for name, value in node.inputs.items():
            if not re.fullmatch(r"(?i)(?:positive_?|negative_?)?(?:text|prompt)(?:_0|_g)?|positive|negative", name):
                continue
            if isinstance(value, str) and value.strip():
                words.setdefault("neg" in f"{node.kind} {node.title} {name}".lower(), value)
    return words.get(False), words.get(True)
