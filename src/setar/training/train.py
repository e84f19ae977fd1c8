"""Where `setar.training.run` was until version 0.2."""

from setar.moved import moved

__getattr__ = moved(__name__, {"train": "setar.training.run", "open_run": "setar.training.run"})
