"""`simulate`: the local API simulator as a server of its own."""

import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrunner.errors import UsageError

if TYPE_CHECKING:
    from batchrunner.simulator import Simulator


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8089, show_default=True, help="On 127.0.0.1; 0: a free one."
)
@click.option("--with", "spec", default="", metavar="SPEC", help="Latency, limits and faults, separated by commas.")
@click.option(
    "--ledger",
    "ledger_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what arrives and what is paid to this file, one JSON object a line.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the closing figures as JSON on stdout.")
def simulate(port: int, spec: str, ledger_path: Path | None, as_json: bool) -> int:
    """Serve a stand-in for the Messages API (and batches) on this machine: real shapes, limits, faults; nothing is paid.

    The address is printed on stdout; Ctrl-C ends it and prints what arrived and what would have been paid.

    \b
    SPEC:     latency=0.05 | latency=0.5..2 | latency=lognormal:1..10, rpm=N, rate=N/10s, itpm=N, otpm=N,
              bucket_s=SECONDS, strict=1, output_limit=produced|reserved, tenant=75..195:0.5, accelerate=SECONDS,
              headers=0, cache=0, key=KEY, seed=N, and faults by probability: 429=0.02,500=0.02,reset=0.01;
              batches: batch_s=5..20, batch_errored=0.01, batch_expired=0.01, batch_lost=0.1, batches=0
    Example:  batchrunner simulate --with 'latency=0.5..2,rate=600/10s,strict=1'
              ANTHROPIC_BASE_URL=http://127.0.0.1:8089 ANTHROPIC_API_KEY=any batchrunner run jobs.jsonl
    """
    import json

    import anyio

    from batchrunner.simulator import Ledger, Simulator, parse_spec

    settings = parse_spec(spec)
    try:
        ledger = Ledger(ledger_path)
    except OSError as error:
        raise UsageError(f"The ledger {ledger_path} cannot be written: {error.strerror}.") from error
    with ledger:
        anyio.run(_serve, Simulator(settings, ledger), port)
    figures = asdict(ledger.summary())
    twice = figures.pop("paid_more_than_once")
    figures["paid_more_than_once"] = len(twice)
    if as_json:
        click.echo(json.dumps(figures))
    else:
        click.echo(" ".join(f"{key}={value}" for key, value in figures.items()), err=True)
    return 0


async def _serve(simulator: "Simulator", port: int) -> None:
    import anyio

    from batchrunner.simulator.server import serve_until

    stop = anyio.Event()
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    stop.set()

        group.start_soon(listen)
        await serve_until(simulator, port, stop, click.echo)
        group.cancel_scope.cancel()
