"""Servers that speak OpenAI's API, asked in one way: those that judge, and those that answer."""
