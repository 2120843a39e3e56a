"""`completion`: what makes a shell complete verbs, options and files."""

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete verbs, options and files.

    \b
    Example:  eval "$(batchrunner completion bash)"       in ~/.bashrc
              eval "$(batchrunner completion zsh)"        in ~/.zshrc, after compinit
              batchrunner completion fish > ~/.config/fish/completions/batchrunner.fish
    """
    from batchrunner.cli import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not supported.")
    made = kind(cli, {}, "batchrunner", "_BATCHRUNNER_COMPLETE")
    # Not made.source(): it starts a bash to ask for its version.
    click.echo(made.source_template % made.source_vars())
