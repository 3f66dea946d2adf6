"""Tests, and the doubles in ``fakes`` that they share."""
