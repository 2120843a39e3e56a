"""Twenty jobs of different shapes, for holding estimates against what they cost in the end."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Line = Mapping[str, Any]
_WORDS = [
    "the",
    "report",
    "says",
    "that",
    "costs",
    "rose",
    "by",
    "a",
    "tenth",
    "in",
    "spring",
    "while",
    "sales",
    "of",
    "older",
    "models",
    "fell",
    "and",
    "nobody",
    "knows",
    "quite",
    "why",
    "although",
    "several",
    "people",
    "have",
    "asked",
    "the",
    "office",
    "in",
    "Graz",
    "which",
    "keeps",
    "the",
    "figures",
    "for",
    "every",
    "region",
    "and",
    "every",
    "month",
]
_HAN = "每个地区的销售数字都由格拉茨办公室保存没有人知道为什么去年春天的成本上升了一成"


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of job."""

    name: str
    line: Callable[[random.Random, int], dict[str, Any]]  #: The n-th line.
    spec: str = ""  #: Of the simulator: how long answers are.

    def lines(self, count: int, seed: int = 1) -> Iterator[Line]:
        """Yield *count* lines, the same for equal seeds."""
        chance = random.Random(f"{self.name} {seed}")
        return ({"id": f"r{n}", **self.line(chance, n)} for n in range(count))


def words(chance: random.Random, least: int, most: int) -> str:
    """Return a text of some words."""
    return " ".join(chance.choices(_WORDS, k=chance.randint(least, most)))


def _asks(
    model: str, max_tokens: int, least: int, most: int, **fields: Any
) -> Callable[[random.Random, int], dict[str, Any]]:
    def line(chance: random.Random, n: int) -> dict[str, Any]:
        return {"model": model, "max_tokens": max_tokens, "prompt": f"Item {n}: {words(chance, least, most)}", **fields}

    return line


def _cached(model: str, size: int, groups: int, max_tokens: int) -> Callable[[random.Random, int], dict[str, Any]]:
    def line(chance: random.Random, n: int) -> dict[str, Any]:
        rules = f"Rules of group {n % groups}. " + " ".join(_WORDS * (size // len(_WORDS)))
        marked = {"type": "text", "text": rules, "cache_control": {"type": "ephemeral"}}
        return {"model": model, "max_tokens": max_tokens, "system": [marked], "prompt": words(chance, 10, 60)}

    return line


def _lognormal(low: int, high: int) -> str:
    return f"output_tokens=lognormal:{low}..{high}"


def _mixed(chance: random.Random, n: int) -> dict[str, Any]:
    model, most = (("claude-haiku-4-5", 400), ("claude-sonnet-5", 800), ("claude-opus-5-5", 1200))[n % 3]
    return {"model": model, "max_tokens": most, "prompt": words(chance, 20, 300)}


def _chinese(chance: random.Random, n: int) -> dict[str, Any]:
    text = "".join(chance.choices(_HAN, k=chance.randint(100, 900)))
    return {"model": "claude-sonnet-5", "max_tokens": 1500, "prompt": f"{n} 请翻译：{text}"}


def _extracting(chance: random.Random, n: int) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["city", "n"],
    }
    config = {"format": {"type": "json_schema", "schema": schema}}
    return {
        "model": "claude-haiku-4-5",
        "max_tokens": 256,
        "prompt": f"{n} {words(chance, 100, 500)}",
        "output_config": config,
    }


def _bimodal(chance: random.Random, n: int) -> dict[str, Any]:
    long = n % 5 == 0
    mark = f"[[sim:long={chance.randint(900, 1500)}]]" if long else f"[[sim:long={chance.randint(20, 60)}]]"
    return {"model": "claude-opus-4-8", "max_tokens": 2000, "prompt": f"{mark} {words(chance, 20, 200)}"}


SHAPES = (
    Shape("labels", _asks("claude-haiku-4-5", 20, 40, 300), "output_tokens=3..8"),
    Shape("short answers", _asks("claude-haiku-4-5", 300, 10, 60), _lognormal(20, 160)),
    Shape("chat", _asks("claude-sonnet-5", 1024, 20, 200), _lognormal(80, 600)),
    Shape("summaries", _asks("claude-sonnet-5", 800, 600, 3000), "output_tokens=150..350"),
    Shape("long documents", _asks("claude-opus-5-5", 1000, 4000, 9000), _lognormal(100, 500)),
    Shape("essays", _asks("claude-opus-4-8", 4096, 30, 80), _lognormal(700, 2500)),
    Shape("code", _asks("claude-sonnet-5-5", 8000, 100, 900), _lognormal(500, 4000)),
    Shape("extraction", _extracting),
    Shape("translation", _chinese, "output_tokens=150..900"),
    Shape("three models", _mixed, _lognormal(60, 500)),
    Shape("a shared prefix", _cached("claude-opus-5-5", 1500, 1, 500), "output_tokens=80..260"),
    Shape("ten shared prefixes", _cached("claude-sonnet-5", 2500, 10, 600), _lognormal(60, 300)),
    Shape("in the United States", _asks("claude-sonnet-4-6", 1000, 50, 400, inference_geo="us"), _lognormal(100, 500)),
    Shape("fast", _asks("claude-opus-5", 600, 50, 400, speed="fast"), _lognormal(60, 300)),
    Shape("the cheap model", _asks("claude-haiku-5-5", 512, 30, 250), _lognormal(40, 250)),
    Shape("few and long", _bimodal),
    Shape("cut off", _asks("claude-haiku-4-5", 200, 30, 100), "output_tokens=150..600"),
    Shape("steady", _asks("claude-opus-5-5", 1000, 100, 120), "output_tokens=280..320"),
    Shape(
        "retries", _asks("claude-haiku-4-5", 700, 30, 300), _lognormal(60, 300) + ",500=0.05,429=0.02,reset_body=0.02"
    ),
    Shape("far too generous", _asks("claude-haiku-4-5", 16_000, 10, 30), "output_tokens=5..15"),
)
