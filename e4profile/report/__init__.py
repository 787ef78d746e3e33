"""The reports folder: every published table, every figure and the page, made from cards and committed records."""

from __future__ import annotations

from e4profile.report.files import check_folder, check_report, write_report

__all__ = ["check_folder", "check_report", "write_report"]
