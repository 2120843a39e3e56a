"""Run bulk prompts against the Claude API and lose none of the answers."""

__version__ = "0.1.0"
