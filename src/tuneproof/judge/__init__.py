"""Judging: which of two answers is better, and how near an answer is to its reference.

``protocol`` says what a judge is asked and how its reply is read, ``clients`` carries the question
to a judge and the reply back, ``similarity`` compares with the reference without any judge, and
``stage`` reads and writes the files. What the judgments add up to is the business of
``tuneproof.stats``.
"""
