"""Judging: which of two answers is better, and how near an answer is to its reference.

``protocol`` says what a protocol is and ``own`` is the project's; ``matches`` decides which answers
meet; ``clients`` carries the question to a judge and the reply back; ``similarity`` compares with
the reference without any judge; and ``stage`` reads and writes the files. What the judgments add up
to is the business of ``tuneproof.stats``.
"""
