"""Printed tables of AlpacaEval and MT-Bench results, checked against their own arithmetic.

``reading`` finds the tables in a text, ``rules`` says what must hold in one comparison, ``repair``
asks which one cell could be wrong, and ``audit`` puts the three together. Everything here is a pure
function of the text; where the numbers come from is not known and not needed.
"""
