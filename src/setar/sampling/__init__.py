"""From logits to images: filters, guidance, the one loop."""
