"""Where `setar.pretrained.save_tokenizer` was until version 0.2."""

from setar.moved import moved

__getattr__ = moved(__name__, {"save_tokenizer": "setar.pretrained"})
