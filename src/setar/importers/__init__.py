"""Public checkpoints of other projects, one file per family."""
