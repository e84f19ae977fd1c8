"""What a person asks of a model, as a page or a program sends it, and what it comes to."""

from dataclasses import dataclass
from typing import Any

from setar.pipeline import Pipeline
from setar.sampling.settings import SamplingDefaults
from setar.web.limits import count_of, guidance_of, seed_of, text_of, typed


@dataclass(frozen=True)
class Wish:
    """A request, unchecked: any field may hold anything. None and empty texts are the model's own;
    numbers may be texts, as somebody typed them.

    Every method raises ValueError, one line with the rule, for what cannot be done.
    """

    model: Any
    class_name: Any = ""
    """Name or id of a class, of a model that has classes."""
    prompt: Any = ""
    """Of a model that reads texts."""
    negative_prompt: Any = ""
    recipe: Any = ""
    guidance: Any = None
    schedule: Any = ""
    """Of guidance."""
    temperature: Any = 1.0
    top_k: Any = 0
    top_p: Any = 1.0
    seed: Any = 0
    count: Any = 1

    def asked(self, pipe: Pipeline) -> int | str:
        """The class or the text that the model is asked for."""
        name, text = text_of("class", self.class_name), text_of("prompt", self.prompt)
        if pipe.reads == "text":
            if not text:
                raise ValueError("write a prompt first: this model draws what a text says")
            return text
        if not name:
            raise ValueError("choose a class first: this model draws classes")
        return pipe.class_id(name)

    def named(self, pipe: Pipeline) -> str:
        """The same in words."""
        asked = self.asked(pipe)
        return asked if isinstance(asked, str) else pipe.classes[asked]

    def chosen(self, pipe: Pipeline) -> SamplingDefaults:
        """Recipe, guidance and settings."""
        return pipe.defaults.changed(
            {
                "recipe": text_of("recipe", self.recipe) or None,
                "scale": guidance_of(self.guidance),
                "schedule": text_of("schedule", self.schedule) or None,
                "temperature": typed(self.temperature),
                "top_k": typed(self.top_k),
                "top_p": typed(self.top_p),
            }
        )

    def options(self, pipe: Pipeline) -> dict[str, Any]:
        """Arguments of a call of the pipeline, but for size and callback."""
        chosen = self.chosen(pipe)
        settings = chosen.settings
        own = not text_of("recipe", self.recipe)
        negative = text_of("negative prompt", self.negative_prompt)
        return {
            "recipe": None if own else chosen.recipe,
            "guidance": chosen.guidance,
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "seed": seed_of(self.seed),
            "count": count_of(self.count),
            "negative_prompt": negative if negative and pipe.reads == "text" else None,
        }
