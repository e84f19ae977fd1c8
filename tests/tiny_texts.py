"""Tiny random text models with a tokenizer, written to a folder as transformers does."""

from pathlib import Path
from typing import Any

import torch

WORDS = ["a", "red", "apple", "cat", "dog", "next", "to", "the", "small", "large", "green", "house"]
WORDS += ["tree"]


def tokenizer(start="<s>", end="</s>"):
    """Of words; ``start`` and ``end`` stand around a text, where they are not empty."""
    from transformers import PreTrainedTokenizerFast

    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["<pad>", "<unk>", "<s>", "</s>", *WORDS]
    ids = {name: index for index, name in enumerate(names)}
    words = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    around = " ".join(part for part in (start, "$A", end) if part)
    special = [(name, ids[name]) for name in ("<s>", "</s>")]
    words.post_processor = processors.TemplateProcessing(single=around, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        **{"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
        model_max_length=64,
    )


def network(kind):
    """A random model of 3 layers and 16 numbers a token."""
    import transformers as of

    size: dict[str, Any] = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32}
    depth: dict[str, Any] = {"num_hidden_layers": 3, "num_attention_heads": 2}
    tokens: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    picture: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    picture |= {"num_attention_heads": 1, "image_size": 8, "patch_size": 4}
    text = {**size, **depth, **tokens, "max_position_embeddings": 16}
    if kind == "gemma":
        more: dict[str, Any] = {"head_dim": 8, "num_key_value_heads": 1}
        return of.GemmaModel(of.GemmaConfig(**size, **depth, **more, **tokens))
    if kind == "t5":
        shape: dict[str, Any] = {
            "vocab_size": 40,
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 3,
        }
        config = of.T5Config(**shape, num_heads=2, pad_token_id=0)
        config.decoder_start_token_id = 0
        return of.T5ForConditionalGeneration(config)
    if kind == "clip":
        return of.CLIPModel(of.CLIPConfig(text_config=text, vision_config=picture))
    if kind == "siglip":
        picture["hidden_size"] = 16  # its two halves meet without a projection
        return of.SiglipModel(of.SiglipConfig(text_config=text, vision_config=picture))
    return of.BertModel(of.BertConfig(**size, **depth, max_position_embeddings=64))


AROUND = {"gemma": ("<s>", ""), "t5": ("", "</s>"), "bare": ("", ""), "siglip": ("", "</s>")}
"""What the tokenizers of a kind put before and after a text."""

KINDS = ("gemma", "t5", "clip", "siglip", "bert")


def save(folder: Path, kind: str, seed: int = 0) -> str:
    """Write a model of one of `KINDS` (``bare``: BERT without special tokens); its folder."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(kind)
        for weight in model.parameters():  # no gain of exactly one, no bias of zero
            weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    tokenizer(*AROUND.get(kind, ("<s>", "</s>"))).save_pretrained(folder)
    return str(folder)
