"""The report of a run: one HTML page, the same in Markdown, the numbers as JSON, the loss curve.

Two parts. ``stage`` reads what the other stages wrote and has ``stats`` estimate and decide on it;
``judging``, ``benchmarks`` and ``unfinished`` add to these results what is not a statistic. From
there on nothing is estimated: ``write_report`` takes finished results and records, and what it
computes itself is where a line is drawn, what it counts of answers (``cases``) and the quantiles of
their lengths (``behaviour``).
"""

from tuneproof.report.build import write_report

__all__ = ["write_report"]
