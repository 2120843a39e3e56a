"""The answers as a file: for spreadsheets, for programs, as a job file of what is left, as results of a batch."""

from batchrunner.export.columns import column_names, metadata_keys
from batchrunner.export.settings import ExportError, ExportReport, Format, Options, Sink
from batchrunner.export.writing import export

__all__ = [
    "ExportError",
    "ExportReport",
    "Format",
    "Options",
    "Sink",
    "column_names",
    "export",
    "metadata_keys",
]
