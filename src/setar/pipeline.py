"""`setar.Pipeline`: a generator with its tokenizer and its classes, the object that users hold."""

import re
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from setar import checkpoint
from setar.asking import check_names
from setar.config import build, table
from setar.device import find_device
from setar.editing import Editing
from setar.files import fingerprint
from setar.generation import tables_of
from setar.models.base import FAMILIES, Generator, check_precision
from setar.models.condition import CONDITIONS
from setar.moved import moved
from setar.pretrained import check_hub_name, plugins_of, read_config, read_newest, upload
from setar.registry import quoted, require_plugins
from setar.run_folder import CHECKPOINTS, STEP, step_of
from setar.sampling.generate import check_smoothing
from setar.sampling.settings import SamplingDefaults
from setar.text import TextConfig
from setar.tokenizers.base import TOKENIZERS

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of a generator's weights."""


class Pipeline(Editing):
    """Generates images of named classes, or of what a text says.

    >>> pipe = Pipeline.from_pretrained("emoji")
    >>> images = pipe("cat-face", recipe="random-8-cosine", seed=7, count=4)
    >>> pipe = Pipeline.from_pretrained("emoji-text")
    >>> images = pipe("a red apple next to a dog face, Twemoji style", size=(32, 64))

    Args:
        model: the generator, in evaluation mode.
        tokenizer: turns its codes into images.
        classes: name of each class id.
        defaults: sampling settings.
        data: the data set that it was trained on, a name or a folder; empty if that is not known.
        text: the text encoder of a model that reads texts, which has no classes.

    Attributes:
        reads: what it is asked with: ``class`` or ``text``.
        source: how it was named when it was loaded; empty of one that was made in Python.
        manifest: `setar.files.fingerprint` of the folder that it was loaded from, or empty.
        steps: after how many steps of training it was written, if its folder or run says it.

    Raises:
        ValueError: these do not fit each other.
    """

    @classmethod
    def from_pretrained(
        cls,
        source: str | PathLike[str],
        device: str | torch.device = "cpu",
        sampling: Mapping[str, Any] | None = None,
        precision: str | None = None,
    ) -> "Pipeline":
        """Load a shipped model by name, a model folder, a training run, or a hub id.

        Args:
            source: which.
            device: where it shall compute; ``auto`` is a GPU if there is one.
            sampling: changes of its defaults, as of `SamplingDefaults.changed`.
            precision: of the generator's products, which is for sampling alone from then on:
                ``float32``, on a CPU with weights laid out for its kernels; ``bfloat16``, for GPUs
                and for CPUs that are made for it; ``int8``, for CPUs (`setar.layers.packed`). None:
                float32 in ordinary layers, or int8 if the folder was saved so.

        Raises:
            ValueError: there is no such model, its files are wrong or damaged, it needs a plugin
                (`setar.load_plugin`), this machine has no such device or cannot compute so there,
                or a change is wrong.
        """
        place = find_device(device)
        if precision is not None:
            check_precision(precision, place)
        if not isinstance(sampling, Mapping | None):
            raise ValueError(f"`sampling` must be a dict of settings, not {quoted(sampling)}")
        pipe = read_newest(source, cls._read)
        pipe.source = str(source)
        pipe.defaults = pipe.defaults.changed(sampling or {})
        check_smoothing(pipe.model, pipe.defaults.settings)
        pipe.tokenizer.to(place)
        if chosen := precision or pipe.model.packing:
            pipe.model.compute_in(chosen, place)
        else:
            pipe.model.to(place)
        return pipe

    def compile(self) -> "Pipeline":
        """Make a CUDA device sample by records of whole steps instead of single kernels.

        The first images take minutes: a step is compiled for each size of sets, as powers of two.
        They are the same images, but for numbers on the border of two codes.

        Raises:
            ValueError: the device is no CUDA device, or the model's family has no such steps.
        """
        if self.device.type != "cuda":
            raise ValueError(f"sampling is compiled on CUDA devices, and not on {self.device}")
        self.model.compile_sampling(mode="reduce-overhead")
        return self

    @classmethod
    def _read(cls, folder: Path) -> "Pipeline":
        """The pipeline of a model folder, on the CPU."""
        config = read_config(folder)
        missing = {"model", "tokenizer", "classes"} - config.keys()
        if missing:
            raise ValueError(f"{folder} is no generator: config.json lacks {sorted(missing)}")
        require_plugins(config["plugins"], folder)
        defaults = build(SamplingDefaults, config.get("sampling", {}), str(folder), "sampling")
        names, data = config["classes"], config.get("data") or ""
        text = config.get("text")
        text = None if text is None else build(TextConfig, text, str(folder), "text")
        if not isinstance(data, str):
            raise ValueError(f"{folder}: `data` of config.json must be a name, not {quoted(data)}")
        try:
            if text is None:
                check_names(names)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        prepare = _prepared(config.get("precision"), folder)
        model = checkpoint.load_module(folder, "model", config["model"], FAMILIES, prepare)
        tokenizer = checkpoint.load_module(folder, "tokenizer", config["tokenizer"], TOKENIZERS)
        pipe = cls(model, tokenizer, names, defaults, data, text)
        pipe.manifest = fingerprint(folder)
        pipe.steps = config["steps"] if type(config.get("steps")) is int else None
        if folder.parent.name == CHECKPOINTS and re.fullmatch(STEP, folder.name):
            pipe.steps = step_of(folder)
        return pipe

    def __repr__(self) -> str:
        parts = sum(parameter.numel() for parameter in self.model.parameters())
        asked = "texts" if self.text else f"{len(self.classes)} classes"
        width, height = self.size
        rows, columns = self.grid
        guidance = self.defaults.guidance
        strength = "off" if guidance.off else f"{guidance.schedule} {guidance.scale:g}"
        facts = [
            f"{FAMILIES.name_of(type(self.model))} of {parts / 1e6:.2f} M parameters",
            asked,
            f"{height}x{width} pixels",
            f"{rows}x{columns} tokens of {self.tokenizer.vocabulary} codes",
            str(self.defaults.recipe),
            f"guidance {strength}",
            f"{self.precision or 'float32'} on {self.device}",
        ]
        return f"<Pipeline {self.source or 'of no folder'}: {', '.join(facts)}>"

    def to(
        self, device: str | torch.device | torch.dtype | None = None, dtype: Any = None
    ) -> "Pipeline":
        """Bring it to a device, and its generator to a dtype; the same pipeline.

        >>> pipe = Pipeline.from_pretrained("emoji").to("cuda", torch.bfloat16)

        Args:
            device: ``auto`` is a GPU if there is one; None: where it is.
            dtype: of the generator's weights, ``torch.float32``, ``torch.bfloat16`` or
                ``torch.float16``; the tokenizer keeps float32. None: as it is. It may stand alone.

        Raises:
            ValueError: there is no such device or dtype, or the generator's weights are laid out
                for the CPU's kernels (`from_pretrained` with ``precision``) and stay so.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        place = self.device if device is None else find_device(device)
        if dtype not in (None, *DTYPES):
            known = ", ".join(map(str, DTYPES))
            raise ValueError(f"`dtype` (={quoted(dtype)}) must be one of {known}")
        if self.model.packing is not None and (place != self.device or dtype is not None):
            raise ValueError(
                f"this model is laid out for {self.model.packing} on a CPU and stays so: load it "
                "without `precision`"
            )
        self.model.to(place, dtype)
        self.tokenizer.to(place)
        return self

    def describe(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        model = checkpoint.describe(self.model, FAMILIES)
        tokenizer = checkpoint.describe(self.tokenizer, TOKENIZERS)
        used = [
            (FAMILIES, model["family"]),
            (CONDITIONS, self.model.config.condition),
            (TOKENIZERS, tokenizer["family"]),
            *tables_of(self.defaults),
        ]
        return {
            "model": model,
            "tokenizer": tokenizer,
            "classes": list(self.classes),
            "data": self.data,
            **({} if self.text is None else {"text": table(self.text)}),
            "sampling": table(self.defaults),
            **({} if self.steps is None else {"steps": self.steps}),
            **({"precision": "int8"} if self.model.packing == "int8" else {}),
            "plugins": plugins_of(*used),
        }

    def save_pretrained(
        self, folder: str | PathLike[str], half: bool = False, card: str = ""
    ) -> None:
        """Write a model folder that `from_pretrained` reads.

        A model in int8 is stored so, in a quarter of the bytes.

        Args:
            folder: where; a model that is there already is replaced.
            half: store weights as float16, but for the scales of whole numbers.
            card: text of a ``README.md`` (the model card).

        Raises:
            ValueError: an argument is wrong, or something is there already that is no model.
        """
        if not isinstance(folder, str | PathLike) or not isinstance(card, str):
            wrong = quoted(card if isinstance(folder, str | PathLike) else folder)
            raise ValueError(f"a folder is named by text or a path, a card is text, not {wrong}")
        states = {"model": self.model.state_dict(), "tokenizer": self.tokenizer.state_dict()}
        if half:
            exact = {k: v for k, v in states["model"].items() if k in self._scales()}
            states = {name: checkpoint.half(state) for name, state in states.items()}
            states["model"] |= exact
        texts = {"README.md": card} if card else {}
        checkpoint.save(Path(folder), self.describe(), states, texts)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = False,
        half: bool = False,
        card: str = "",
        message: str = "",
        token: str | None = None,
    ) -> str:
        """Upload it to the Hugging Face hub, from where `from_pretrained` loads it by this name.

        Args:
            name: ``owner/name``; the repository is made if it is not there yet.
            private: whether a new repository is.
            half: as of `save_pretrained`.
            card: as of `save_pretrained`; empty: a few lines with the command that samples.
            message: of the commit.
            token: of the hub; None is the one that its own login has left.

        Returns:
            The address of the commit.

        Raises:
            ValueError: an argument is wrong, or the hub refuses.
        """
        check_hub_name(name)
        with TemporaryDirectory() as above:
            folder = Path(above) / "model"
            self.save_pretrained(folder, half, card or self._card(name))
            return upload(folder, name, private, message or "Upload of a model by setar", token)

    def _card(self, name: str) -> str:
        """What a model card says at least."""
        asked = '--prompt "..."' if self.text else f'--classes "{self.classes[0]}"'
        about = repr(self).split(": ", 1)[1].rstrip(">")
        return (
            "---\nlibrary_name: setar\ntags: [text-to-image, autoregressive]\n---\n\n"
            f"# {name.split('/')[1]}\n\nA model of setar: {about}.\n\n"
            f"    setar sample {name} {asked}\n"
        )

    def _scales(self) -> set[str]:
        """Names of what whole numbers in the model's state are multiplied by."""
        if self.model.packing != "int8":
            return set()
        return {name for name in self.model.state_dict() if name.endswith(".scale")}


def load_for_sampling(
    source: str | PathLike[str],
    device: str | torch.device = "cpu",
    sampling: Mapping[str, Any] | None = None,
    precision: str | None = None,
) -> Pipeline:
    """`Pipeline.from_pretrained` in the precision of the folder, but laid out for sampling alone.

    As all commands do, which give nobody the model's layers.
    """
    pipe = Pipeline.from_pretrained(source, device, sampling, precision)
    if precision is None:
        pipe.model.compute_in(pipe.model.packing or "float32", find_device(device))
    return pipe


def _prepared(precision: Any, folder: Path) -> Callable[[Generator[Any]], Generator[Any]]:
    """What makes a new generator such as a folder holds; ValueError if nothing does."""
    if precision not in (None, "int8"):
        raise ValueError(f"{folder}: `precision` of config.json must be int8, not {precision!r}")
    return (lambda model: model) if precision is None else lambda model: model.pack("int8")


__getattr__ = moved(
    __name__,
    {
        "Ask": "setar.asking",
        "PartialImages": "setar.generation",
    },
)
