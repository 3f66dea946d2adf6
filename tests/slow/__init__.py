"""Tests with real models: minutes each, run by ``make test-slow``."""
