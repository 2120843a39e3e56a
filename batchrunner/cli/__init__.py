"""The command line. A verb parses, calls one function, prints; its module is imported when it is asked for."""

import contextlib
import importlib
import io
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import click

from batchrunner.errors import BatchrunnerError, Exit
from batchrunner.screen import visible


class _Verb(NamedTuple):
    module: str
    summary: str  #: For the list of verbs: it must fit beside the name on a screen of 80 columns.


_HOME = "batchrunner.cli."
#: Where each verb lives and what it does, in the order that `--help` shows.
_VERBS = {
    "run": _Verb(_HOME + "run", "Send every request and save the answers; again: go on."),
    "resume": _Verb(_HOME + "run", "Go on from the store alone, with the limits of the last run."),
    "retry": _Verb(_HOME + "run", "Put failed requests back and run."),
    "status": _Verb(_HOME + "status", "Show how far it is and what to do next."),
    "errors": _Verb(_HOME + "errors", "Show what failed, why, and the command that mends it."),
    "spend": _Verb(_HOME + "spend", "Show what it has cost, and what it will."),
    "show": _Verb(_HOME + "show", "Show one request whole, with each attempt and the answer."),
    "export": _Verb(_HOME + "export", "Write the answers as CSV or JSON lines."),
    "recover": _Verb(_HOME + "recover", "Take in answers that a run could not write."),
    "runs": _Verb(_HOME + "runs", "List the runs: when, with which settings, how they ended."),
    "tune": _Verb(_HOME + "tune", "Give a run that works other limits."),
    "pause": _Verb(_HOME + "tune", "Let a run that works send nothing new for a while."),
    "unpause": _Verb(_HOME + "tune", "Let a paused run go on."),
    "stop": _Verb(_HOME + "tune", "Stop a run as a Ctrl-C would, from another terminal."),
    "move": _Verb(_HOME + "run", "Send what is pending live, or by batches, from now on."),
    "batches": _Verb(_HOME + "batches", "List the message batches of a job; look, cancel."),
    "rules": _Verb(_HOME + "rules", "Show what is done about each class of failures."),
    "simulate": _Verb(_HOME + "simulate", "Serve a stand-in for the Messages API on this machine."),
    "init": _Verb(_HOME + "init", "Write a commented job definition."),
    "check": _Verb(_HOME + "check", "Find all that is wrong before it costs anything."),
    "models": _Verb(_HOME + "models", "List the models that the endpoint offers."),
    "completion": _Verb(_HOME + "completion", "Print the script that makes a shell complete verbs."),
}


class _Verbs(click.Group):
    """Finds verbs without importing what they need."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        command = getattr(importlib.import_module(_VERBS[cmd_name].module), cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the verbs, each in a whole sentence, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.summary) for name, verb in _VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; a name that is none is told the nearest one, or that `run` may be meant."""
        name = args[0]
        if name in _VERBS or ctx.resilient_parsing or name.startswith("-"):
            return super().resolve_command(ctx, args)
        import difflib

        near = difflib.get_close_matches(name, _VERBS, n=1)
        meant = near[0] if near else f"run {name}" if Path(name).exists() else None
        raise click.UsageError(f"No such command {name!r}.{f' Did you mean {meant!r}?' if meant else ''}", ctx)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="batchrunner", prog_name="batchrunner")
def cli() -> None:
    """Run bulk prompts against the Claude API: rate-limited, retried by error class, checkpointed, resumable.

    \b
    batchrunner run jobs.jsonl --rpm 1000      send every request; the same command again continues
    batchrunner status jobs.jsonl              how far it is
    batchrunner errors jobs.jsonl              what failed, and the command that mends it
    batchrunner export jobs.jsonl -o out.csv   the answers
    """


def main(args: list[str] | None = None) -> Any:
    """Run the command; the process ends with an exit code of `Exit`."""
    _give_streams()
    try:
        code = cli.main(args, prog_name="batchrunner", standalone_mode=False)
    except click.exceptions.Abort:
        code = Exit.INTERRUPTED
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(_safe(shown.getvalue()), err=True, nl=False)
        code = Exit.USAGE
    except BatchrunnerError as error:
        click.echo(f"batchrunner: {_safe(str(error))}", err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except OSError as error:  # a full disk under our output; what touches a store or a job file has its own words
        click.echo(
            f"batchrunner: {error.strerror or error}{f': {error.filename}' if error.filename else ''}.", err=True
        )
        code = Exit.STORE
    except Exception:  # noqa: BLE001 - the last door: what gets here is our mistake and must say so
        click.echo(_safe(_without_secrets(traceback.format_exc())), err=True, nl=False)
        click.echo(
            "batchrunner: this is a mistake of ours; saved answers are safe. Please report the lines above.", err=True
        )
        code = Exit.BUG
    _let_go_of_closed_streams()
    sys.exit(int(code) if isinstance(code, int) else 0)


def _without_secrets(text: str) -> str:
    """Return *text* without keys: nobody knows what an error that nobody foresaw says."""
    from batchrunner.api.redact import names_credential, without_keys

    return without_keys(text, [value for name, value in os.environ.items() if names_credential(name)])


def _safe(text: str) -> str:
    """Return *text* as a terminal may have it: it may name files and repeat what servers said."""
    return visible(text, keep_lines=True)


def _let_go_of_closed_streams() -> None:
    """Point streams whose reader has gone elsewhere: Python would fail to flush them and change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _give_streams() -> None:
    """Let streams lead nowhere where the process was started without them (`<&-`): else a run crashes or hangs."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - until the process ends
