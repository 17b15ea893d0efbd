"""Pipelines: which stages, in which order, what is already done."""
