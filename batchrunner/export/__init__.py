"""The answers as a file: for spreadsheets, for programs, as a job file of what is left, as results of a batch."""

from batchrunner.export.columns import column_names, metadata_keys
from batchrunner.export.ledger import LedgerReport, export_ledger
from batchrunner.export.settings import ExportError, ExportReport, Format, Options, Sink
from batchrunner.export.writing import export

__all__ = [
    "ExportError",
    "ExportReport",
    "Format",
    "LedgerReport",
    "Options",
    "Sink",
    "column_names",
    "export",
    "export_ledger",
    "metadata_keys",
]
