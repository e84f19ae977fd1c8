"""How long sampling and training take, beside the least that the same arithmetic can take."""
