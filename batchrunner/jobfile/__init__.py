"""From a job file to requests: `read_lines` gives lines, a `Shaper` makes a request of each or says what is wrong."""

from batchrunner.jobfile.decode import MAX_DEPTH, Surrogates, decode_line
from batchrunner.jobfile.defaults import MESSAGES_PARAMETERS, Defaults, parse_patch, parse_settings
from batchrunner.jobfile.faults import LineError, RefusedError
from batchrunner.jobfile.formats import STDIN, Format, open_lines
from batchrunner.jobfile.lines import MAX_LINE_BYTES, Line, LineReader, read_lines, split_lines
from batchrunner.jobfile.shapes import MAX_BODY_BYTES, NO_MODEL, Shaper, derived_id, patterns_of
from batchrunner.jobfile.source import Fingerprint
from batchrunner.jobfile.template import Template

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_DEPTH",
    "MAX_LINE_BYTES",
    "MESSAGES_PARAMETERS",
    "NO_MODEL",
    "STDIN",
    "Defaults",
    "Fingerprint",
    "Format",
    "Line",
    "LineError",
    "LineReader",
    "RefusedError",
    "Shaper",
    "Surrogates",
    "Template",
    "decode_line",
    "derived_id",
    "open_lines",
    "parse_patch",
    "parse_settings",
    "patterns_of",
    "read_lines",
    "split_lines",
]
