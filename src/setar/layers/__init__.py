"""Attention with explicit masks, 2-D rotary embedding, transformer blocks."""
