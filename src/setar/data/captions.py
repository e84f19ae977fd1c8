"""Captioned image folders."""

METADATA = "metadata.jsonl"
