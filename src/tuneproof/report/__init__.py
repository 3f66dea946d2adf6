"""The report of a run: one HTML page, the same in Markdown, the numbers as JSON, the loss curve.

Receives finished records and writes files. It computes no statistic: every number that it shows
was an estimate or a count before it came here.
"""

from tuneproof.report.build import write_report

__all__ = ["write_report"]
