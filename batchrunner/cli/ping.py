"""`check --ping`: what is asked of the endpoints, and how the answers are shown."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from batchrunner.cli import options
from batchrunner.cli.showing import many
from batchrunner.screen import visible

if TYPE_CHECKING:
    from batchrunner.doctor import Diagnosis
    from batchrunner.endpoint import Endpoint
    from batchrunner.preflight import Examination


def pinged(endpoints: "Sequence[Endpoint]", found: "Examination", given: dict[str, Any]) -> "list[Diagnosis]":
    """Ask each of *endpoints* for what the job that was *found* needs, with the options *given*."""
    import anyio

    from batchrunner.cli.run import limits_of
    from batchrunner.doctor import diagnose
    from batchrunner.doctor.verdicts import Wanted

    definition = options.named_definition()
    limits = limits_of(given, definition.limits_record() if definition else {})
    models = dict(found.models.most_common())
    wanted = Wanted(models, found.requests, found.input_tokens, limits, found.first)
    places = found.facts.get("endpoints", [found.facts])

    async def ask() -> "list[Diagnosis]":
        diagnoses = []
        for endpoint, place in zip(endpoints, places, strict=True):
            credential = place["credential"] or {"source": "the simulator"}
            diagnoses.append(await diagnose(endpoint, wanted, credential["source"] or "nowhere"))
        return diagnoses

    return anyio.run(ask)


def diagnosis_lines(diagnoses: "Sequence[Diagnosis]") -> Iterator[str]:
    """Yield the lines of the screen, safe to show."""
    for diagnosis in diagnoses:
        name = f"{diagnosis.name}, " if diagnosis.name else ""
        yield ""
        yield visible(f"asked {name}{diagnosis.url}:")
        for line in diagnosis.lines:
            remedy = f": {line.remedy}" if line.remedy else ""
            yield visible(f"{line.health:<9}{line.area:<11}{line.text}{remedy}")
        health = [line.health.value for line in diagnosis.lines]
        told = ", ".join(many(health.count(kind), kind) for kind in ("problem", "warning"))
        yield f"{told}; {'a run would stop here' if diagnosis.is_sick else 'a run would work here'}"
        yield visible(f"sent: {'; '.join(diagnosis.sent) or 'nothing'}")
