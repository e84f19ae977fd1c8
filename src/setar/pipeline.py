"""`setar.Pipeline`: a generator with its tokenizer and its classes, the object that users hold."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from setar import checkpoint
from setar.classes import Classes
from setar.config import build, table
from setar.device import find_device
from setar.files import fingerprint, is_text
from setar.models.base import FAMILIES, MAX_CLASSES, Generator, check_precision
from setar.models.condition import CONDITIONS
from setar.numbers import as_real, as_whole, whole
from setar.pictures.masks import (
    MOST_MARGIN,
    Task,
    fitted,
    grow,
    hide,
    outpaint,
    prepare,
    seam_mask,
)
from setar.pictures.memory import Asked, Memory, called
from setar.pictures.png import Picture
from setar.pictures.sheets import to_pil
from setar.pretrained import check_hub_name, plugins_of, read_config, read_newest, upload
from setar.recipes.orders import ORDERS, check_grid
from setar.recipes.recipe import Recipe
from setar.recipes.schedules import RESERVED, SCHEDULES
from setar.registry import quoted, require_plugins
from setar.run_folder import CHECKPOINTS, STEP, step_of
from setar.sampling.edit import check_continuation, free_cells, random_cells
from setar.sampling.generate import SetDone, check_smoothing, generate, noise_and_plan
from setar.sampling.guidance import GUIDANCE, Guidance
from setar.sampling.settings import SamplingDefaults
from setar.text import TextConfig, load_text_encoder
from setar.tokenizers.base import TOKENIZERS, Tokenizer, decode_codes, encode_images, to_uint8

MAX_IMAGES = 2**20
"""The most images of one call, about a million: their codes are all held in memory."""

MAX_BATCH = 2**16
"""The most images that go through a model at once: their logits are all held in memory."""

MOST_TOKENS = 64 * 64
"""Of a picture whose size is chosen: all of them see each other."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of a generator's weights."""

MAX_NAME = 255
"""The most characters of a class name: as many as a folder's may have."""


RULES = {"class": "a class is a name or a whole number", "text": "a prompt is text"}
"""What a model is asked with, by what it reads."""


Ask = str | SupportsIndex | tuple[Any, Any, float]
"""One class or text; or (first, second, share), what lies so far on the way between two."""


class PartialImages:
    """What `on_set` receives: the images as far as they are known.

    Attributes:
        step: the set just finished, 1 .. ``steps``.
        steps: number of sets.
        first: index of this batch's first image among all images of the call.
        finish: what is done to each picture; an edit puts its image back around the mask.
    """

    finish: Callable[[Image.Image], Image.Image] = staticmethod(lambda picture: picture)

    def __init__(
        self, pipeline: "Pipeline", done: SetDone, first: int, grid: tuple[int, int] | None = None
    ) -> None:
        self.step, self.steps, self.first = done.step, done.steps, first
        self._pipeline, self._codes, self._grid = pipeline, done.codes, grid or pipeline.grid

    @torch.inference_mode()
    def images(self) -> list[Image.Image]:
        """Decoded pictures; pixels of tokens that are not known yet are light grey.

        Of a tokenizer of several scales, the pictures that the scales known so far make.
        """
        tokenizer, grid = self._pipeline.tokenizer, self._grid
        codes = self._codes.clamp_min(0)
        if tokenizer.scales is not None:
            stage = next(tokenizer.stages(codes, grid, self.step))
            return [self.finish(picture) for picture in to_pil(to_uint8(stage).cpu())]
        pixels = self._pipeline.decode(codes, grid)
        known = (self._codes >= 0).unflatten(1, grid).cpu()
        height, width = pixels.shape[-2] // grid[0], pixels.shape[-1] // grid[1]
        shown = known.repeat_interleave(height, 1).repeat_interleave(width, 2)[:, None]
        grey = torch.tensor(225, dtype=torch.uint8, device="cpu")
        return [self.finish(picture) for picture in to_pil(torch.where(shown, pixels, grey))]


class Pipeline:
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

    source, manifest = "", ""
    steps: int | None = None

    def __init__(
        self,
        model: Generator[Any],
        tokenizer: Tokenizer[Any],
        classes: Sequence[str] = (),
        defaults: SamplingDefaults | None = None,
        data: str = "",
        text: TextConfig | None = None,
    ) -> None:
        self.reads = model.condition.reads
        if (self.reads == "text") != (text is not None):
            raise ValueError(
                "a model that reads texts needs `text`, which encoder; others have none"
            )
        if text is None:
            check_names(classes)
            if len(classes) != model.config.classes:
                raise ValueError(f"{len(classes)} class names for {model.config.classes} classes")
        elif classes:
            raise ValueError("a model that reads texts has no classes")
        if tokenizer.vocabulary != model.config.vocabulary:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocabulary} codes, "
                f"the model {model.config.vocabulary}"
            )
        model.attach(tokenizer)
        self.model, self.tokenizer, self.classes = model, tokenizer, tuple(classes)
        self.defaults, self.data, self.text = defaults or SamplingDefaults(), data, text
        check_smoothing(model, self.defaults.settings)

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
            *_tables_of(self.defaults),
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

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens; a VAR has the tokens of all its scales in one row."""
        return self.model.config.grid

    def grid_of(self, size: Sequence[SupportsIndex] | None) -> tuple[int, int]:
        """Rows and columns of the tokens of a picture of ``size`` (height, width) in pixels.

        None is the model's own size.

        Raises:
            ValueError: the model makes no pictures of this size.
        """
        if size is None:
            return self.grid
        sides = _sides(size)
        width, height = self.size
        if (sides[0], sides[1]) == (height, width):
            return self.grid
        if not self.model.any_grid:
            raise ValueError(
                f"`size` (={sides[0]}x{sides[1]}) must be {height}x{width}: this model makes no "
                "pictures of another size"
            )
        _check_multiples(sides, self.stride)
        rows, columns = check_grid(self.tokenizer.grid(sides[0], sides[1]))
        if rows * columns > MOST_TOKENS:
            raise ValueError(
                f"a picture of {sides[0]}x{sides[1]} pixels (height x width) has {rows}x{columns} "
                f"tokens, more than 64x64 (={MOST_TOKENS}): make it smaller"
            )
        return rows, columns

    def recipe_on(self, grid: tuple[int, int]) -> Recipe:
        """The model's own recipe on any grid: at most as many sets as there are tokens."""
        recipe = self.defaults.recipe
        if recipe.sets is None or grid == self.grid:
            return recipe
        return replace(recipe, sets=min(recipe.sets, math.prod(grid)))

    def condition_of(self, asked: Any) -> Tensor:
        """What the model reads of class names or ids, or of texts: a row for each of them.

        None among them is no condition, and a tuple (first, second, share) what lies between two.

        Raises:
            ValueError: there is no such class, or a text is none.
        """
        listed = list(asked)
        if not any(isinstance(one, tuple) for one in listed):
            return self._read_all(listed)
        ways = [one if isinstance(one, tuple) else (one, one, 0.0) for one in listed]
        first, second, shares = map(list, zip(*ways, strict=True))
        share = torch.tensor(shares, dtype=torch.float32, device=self.device)
        return self.model.condition.between(self._read_all(first), self._read_all(second), share)

    def _read_all(self, asked: list[Any]) -> Tensor:
        """What the model reads of classes or texts, or of nothing."""
        if self.text is None:
            ids = [0 if name is None else self.class_id(name) for name in asked]
            found = torch.tensor(ids, device=self.device)
        else:
            encoder = load_text_encoder(self.text, self.device)
            words = ["" if text is None else text for text in asked]
            # One by one: the last digits of a text's states must not depend on the others.
            found = encoder.encode(words, batch_size=1).to(self.device)
        missing = torch.tensor([one is None for one in asked], device=self.device)
        if not missing.any():
            return found
        if self.model.config.class_dropout == 0:
            raise ValueError(
                "this model was trained with `class_dropout` = 0: it must be asked for a "
                f"{self.reads}"
            )
        missing = missing.view(-1, *[1] * (found.ndim - 1))
        return torch.where(missing, self.model.null(found), found)

    def _whom(self, asked: Any) -> Asked:
        """A class's id, a text, None, or what lies between two, as a memory has it."""
        if isinstance(asked, tuple):
            share = as_real(asked[2]) if len(asked) == 3 else None
            if share is None or not 0 <= share <= 1 or any(type(e) is tuple for e in asked[:2]):
                raise ValueError(
                    "what lies between two is (first, second, share from 0 to 1), not "
                    f"{quoted(asked)}"
                )
            return self._plain(asked[0]), self._plain(asked[1]), share
        return self._plain(asked)

    def _plain(self, asked: Any) -> int | str | None:
        return asked if asked is None or self.text is not None else self.class_id(asked)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures, in pixels."""
        codes = torch.zeros(1, math.prod(self.grid), dtype=torch.int64, device="cpu")
        height, width = self.decode(codes).shape[-2:]
        return width, height

    @property
    def stride(self) -> tuple[int, int]:
        """Height and width of a token, in pixels of its pictures; of a model of one scale."""
        return self.size[1] // self.grid[0], self.size[0] // self.grid[1]

    def class_id(self, name: str | SupportsIndex) -> int:
        """The id of a class given by name or id.

        Raises:
            ValueError: there is none, or several have this name.
        """
        if isinstance(name, str):
            return self._names.id(name)
        number = as_whole(name)
        if number is None:
            raise ValueError(f"a class is a name or a whole number, not {type(name).__name__}")
        if not 0 <= number < len(self.classes):
            raise ValueError(f"class id {number} is not in 0..{len(self.classes) - 1}")
        return number

    @cached_property
    def _names(self) -> Classes:
        return Classes(self.classes)

    def __call__(self, classes: Ask | Iterable[Ask], **options: Any) -> list[Picture]:
        """Generate images; class by class or text by text, as PIL images.

        Args:
            classes: a class name or id, or a text if the model `reads` texts; or several.
            options: those of `sample_codes`: size, recipe, guidance, seed, count, on_set, ...

        Returns:
            Images that remember what made them: in a PNG file that they save it is written.

        Raises:
            ValueError: an argument is wrong.
        """
        return self._pictures(self._asked(classes, **options))

    def unconditional(self, count: int = 1, **options: Any) -> list[Picture]:
        """Images of no class, or of no text: what guidance leads away from.

        Args:
            count: images.
            options: those of `sample_codes`. There is nothing to guide to.

        Raises:
            ValueError: an argument is wrong, or the model was trained without "no class".
        """
        return self._pictures(self._asked((), nothing=True, count=count, **options))

    def interpolate(
        self, first: Any, second: Any, *, count: int = 8, seed: SupportsIndex = 0, **options: Any
    ) -> list[Picture]:
        """Images of one seed on the way from a class or text to another.

        >>> images = pipe.interpolate("cat-face", "heart", count=5, seed=7)

        What the model reads is mixed: the vectors of two classes, or the states of two texts token
        by token from their ends.

        Args:
            first: a class name or id, or a text if the model `reads` texts; None is none of them.
            second: the same.
            count: images, both ends included; at least 2.
            seed: of all of them.
            options: those of `sample_codes`.

        Raises:
            ValueError: an argument is wrong.
        """
        count = whole("count", count, 2, MAX_IMAGES, "all images are held in memory")
        ways = [(first, second, step / (count - 1)) for step in range(count)]
        return self(ways, seed=[seed] * count, **options)

    def again(
        self, memory: Memory, on_set: Callable[[PartialImages], None] | None = None
    ) -> Picture:
        """Make an image again from what it remembers, exactly.

        That takes as long as the batch that it was made in. On another processor, or with another
        version of torch, pixels may differ: ``memory.pixels`` of both tell.

        Args:
            memory: of one image, made by this model, in the precision of this pipeline.
            on_set: as in a call.

        Raises:
            ValueError: it is of something else than an image, was made by another model or in
                another precision, or holds what cannot be.
        """
        if memory.made != "image" or len(memory.asked) != 1:
            raise ValueError("only one image as the model made it can be made again so")
        self.check_memory(memory)
        rows = whole("rows", memory.rows, 1, MAX_BATCH, "images of a batch are one step")
        row = whole("row", memory.row, 0, rows - 1)
        call = self._asked(
            memory.asked,
            nothing=memory.asked == (None,),
            size=memory.size,
            seed=[memory.seed] * rows,
            count=rows,
            on_set=on_set,
            batch_size=rows,
            negative_prompt=memory.negative_prompt,
            guidance=None,
            **memory.sampling,
        )
        tokens = whole("tokens", memory.tokens, 0, self.model.condition.length)
        if tokens:
            blank = call.condition.new_zeros(1, tokens, call.condition.shape[-1])
            condition, _ = self.model.condition.alike(call.condition, blank)
            null = None if call.null is None else self.model.condition.alike(call.null, blank)[0]
            call = replace(call, condition=condition, null=null)
        first = call.seeds[0] if memory.schedule_seed is None else memory.schedule_seed
        call = replace(call, schedule_seed=_seeds(first, 1)[0])
        made = to_pil(self.decode(self._generate(call), call.grid))[row]
        return Picture.of(made, replace(memory, version=Memory("image").version))

    def check_memory(self, memory: Memory) -> None:
        """Raise ValueError unless a memory can be of this model, in this precision."""
        if memory.manifest != self.manifest:
            raise ValueError(
                f"the model {self.source or '(of no folder)'} is not the one that made the picture:"
                f" its manifest's SHA-256 begins with {self.manifest[:10] or 'nothing'}, that of "
                f"the picture's with {memory.manifest[:10] or 'nothing'}"
            )
        if memory.precision != self.precision:
            names = [name or "ordinary float32" for name in (memory.precision, self.precision)]
            raise ValueError(
                f"the picture was made in {names[0]}, and the model computes in {names[1]}"
            )

    @property
    def precision(self) -> str:
        """Of its products, if it is laid out for one, as `from_pretrained` takes it; or empty."""
        if self.model.packing is not None:
            return self.model.packing
        dtype = next(self.model.parameters()).dtype
        return "" if dtype == torch.float32 else str(dtype).removeprefix("torch.")

    def memory_of(self, made: Any, chosen: SamplingDefaults | None = None, **known: Any) -> Memory:
        """What a picture of this model remembers.

        Args:
            made: what kind of picture it is, see `Memory`.
            chosen: the settings that it was sampled with; None: the model's own.
            known: other fields of `Memory`.
        """
        chosen = chosen or self.defaults
        settings = {**table(chosen.guidance), **table(chosen.settings)}
        return Memory(
            made,
            model=self.source,
            manifest=self.manifest,
            names=tuple(called(one, self.classes) for one in known.get("asked", ()))
            if self.text is None
            else (),
            sampling={"recipe": str(chosen.recipe), **settings},
            precision=self.precision,
            device=self.device.type,
            plugins=tuple(plugins_of(*_tables_of(chosen))),
            **known,
        )

    def _pictures(self, call: "_Call") -> list[Picture]:
        """Generate the images of a call, with what they remember."""
        codes, pictures = self._generate(call), list[Picture]()
        for first in range(0, call.images, call.batch_size):
            # Decoded with those that it was generated with, so that both can be repeated at once.
            part = to_pil(self.decode(codes[first : first + call.batch_size], call.grid))
            for row, made in enumerate(part):
                pictures.append(Picture.of(made, self._memory(call, first, row, len(part))))
        return pictures

    def _memory(self, call: "_Call", first: int, row: int, rows: int) -> Memory:
        """Of the image in a row of the batch that begins with the image ``first``."""
        index = first + row
        asked, seed = call.names[index // call.count], call.seeds[index]
        continued = call.given is not None
        return self.memory_of(
            "edit" if continued else "image",
            call.chosen,
            asked=(asked,),
            negative_prompt=call.negative,
            seed=seed,
            size=call.size or (self.size[1], self.size[0]),
            row=row,
            rows=rows,
            tokens=call.condition.shape[1] if self.text is not None else 0,
            schedule_seed=None if call.schedule_seed == seed else call.schedule_seed,
            note="from given codes" if continued else "",
        )

    def sample_codes(
        self,
        classes: Ask | Iterable[Ask],
        *,
        size: Sequence[SupportsIndex] | None = None,
        recipe: str | Recipe | None = None,
        guidance: float | Guidance | None = None,
        seed: SupportsIndex | Iterable[SupportsIndex] = 0,
        count: int = 1,
        on_set: Callable[[PartialImages], None] | None = None,
        batch_size: int = 64,
        given: Tensor | None = None,
        negative_prompt: str | None = None,
        progress: bool = False,
        **settings: Any,
    ) -> Tensor:
        """Generate ``count`` images of each class or text, one after the other, as codes.

        Args:
            classes: a class name or id, or a text if the model `reads` texts; or several. Among
                several, (first, second, 0.3) is what lies so far between two. Whole numbers
                here and below may be numpy's or torch's, and lists of them arrays.
            size: (height, width) in pixels; None is the model's own.
            recipe: any sampling recipe, whatever the model was trained with. None is the model's
                own, which has fewer sets on a grid of fewer tokens.
            guidance: a scale, which changes as the model's own guidance does; or a `Guidance`.
            seed: image i uses seed + i; or one seed for each image. A seed gives the same image in
                any batch up to rounding: float32 sums of few rows may end in another digit than
                those of many, and a token changes whose draw lies that near to an edge. (Set sizes
                of a random schedule are shared by the whole call.)
            count: images per class.
            on_set: called after each set of each batch with the partial images.
            batch_size: images generated at once.
            given: codes that are kept, int64 ``[images or 1, N]``; where they are -1, at as many
                tokens of each image, codes are made.
            negative_prompt: what guidance leads away from, in the place of no text.
            progress: show a bar that counts sets, in a terminal or a notebook.
            settings: fields of `SamplingSettings`: temperature, top_k, top_p, min_p, attention,
                cache, smoothing.

        Returns:
            Codes int64 ``[images, N]``. With smoothing they are soft: float ``[images, N, V]``.

        Raises:
            ValueError: an argument is wrong.
        """
        options = {"recipe": recipe, "guidance": guidance, **settings}
        return self._generate(
            self._asked(
                classes,
                size=size,
                seed=seed,
                count=count,
                on_set=on_set,
                batch_size=batch_size,
                given=given,
                negative_prompt=negative_prompt,
                progress=progress,
                **options,
            )
        )

    def _asked(
        self,
        classes: Any,
        *,
        size: Any = None,
        seed: Any = 0,
        count: Any = 1,
        on_set: Callable[[PartialImages], None] | None = None,
        batch_size: Any = 64,
        given: Tensor | None = None,
        negative_prompt: str | None = None,
        progress: bool = False,
        nothing: bool = False,
        **settings: Any,
    ) -> "_Call":
        """The arguments of `sample_codes`, checked; with ``nothing``, of no class or text."""
        names = [None] if nothing else _listed(classes, RULES[self.reads])
        if not nothing and any(name is None for name in names):
            raise ValueError(f"{RULES[self.reads]}, not NoneType")
        if not names:
            raise ValueError(f"there must be a {self.reads}")
        most = max(1, MAX_IMAGES // len(names))
        why = f"a call makes at most {MAX_IMAGES} images, all held in memory"
        count = whole("count", count, 1, most, why)
        batch_size = whole("batch_size", batch_size, 1, MAX_BATCH, "images of a batch are one step")
        images, grid = count * len(names), self.grid_of(size)
        seeds = _seeds(seed, images)
        if on_set is not None and not callable(on_set):
            raise ValueError(f"`on_set` must be a function, not {quoted(on_set)}")
        if settings.get("recipe") is None:
            settings["recipe"] = self.recipe_on(grid)
        chosen = self.defaults.changed(settings)
        self.check_sampling(chosen)
        free = None if given is None else self._planned(given, images, grid)
        if free is not None and len(free) > 1 and chosen.recipe.schedule == "own":
            batch_size = 1  # sets of each image's own
        if negative_prompt is not None and self.text is not None and chosen.guidance.off:
            raise ValueError("`negative_prompt` needs guidance, which is off")
        names = [self._whom(name) for name in names]
        condition, null = self._conditions(names, negative_prompt)
        return _Call(
            names,
            count,
            seeds,
            None if size is None else _sides(size),
            grid,
            chosen,
            batch_size,
            negative_prompt,
            condition,
            null,
            given,
            free,
            on_set,
            seeds[0],
            progress,
        )

    def _generate(self, call: "_Call") -> Tensor:
        """The codes of a call's images."""
        own_precision = torch.autocast(self.device.type, enabled=False)  # whatever is set outside
        given, free, null, made = call.given, call.free, call.null, []
        bar = tqdm(desc="sets", unit="set", leave=False, disable=not call.progress)
        for first in range(0, call.images, call.batch_size):
            batch = slice(first, first + call.batch_size)
            cells = free if free is None or len(free) == 1 else free[batch]
            drawn = (call.seeds[batch], call.schedule_seed)
            noise, plan = noise_and_plan(call.chosen.recipe, call.grid, *drawn, cells)
            self.model.check(plan)
            rows = torch.arange(call.images, device=self.device)[batch] // call.count
            teller = self._teller(call, first, bar)
            how = (call.chosen.guidance, call.chosen.settings, teller)
            kept = None if given is None else given.expand(call.images, -1)[batch]
            away = None if null is None else null.expand(len(rows), *null.shape[1:])
            with own_precision:
                condition = call.condition[rows]
                made.append(generate(self.model, condition, plan, noise, *how, kept, away))
        bar.close()
        return torch.cat(made)

    def _conditions(self, asked: list[Any], negative: str | None) -> tuple[Tensor, Tensor | None]:
        """What the model reads, a row of each, and what guidance leads away from if it is said."""
        condition = self.condition_of(asked)
        if negative is None:
            return condition, None
        if self.text is None:
            raise ValueError("`negative_prompt` is for models that read texts")
        return self.model.condition.alike(condition, self.condition_of([negative]))

    def check_sampling(self, chosen: SamplingDefaults) -> None:
        """Raise ValueError if the model cannot be sampled with these settings."""
        if not chosen.guidance.off and self.model.config.class_dropout == 0:
            raise ValueError(
                "this model was trained with `class_dropout` = 0 and knows no 'no class': "
                f"guidance (={chosen.guidance.scale:g}) must be {chosen.guidance.neutral:g}"
            )
        self.model.check_attention(chosen.settings.attention)
        check_smoothing(self.model, chosen.settings)

    def edit(
        self,
        image: Image.Image,
        mask: Any,
        class_: str | int,
        *,
        size: Sequence[SupportsIndex] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """Make what a mask covers anew; every pixel outside it stays as it is.

        Inpainting keeps the image's class or text, and editing asks for another one.

        >>> mask = box_mask(image.size, (16, 0, 32, 32))
        >>> images = pipe.edit(image, mask, "cat-face", count=4)

        Args:
            image: in any mode, transparency is put on white.
            mask: a PIL image of the same size, white where the image is made anew; or bool
                ``[height, width]``.
            class_: name or id of the class, or a text if the model `reads` texts.
            size: (height, width) that the image is cropped in the middle and resized to, and the
                mask with it. None is the model's `size`; but of a model of any grid the image keeps
                its own, whatever that is.
            options: those of `redraw`.

        Returns:
            ``count`` pictures.

        Raises:
            ValueError: an argument is wrong, the model cannot make these tokens, or there are too
                many of them.
        """
        return self.redraw(prepare(image, mask, self.edited_size(size)), class_, **options)

    def outpaint(
        self,
        image: Image.Image,
        margins: tuple[int, int, int, int],
        class_: str | int,
        *,
        size: Sequence[SupportsIndex] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """Make a larger picture around an image.

        >>> wide = pipe.outpaint(image, (0, 0, 32, 0), "a red apple next to a dog face", count=4)

        Args:
            image: as of `edit`.
            margins: pixels to make at its left, top, right and bottom.
            class_: name or id of the class, or a text if the model `reads` texts.
            size: (height, width) of the results, into which the image is shrunk. None is the
                model's `size`; but of a model of any grid the image keeps its own size, and the
                margins lie around it.
            options: those of `redraw`.

        Returns:
            ``count`` pictures.

        Raises:
            ValueError: as of `edit`, or the margins leave nothing.
        """
        return self.redraw(outpaint(image, self.edited_size(size), margins), class_, **options)

    def edited_size(self, size: Sequence[SupportsIndex] | None = None) -> tuple[int, int] | None:
        """(width, height) that an image is brought to before it is edited; None: it keeps its own.

        ``size`` is the (height, width) that is asked for, if one is.

        Raises:
            ValueError: the model makes no pictures of this size.
        """
        if size is None:
            return None if self.model.any_grid else self.size
        self.grid_of(size)
        height, width = _sides(size)
        return width, height

    def vary(
        self,
        image: Image.Image,
        share: float,
        class_: str | int,
        *,
        size: Sequence[SupportsIndex] | None = None,
        seed: SupportsIndex | Iterable[SupportsIndex] = 0,
        count: int = 1,
        on_set: Callable[[PartialImages], None] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """Make a random share of an image's tokens anew, each result others: variations of it.

        >>> images = pipe.vary(image, 0.3, "cat-face", count=4)

        Args:
            image: as of `edit`.
            share: above 0, and at most 1: a usual image. At least one token is made.
            class_: name or id of the class, or a text if the model `reads` texts.
            size: as of `edit`.
            seed: as of `sample_codes`; which tokens are made depends on it too.
            count: results.
            on_set: as in a call.
            options: those of `sample_codes`. The kept tokens are one set more before those of the
                recipe; a decoder-only model can only continue an image.

        Returns:
            ``count`` pictures. As tokens have no edges, every pixel may change a little.

        Raises:
            ValueError: as of `edit`.
        """
        part = as_real(share)
        if part is None or not 0 < part <= 1:
            raise ValueError(f"`share` (={quoted(share)}) must be above 0 and at most 1")
        count = whole("count", count, 1, MAX_IMAGES, "all results are held in memory")
        _check_options(options)
        pixels = _pixels(fitted(image, self.edited_size(size)))
        height, width = pixels.shape[1:]
        laid = self._laid(torch.zeros(height, width, dtype=torch.bool, device="cpu"))
        pictures = laid.spread(pixels)[None]
        grid, seeds = self.grid_of(laid.size), _seeds(seed, count)
        codes = encode_images(self.tokenizer, pictures)
        given = codes.masked_fill(random_cells(codes.shape[1], part, seeds), -1)

        def tell(partial: PartialImages) -> None:
            if on_set is not None:
                partial.finish = lambda made: made.crop(laid.box)
                on_set(partial)

        how: dict[str, Any] = {"seed": seeds, "count": count, **options}
        how["on_set"] = None if on_set is None else tell
        made = self.sample_codes([class_], size=laid.size, given=given, **how)
        cropped = [picture.crop(laid.box) for picture in to_pil(self.decode(made, grid))]
        return self._edited(cropped, [class_], f"{100 * part:g} % of a picture made anew", how)

    def redraw(
        self,
        task: Task | Sequence[Task],
        class_: str | int | Sequence[str | int],
        *,
        rounds: int = 2,
        dilate: int = 0,
        seam: int = 0,
        on_set: Callable[[PartialImages], None] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """`edit` of a picture and a mask that are prepared already.

        A token is made anew if any of its pixels is masked. What lies under the mask has no
        influence on the results: a smooth filling hides it before the image is encoded
        (`setar.pictures.masks.hide`). But a filling disturbs the tokens around it, so there is a
        second round, in which each first result is the filling of its own.

        Args:
            task: picture and mask of the model's `size`; of any size if it makes any grid. Or
                several with one mask, a result each.
            class_: name or id of the class, or a text if the model `reads` texts; one for each of
                several tasks.
            rounds: 1 is twice as fast, and rougher.
            dilate: pixels by which the mask grows in every direction.
            seam: pixels around the mask over which the picture turns into what is made; without,
                every pixel outside the mask stays exactly.
            on_set: as in a call, in the last round.
            options: those of `sample_codes`. The kept tokens are one set more before those of the
                recipe; a VAR and a decoder-only model have their own recipe only, and the latter
                can only make the last tokens in raster order.
        """
        _check_options(options)
        rounds = whole("rounds", rounds, 1, 100, "two are enough")
        dilate, seam = (
            whole(name, value, 0, MOST_MARGIN, "no picture is larger")
            for name, value in (("dilate", dilate), ("seam", seam))
        )
        several = isinstance(task, list | tuple) and not isinstance(task, Task)
        tasks: list[Task] = list(task) if several else [task]  # type: ignore[arg-type, list-item]
        asked: list[Any] = list(class_) if several else [class_]  # type: ignore[arg-type]
        _check_tasks(tasks, asked, whole("count", options.get("count", 1), 1), on_set)
        task = tasks[0]
        mask = torch.from_numpy(np.asarray(grow(task, dilate).mask) > 0)
        laid, shown = self._laid(mask), seam_mask(mask, seam)
        hidden = laid.spread(mask)
        pixels = torch.stack([laid.spread(_pixels(each.image)) for each in tasks])
        grid = self.grid_of(laid.size)
        free = free_cells(hidden, self.tokenizer.scales or (grid,))

        def finish(made: Image.Image, image: Image.Image = tasks[0].image) -> Image.Image:
            return Image.composite(made.crop(laid.box), image, shown)

        def tell(partial: PartialImages) -> None:
            if on_set is not None:
                partial.finish = finish
                on_set(partial)

        pictures = made = torch.stack([hide(each, hidden) for each in pixels])
        for remaining in reversed(range(rounds)):
            kept = encode_images(self.tokenizer, pictures).masked_fill(free, -1)
            last = on_set is not None and not remaining
            codes = self.sample_codes(
                asked, size=laid.size, given=kept, on_set=tell if last else None, **options
            )
            made = self.decode(codes, grid)
            pictures = torch.where(hidden, made, pixels)
        sources = [tasks[index % len(tasks)].image for index in range(len(made))]
        results = [finish(*both) for both in zip(to_pil(made), sources, strict=True)]
        return self._edited(results, asked, "part of a picture made anew", options)

    def _edited(
        self, results: list[Image.Image], asked: list[Any], note: str, options: Mapping[str, Any]
    ) -> list[Picture]:
        """Results of an edit, with what they remember: not the picture that was edited."""
        known = ("seed", "count", "on_set", "batch_size", "negative_prompt", "progress")
        changes = {name: value for name, value in options.items() if name not in known}
        chosen, pictures = self.defaults.changed(changes), list[Picture]()
        seeds = _seeds(options.get("seed", 0), len(results))
        count = len(results) // len(asked)
        for index, (result, seed) in enumerate(zip(results, seeds, strict=True)):
            memory = self.memory_of(
                "edit",
                chosen,
                asked=(self._whom(asked[index // count]),),
                negative_prompt=options.get("negative_prompt"),
                seed=seed,
                size=(result.height, result.width),
                note=note,
            )
            pictures.append(Picture.of(result, memory))
        return pictures

    def _laid(self, mask: Tensor) -> "_Laid":
        """A picture of any size on whole tokens, if the model makes any grid; mask ``[H, W]``."""
        if not self.model.any_grid:
            return _Laid(range(mask.shape[0]), range(mask.shape[1]))
        down, across = self.stride
        kept = ~mask
        return _Laid(_whole_tokens(kept.any(1), down), _whole_tokens(kept.any(0), across))

    def decode(self, codes: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Codes ``[B, N]``, or soft ones, to pictures uint8 ``[B, 3, H, W]`` on the CPU.

        ``grid`` is (rows, columns), by default the model's own.

        Raises:
            ValueError: these are no codes of this model.
        """
        grid = grid or self.grid
        self._check_codes("codes", codes, grid)
        return decode_codes(self.tokenizer, codes, grid)

    def _check_codes(self, name: str, codes: Tensor, grid: tuple[int, int], least: int = 0) -> None:
        """ValueError unless these are codes ``[B, N]`` from ``least`` on, or soft ones."""
        tokens, vocabulary = math.prod(grid), self.tokenizer.vocabulary
        if not isinstance(codes, Tensor):
            raise ValueError(f"`{name}` must be a tensor, not {type(codes).__name__}")
        soft = codes.is_floating_point()
        shape = (len(codes), tokens, *[vocabulary] * soft) if codes.ndim else ()
        if codes.dtype == torch.bool or codes.is_complex() or not shape or codes.shape != shape:
            found = f"of shape {list(codes.shape)}, {str(codes.dtype).removeprefix('torch.')}"
            raise ValueError(f"`{name}` ({found}) must be whole numbers [images, {tokens}]")
        if codes.numel() and not soft:
            low, high = (int(edge) for edge in codes.aminmax())
            if low < least or high >= vocabulary:
                raise ValueError(
                    f"`{name}` (={low}..{high}) must be from {least} to {vocabulary - 1}"
                )

    def _teller(self, call: "_Call", first: int, bar: tqdm) -> Callable[[SetDone], None] | None:
        """What the sampling loop tells of a batch, told to the user and to a bar."""
        if call.on_set is None and not call.progress:
            return None

        def tell(done: SetDone) -> None:
            bar.total = done.steps * -(-call.images // call.batch_size)
            bar.update()
            if call.on_set is not None:
                call.on_set(PartialImages(self, done, first, call.grid))

        return tell

    def _planned(self, given: Tensor, images: int, grid: tuple[int, int]) -> Tensor | None:
        """Which tokens ``[1 or images, N]`` to plan; None if the model plans all of them."""
        self._check_codes("given", given, grid, -1)
        tokens = math.prod(grid)
        if given.shape not in ((1, tokens), (images, tokens)):
            raise ValueError(
                f"`given` (of shape {list(given.shape)}) must be [{images} or 1, {tokens}]"
            )
        free = (given < 0).cpu()
        counts = free.sum(1)
        if counts[0] < 1 or (counts != counts[0]).any():
            raise ValueError("`given` must be -1 at as many tokens of each image, at least at one")
        if (free == free[:1]).all():
            free = free[:1]
        if self.model.editing == "suffix":
            for cells in free:
                check_continuation(cells)
        return free if self.model.editing == "kept-first" else None


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


@dataclass(frozen=True)
class _Call:
    """What `Pipeline.sample_codes` is asked for, checked."""

    names: list[Any]
    """Ids of classes, or texts."""
    count: int
    seeds: list[int]
    """Of each image."""
    size: tuple[int, int] | None
    grid: tuple[int, int]
    chosen: SamplingDefaults
    batch_size: int
    negative: str | None
    condition: Tensor
    """A row for each name."""
    null: Tensor | None
    given: Tensor | None
    free: Tensor | None
    on_set: Callable[[PartialImages], None] | None
    schedule_seed: int
    """Draws random schedules, for all batches alike."""
    progress: bool

    @property
    def images(self) -> int:
        return len(self.names) * self.count


def _tables_of(chosen: SamplingDefaults) -> list[tuple[Any, str]]:
    """The entries of tables that settings name."""
    recipe = chosen.recipe
    schedules = [(SCHEDULES, name) for name in {recipe.schedule} - {*RESERVED}]
    return [(ORDERS, recipe.order), (GUIDANCE, chosen.guidance.schedule), *schedules]


class _Laid(NamedTuple):
    """Where each row and column of pixels on whole tokens comes from in a smaller picture."""

    rows: Sequence[int]
    columns: Sequence[int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of whole tokens."""
        return len(self.rows), len(self.columns)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Where the smaller picture lies in them: left, top, right and bottom."""
        left, top = self.columns.count(0) - 1, self.rows.count(0) - 1
        return left, top, left + max(self.columns) + 1, top + max(self.rows) + 1

    def spread(self, pixels: Tensor) -> Tensor:
        """Pixels ``[..., H, W]`` of the smaller picture; those at its edges go on beyond it."""
        rows, columns = (torch.tensor(part, device="cpu") for part in (self.rows, self.columns))
        return pixels[..., rows[:, None], columns]


def _check_tasks(tasks: Sequence[Any], asked: Sequence[Any], count: int, on_set: Any) -> None:
    """ValueError unless these are tasks that can be done at once."""
    wrong = [task for task in tasks if not isinstance(task, Task)]
    if wrong or not tasks:
        found = type(wrong[0]).__name__ if wrong else "none"
        raise ValueError(f"a task is a picture and a mask, prepared, not {found}")
    if len(tasks) == 1:
        return
    if len(asked) != len(tasks) or count != 1 or on_set is not None:
        raise ValueError(
            f"{len(tasks)} tasks at once need as many classes or prompts (={len(asked)}), "
            f"`count` (={count}) 1 and no `on_set`"
        )
    if any(task.mask.tobytes() != tasks[0].mask.tobytes() for task in tasks):
        raise ValueError("tasks that are done at once must have one mask")


def _check_options(options: Mapping[str, Any]) -> None:
    """ValueError if an edit is given what it says itself to `Pipeline.sample_codes`."""
    if own := sorted({"given", "size"} & options.keys()):
        raise ValueError(f"`{own[0]}` follows from the picture that is edited")


def _whole_tokens(kept: Tensor, stride: int) -> list[int]:
    """The index of each of ``[n]`` pixels along a side, repeated at the ends up to whole tokens.

    ``kept`` says where anything is kept: if it can, that begins with a whole token.
    """
    extra = -len(kept) % stride
    before = -int(kept.long().argmax()) % stride
    before = before if before <= extra else 0
    last = len(kept) - 1
    return [min(max(0, i), last) for i in range(-before, len(kept) + extra - before)]


def _pixels(picture: Image.Image) -> Tensor:
    """RGB as uint8 ``[3, H, W]``."""
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def _sides(size: Any) -> tuple[int, int]:
    """A size that is asked for; ValueError unless it is (height, width)."""
    sides = [as_whole(side) or 0 for side in _listed(size, "a size is (height, width)")]
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"`size` (={quoted(size)}) must be (height, width) in pixels")
    return sides[0], sides[1]


def _check_multiples(size: tuple[int, int], stride: tuple[int, int]) -> None:
    """ValueError unless whole tokens cover a size, (height, width), with the nearest that do."""
    if not any(side % step for side, step in zip(size, stride, strict=True)):
        return
    below = [max(side // step, 1) * step for side, step in zip(size, stride, strict=True)]
    above = [-(-side // step) * step for side, step in zip(size, stride, strict=True)]
    near = dict.fromkeys(f"{height}x{width}" for height, width in (below, above))
    steps = str(stride[0]) if stride[0] == stride[1] else f"{stride[0]} and {stride[1]}"
    raise ValueError(
        f"`size` (={size[0]}x{size[1]}, height x width) must be multiples of {steps} pixels, the "
        f"tokenizer's stride: {' or '.join(near)}"
    )


def check_names(names: Any) -> None:
    """ValueError unless these are class names: texts that can be printed on one line."""
    if not isinstance(names, Sequence) or isinstance(names, str | bytes):
        raise ValueError(f"`classes` must be a list of names, not {quoted(names)}")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"`classes` must be from 1 to {MAX_CLASSES} names, not {len(names)}")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"`classes` must be a list of names; {quoted(name)} is none")
        if not 1 <= len(name) <= MAX_NAME:
            raise ValueError(
                f"a class name must have from 1 to {MAX_NAME} characters, not {len(name)}"
            )
        if not is_text(name):
            raise ValueError(f"the class name {quoted(name)} holds a character that is no text")


def _listed(value: Any, rule: str) -> list[Any]:
    """One thing, or several, as a list; ValueError with the rule if it is neither."""
    if isinstance(value, str) or as_whole(value) is not None:
        return [value]
    if isinstance(value, Iterable) and not isinstance(value, bytes) and getattr(value, "ndim", 1):
        found = list(islice(value, MAX_IMAGES + 1))
        if len(found) <= MAX_IMAGES:
            return found
        raise ValueError(f"a call makes at most {MAX_IMAGES} images, all held in memory")
    raise ValueError(f"{rule}, not {type(value).__name__}")


def _seeds(seed: Any, images: int) -> list[int]:
    """A seed for each image."""
    if (first := as_whole(seed)) is not None:
        seeds = range(first, first + images)
    else:
        seeds = _listed(seed, "a seed is a whole number, or there is one for each image")
    if len(seeds) != images:
        raise ValueError(f"{len(seeds)} seeds for {images} images; give one seed or one per image")
    found = [as_whole(value) for value in seeds]
    for value, number in zip(seeds, found, strict=True):
        if number is None or not 0 <= number < 2**63:
            raise ValueError(
                f"a seed (={quoted(value)}) must be a whole number from 0 to 2**63 - 1"
            )
    return [number for number in found if number is not None]
