"""The page itself: what Gradio shows, and which function each part of it calls.

All that a function raises comes to `Page.process_api`, which makes one line of it, whoever asked: a
person, a program, or somebody who tries what happens.
"""

import html
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple, TypeVar

import gradio as gr
from gradio import themes
from gradio.components import Component
from gradio.exceptions import InvalidPathError
from PIL import Image

from setar.registry import one_line
from setar.sampling.guidance import GUIDANCE
from setar.web import comparing, drawing, editing, inside
from setar.web.framing import framing
from setar.web.limits import MOST_AROUND, MOST_PICTURES, MOST_RECIPES, read_picture
from setar.web.remembered import Remembered, remembered
from setar.web.results import Desk, Result
from setar.web.shelf import Shelf
from setar.web.watched import Running, Stopped
from setar.web.wishes import Wish

SAMPLING = "sampling"
"""What takes turns: one request makes pictures, the others wait in the queue."""
LONGEST = 300
"""Letters of an error."""
CANVAS = 512
"""Pixels across a picture that is painted on, at least."""
COUNT = 4
"""Pictures, unless somebody asks for more."""
AGE = 3600
"""Seconds after which the page's copies of pictures are removed."""
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Of what follows by itself, and is no request of anybody's."""
TURNS: dict[str, Any] = {"concurrency_id": SAMPLING, "concurrency_limit": 1}
"""Of what makes pictures."""
BUTTONS: tuple[Literal["download", "fullscreen"], ...] = ("download", "fullscreen")
"""Of a picture; Gradio's own has one more, which sends it to a site of others."""
LOG = logging.getLogger("setar.web")

Kind = TypeVar("Kind", bound=Component)

STYLE = """
#drawn, #edited { min-height: 0; }
#drawn .grid-wrap, #edited .grid-wrap { min-height: 120px; max-height: none; }
button[role=tab].selected { color: var(--primary-700); }
.dark button[role=tab].selected { color: var(--primary-400); }
.dark #plan, .dark #inside-plan, .dark #masks { background: black; }  /* drawings are grey */
#inside-plan .image-container, #masks .image-container, #reconstruction .image-container,
#sheet .image-container { padding-top: 40px; }  /* below its label */
@media (max-width: 640px) {
  #drawn .grid-container, #edited .grid-container { grid-template-columns: repeat(2, 1fr); }
}
"""


def theme() -> themes.Base:
    """Fonts of the visitor's own system, none is fetched from anywhere; and more contrast."""
    fonts = ["system-ui", "sans-serif"]
    found = themes.Soft(font=fonts, font_mono=["ui-monospace", "monospace"])
    return found.set(
        block_title_text_color="*primary_700",
        block_label_text_color="*primary_700",
        block_info_text_color="*neutral_500",
        body_text_color_subdued="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


class Page(gr.Blocks):
    """Blocks whose errors are one line each."""

    async def process_api(self, *arguments: Any, **options: Any) -> Any:
        """As of `gradio.Blocks`; whatever goes wrong becomes a `gradio.Error` of one line."""
        try:
            return await super().process_api(*arguments, **options)
        except Exception as error:
            if isinstance(error, StopAsyncIteration):
                raise
            raise gr.Error(kind_line(error), title="", print_exception=False) from None

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """As of `gradio.Blocks`, which passes over values that are too many."""
        super().validate_inputs(block_fn, inputs)
        if len(inputs) > (most := len(block_fn.inputs)):
            name = block_fn.api_name or "this function"
            raise ValueError(f"{name} takes at most {most} values, not {len(inputs)}")


def kind_line(error: Exception) -> str:
    """What a person is told of an error, as HTML; of a defect of ours the log says more."""
    if isinstance(error, gr.Error):
        text = error.message
    elif isinstance(error, InvalidPathError):
        text = "a picture must be uploaded: no other files are read here"
    elif isinstance(error, Stopped):
        text = "stopped"
    elif isinstance(error, MemoryError) or "allocate memory" in str(error):
        text = "that needs more memory than there is: ask for fewer or smaller pictures"
    elif isinstance(error, ValueError | ImportError):
        text = str(error).split("\n")[0] or type(error).__name__
    else:
        LOG.error("a request failed", exc_info=error)
        text = f"that went wrong here ({type(error).__name__}); the studio's own log says more"
    line = one_line(text)
    return html.escape(line if len(line) <= LONGEST else line[:LONGEST] + "...", quote=False)


def check_uploaded(source: Any) -> None:
    """ValueError if it is an address of the web: this machine fetches nothing for anybody."""
    if str(source).lower().startswith(("http:", "https:")):
        raise ValueError("a picture must be uploaded: it is not fetched from an address")


def upload(**options: Any) -> gr.Image:
    """A picture; the function gets its file, which nobody has decoded yet."""
    component = gr.Image(type="filepath", buttons=[*BUTTONS], **options)
    return _unread(component, lambda payload: None if payload is None else payload.path)


def painting(**options: Any) -> gr.ImageEditor:
    """A picture that is painted on; the function gets ``{"background": ..., "layers": [...]}``,
    files or bytes, which nobody has decoded yet.
    """
    component = gr.ImageEditor(type="filepath", buttons=[*BUTTONS], **options)
    component.blob_storage = Few()  # paintings on their way; pages send parts of them ahead

    def parts(payload: Any) -> dict[str, Any] | None:
        if payload is not None and payload.id is not None:
            payload = component.blob_storage.pop(payload.id, None)
        if payload is None:
            return None
        layers = [_source(layer) for layer in payload.layers or () if layer is not None]
        return {"background": _source(payload.background), "layers": layers}

    return _unread(component, parts)


def _unread(component: Kind, preprocess: Callable[[Any], Any]) -> Kind:
    """A component whose files were uploaded, and are handed on by ``preprocess`` as they are.

    Its methods are replaced, and it has no class of its own, since Gradio writes a file beside the
    source of every new class of components.
    """
    move = component.async_move_resource_to_block_cache

    async def checked(source: Any) -> str | None:
        check_uploaded(source)
        return await move(source)

    vars(component).update(preprocess=preprocess, async_move_resource_to_block_cache=checked)
    return component


class Few(dict[str, Any]):
    """A dict of a few entries: the oldest makes room for a new one."""

    MOST = 16

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > self.MOST:
            del self[next(iter(self))]


def _source(part: Any) -> Any:
    return part if part is None or isinstance(part, bytes) else part.path


class Asking(NamedTuple):
    """The controls that say what to make, and how."""

    model: gr.Dropdown
    class_name: gr.Dropdown
    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    size: gr.Textbox
    recipe: gr.Textbox
    guidance: gr.Textbox
    schedule: gr.Dropdown
    temperature: gr.Textbox
    top_k: gr.Textbox
    top_p: gr.Textbox
    seed: gr.Number
    count: gr.Slider  # type: ignore[assignment]


class Studio:
    """The page and what it holds.

    Args:
        shelf: the models; the first is loaded at once.
        folder: where files are written.

    Attributes:
        page: to be launched.
        running: what is being made, for whom.
    """

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self.shelf, self.desk, self.running = shelf, Desk(folder), Running()
        self.page = Page(title="setar studio", analytics_enabled=False, delete_cache=(AGE, AGE))
        with self.page:
            gr.Markdown(
                "# setar studio\nChoose what to draw, and how many tokens are made at a time: "
                "from one after the other to all at once."
            )
            with gr.Tabs() as tabs:
                with gr.Tab("Draw", id="draw"):
                    further, chosen, edit_again = self._draw_tab()
                with gr.Tab("Edit", id="edit"):
                    canvas = self._edit_tab()
                with gr.Tab("Compare", id="compare"):
                    self._compare_tab()
                with gr.Tab("Inside", id="inside"):
                    self._inside_tab()
            edit_again.click(
                _to_edit,
                [further, chosen],
                [canvas, tabs],
                api_visibility="private",
            )
            self.page.unload(self._leave)

    def _leave(self, request: gr.Request) -> None:
        self.running.leave(str(request.session_hash))

    def _stop(self, request: gr.Request) -> str:
        self._leave(request)
        return "stopped"

    def _models(self) -> gr.Dropdown:
        names = list(self.shelf.names)
        return gr.Dropdown(names, value=names[0], label="Model", allow_custom_value=True)

    def _asking(self, recipes: bool = True, count: int = COUNT) -> Asking:
        """The controls of a tab, which follow its model."""
        pipe = self.shelf.pipe(self.shelf.names[0])
        reads, facts = pipe.reads == "text", _placeholders(pipe)
        first = pipe.classes[0] if pipe.classes else ""
        model = self._models()
        class_name = gr.Dropdown(
            list(pipe.classes),
            value=first,
            label="Class",
            info="Type to search.",
            allow_custom_value=True,
            visible=not reads,
        )
        prompt = gr.Textbox(
            "",
            label="Prompt",
            placeholder="a red apple next to a dog face, Twemoji style",
            visible=reads,
        )
        recipe = gr.Textbox(
            "",
            label="Recipe",
            info="Order, sets and schedule; empty: the model's own.",
            placeholder=facts[1],
            visible=recipes,
        )
        with gr.Accordion("More settings", open=False):
            negative = gr.Textbox("", label="Negative prompt", visible=reads)
            size = gr.Textbox(
                "",
                label="Size",
                info="Height x width in pixels; empty: the model's own.",
                placeholder=facts[0],
            )
            # Texts, although numbers are meant: an empty field of Gradio's for numbers says 0.
            guidance = gr.Textbox(
                "", label="Guidance", info="How closely to follow.", placeholder=facts[2]
            )
            schedule = gr.Dropdown(
                [("the model's own", ""), *((name, name) for name in GUIDANCE)],
                value="",
                label="Guidance schedule",
                allow_custom_value=True,
            )
            temperature = gr.Textbox(
                "",
                label="Temperature",
                info="Below 1: safer; above: wilder.",
                placeholder=facts[3],
            )
            top_k = gr.Textbox("", label="Top-k", info="0: all codes.", placeholder=facts[4])
            top_p = gr.Textbox("", label="Top-p", info="1: all codes.", placeholder=facts[5])
        with gr.Row():
            seed = gr.Number(label="Seed", value=0, min_width=100)
            dice = gr.Button("Roll the dice", min_width=100)
        pictures = gr.Slider(1, MOST_PICTURES, value=count, step=1, label="Pictures")
        dice.click(
            lambda: random.randrange(2**31), None, seed, api_visibility="private", queue=False
        )
        follows = [class_name, prompt, negative, size, recipe, guidance, temperature, top_k, top_p]
        model.input(self._follow, model, follows, api_visibility="private", queue=False)
        return Asking(
            model,
            class_name,
            prompt,
            negative,
            size,
            recipe,
            guidance,
            schedule,
            temperature,
            top_k,
            top_p,
            seed,
            pictures,
        )

    def _follow(self, model: Any) -> list[Any]:
        """What changes in the controls when another model is chosen."""
        pipe = self.shelf.pipe(model)
        reads, facts = pipe.reads == "text", _placeholders(pipe)
        first = pipe.classes[0] if pipe.classes else ""
        fields = [gr.update(value="", placeholder=fact) for fact in facts[2:]]
        return [
            gr.update(choices=list(pipe.classes), value=first, visible=not reads),
            gr.update(visible=reads),
            gr.update(visible=reads, value=""),
            gr.update(value="", placeholder=facts[0]),
            gr.update(value="", placeholder=facts[1]),
            *fields,
        ]

    def _taken_over(self, file: Any) -> list[Any]:
        """What the controls say, of a picture that remembers; what it is, and words."""
        known = remembered(self.shelf, file)
        wish = known.wish
        class_name, prompt, negative, size, recipe, *fields = self._follow(wish.model)
        numbers = [wish.guidance, wish.temperature, wish.top_k, wish.top_p]
        guidance, *filters = [
            {**field, "value": value} for field, value in zip(fields, numbers, strict=True)
        ]
        return [
            wish.model,
            {**class_name, "value": wish.class_name},
            {**prompt, "value": wish.prompt},
            {**negative, "value": wish.negative_prompt},
            {**size, "value": known.size},
            {**recipe, "value": wish.recipe},
            guidance,
            wish.schedule,
            *filters,
            wish.seed,
            wish.count,
            known,
            known.words,
        ]

    def _draw_tab(self) -> tuple[gr.State, gr.State, gr.Button]:
        pipe = self.shelf.pipe(self.shelf.names[0])
        own = pipe.defaults.recipe
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                with gr.Accordion("Begin with a picture that was made here", open=False):
                    picture = upload(
                        label="A PNG file: its settings are taken over",
                        sources=["upload"],
                        height=180,
                        elem_id="remembered",
                    )
                asking = self._asking()
                with gr.Group():
                    share = gr.Slider(
                        0,
                        100,
                        value=inside.share_of(pipe, own),
                        step=1,
                        label="How many tokens at a time",
                        info="0: one after the other; 100: all at once.",
                        elem_id="speed",
                    )
                    with gr.Row():
                        orders, schedules = inside.orders(), inside.schedules()
                        order = gr.Dropdown(
                            orders,
                            value=own.order if own.order in orders else orders[0],
                            label="Order",
                            min_width=120,
                        )
                        schedule = gr.Dropdown(
                            schedules,
                            value=own.schedule if own.schedule in schedules else "cosine",
                            label="Sizes of sets",
                            min_width=120,
                        )
                button = gr.Button("Draw", variant="primary", elem_id="draw-button")
                stop = gr.Button("Stop")
            with gr.Column(scale=3, min_width=280):
                gallery, words = _gallery("Pictures", 4, "drawn"), _words("draw")
                edit_again = gr.Button("Edit the chosen picture further")
                animation = _animation()
                plan = _shown_image(
                    "Order and sets of the first picture", "plan", show_label=False, height=380
                )
                sizes = gr.Textbox("", label="Sets", interactive=False, elem_id="sets")
        results, chosen, known = gr.State([]), gr.State(0), gr.State(None)
        drawn = [gallery, words, animation, results]

        def draw(
            request: gr.Request,
            model: str,
            class_name: str,
            prompt: str,
            negative_prompt: str,
            size: str,
            recipe: str,
            guidance: float | None = None,
            guidance_schedule: str | None = None,
            temperature: float | None = None,
            top_k: float | None = None,
            top_p: float | None = None,
            seed: float | None = None,
            count: float | None = None,
            known: Remembered | None = None,
        ) -> Iterator[Any]:
            """Pictures of a class or a prompt, set by set; the last ones are finished."""
            said = (model, class_name, prompt, negative_prompt, recipe)
            filters = (temperature, top_k, top_p)
            wish = Wish(*said, guidance, guidance_schedule, *filters, seed, count)
            yield from self._shown(
                request, lambda stop: drawing.draw(self.shelf, self.desk, wish, size, stop, known)
            )

        picture.upload(self._taken_over, picture, [*asking, known, words], **QUIET)
        inputs = [*asking, known]
        first = gr.on(
            [button.click, asking.prompt.submit], draw, inputs, drawn, api_name="draw", **TURNS
        )
        building = [asking.model, order, share, schedule, asking.size]

        def build(model: Any, order: Any, share: Any, schedule: Any, size: Any) -> str:
            return inside.built(self.shelf, model, order, share, schedule, size)

        gr.on(  # the keys of a keyboard too, which release nothing
            [share.input, order.input, schedule.input],
            build,
            building,
            asking.recipe,
            queue=False,
            trigger_mode="always_last",
            **QUIET,
        )
        released = share.release(build, building, asking.recipe, queue=False, **QUIET)
        second = released.then(draw, inputs, drawn, api_visibility="private", **TURNS)
        stop.click(self._stop, None, words, cancels=[first, second], queue=False, **QUIET)
        planning = [asking.model, asking.recipe, asking.size, asking.seed]

        def plan_sets(model: str, recipe: str, size: str, seed: float) -> tuple[Image.Image, str]:
            """The numbered grid of a recipe, with its sets coloured, and the same in words."""
            return inside.sets(self.shelf, model, recipe, size, seed)

        def plan_typed(model: Any, recipe: Any, size: Any, seed: Any) -> tuple[Any, str]:
            """The same while somebody types: what is no recipe yet is no reason for an alarm."""
            try:
                return inside.sets(self.shelf, model, recipe, size, seed)
            except ValueError as error:
                return gr.skip(), f"not yet: {one_line(str(error))}"

        self.page.load(plan_sets, planning, [plan, sizes], api_name="plan", show_progress="hidden")
        gr.on(
            [part.change for part in planning],
            plan_typed,
            planning,
            [plan, sizes],
            trigger_mode="always_last",
            **QUIET,
        )

        def choose(event: gr.SelectData) -> int:
            return event.index

        gallery.select(choose, None, chosen, queue=False, **QUIET)
        return results, chosen, edit_again

    def _shown(
        self, request: gr.Request, start: Callable[[Event], Iterator[Result]]
    ) -> Iterator[tuple[Any, ...]]:
        """Results as a gallery, words, an animation and files, until nobody wants them any more."""
        with self.running.of(str(request.session_hash)) as stop:
            for result in start(stop):
                yield _outputs(result)

    def _edit_tab(self) -> gr.ImageEditor:
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                gr.Markdown("Upload or take a picture, and paint over what is made anew.")
                canvas = painting(
                    label="Picture: paint over what is made anew",
                    show_label=False,
                    format="png",
                    canvas_size=(CANVAS, CANVAS),
                    brush=gr.Brush(
                        default_size=48, colors=["#e0405099"], default_color="#e0405099"
                    ),
                    transforms=(),
                    layers=gr.LayerOptions(allow_additional_layers=False),
                    elem_id="painting",
                )
                with gr.Accordion("Make more around it", open=False) as around:
                    gr.Markdown("Drag the edges of the picture, or move them with the arrow keys.")
                    place = gr.Row()
                    margins = [
                        gr.Slider(
                            0, MOST_AROUND, value=0, step=1, label=f"{side.title()} (percent)"
                        )
                        for side in editing.SIDES
                    ]
                    with place:
                        frame = framing(margins, elem_id="frame")
                seam = gr.Slider(0, editing.MOST_SEAM, value=0, step=1, label="Soft edge (pixels)")
            with gr.Column(scale=2, min_width=280):
                asking = self._asking()
                button = gr.Button("Make anew", variant="primary", elem_id="edit-button")
                stop = gr.Button("Stop")
            with gr.Column(scale=3, min_width=280):
                gallery, words = _gallery("Results", 2, "edited"), _words("edit")
                animation = _animation()
        results = gr.State([])

        def edit(
            request: gr.Request,
            picture: dict[str, Any],
            left: float,
            top: float,
            right: float,
            bottom: float,
            seam: float,
            model: str,
            class_name: str,
            prompt: str,
            negative_prompt: str,
            size: str,
            recipe: str,
            guidance: float | None = None,
            guidance_schedule: str | None = None,
            temperature: float | None = None,
            top_k: float | None = None,
            top_p: float | None = None,
            seed: float | None = None,
            count: float | None = None,
        ) -> Iterator[Any]:
            """What is painted over, or what lies around a picture, made anew; set by set."""
            said = (model, class_name, prompt, negative_prompt, recipe)
            filters = (temperature, top_k, top_p)
            wish = Wish(*said, guidance, guidance_schedule, *filters, seed, count)
            sides = (left, top, right, bottom)
            painted = (picture, sides, seam, size)
            yield from self._shown(
                request, lambda stop: editing.edit(self.shelf, self.desk, wish, *painted, stop)
            )

        event = button.click(
            edit,
            [canvas, *margins, seam, *asking],
            [gallery, words, animation, results],
            api_name="edit",
            **TURNS,
        )
        stop.click(self._stop, None, words, cancels=[event], queue=False, **QUIET)

        def fill(picture: Any, model: Any, size: Any) -> Any:
            return editing.frame(self.shelf, model, picture, size)

        gr.on(
            [around.expand, frame.select],
            fill,
            [canvas, asking.model, asking.size],
            frame,
            trigger_mode="always_last",
            **QUIET,
        )
        return canvas

    def _compare_tab(self) -> None:
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                asking = self._asking(recipes=False)
                recipes = gr.Textbox(
                    "raster-N-uniform\nnext-scale\nrandom-8-cosine\nrandom-1-uniform",
                    label="Recipes",
                    info=f"One a line, up to {MOST_RECIPES}.",
                    lines=5,
                )
                button = gr.Button("Compare", variant="primary", elem_id="compare-button")
                stop = gr.Button("Stop")
            with gr.Column(scale=3, min_width=280):
                sheet = _shown_image("A row for each recipe", "sheet")
                words = _words("compare")

        def compare(
            request: gr.Request,
            recipes: str,
            model: str,
            class_name: str,
            prompt: str,
            negative_prompt: str,
            size: str,
            recipe: str,
            guidance: float | None = None,
            guidance_schedule: str | None = None,
            temperature: float | None = None,
            top_k: float | None = None,
            top_p: float | None = None,
            seed: float | None = None,
            count: float | None = None,
        ) -> Iterator[Any]:
            """One wish under several recipes, as a sheet; a row after the other."""
            said = (model, class_name, prompt, negative_prompt, "")
            filters = (temperature, top_k, top_p)
            wish = Wish(*said, guidance, guidance_schedule, *filters, seed, count)
            with self.running.of(str(request.session_hash)) as stop:
                yield from comparing.compare(self.shelf, self.desk, wish, recipes, size, stop)

        event = button.click(
            compare,
            [recipes, *asking],
            [sheet, words],
            api_name="compare",
            **TURNS,
        )
        stop.click(self._stop, None, words, cancels=[event], queue=False, **QUIET)

    def _inside_tab(self) -> None:
        model = self._models()
        with gr.Row():
            with gr.Column(min_width=280):
                recipe = gr.Textbox("", label="Recipe", info="Empty: the model's own.")
                size = gr.Textbox(
                    "", label="Size", info="Height x width in pixels; empty: its own."
                )
                seed = gr.Number(label="Seed", value=0)
                show = gr.Button("Show sets and masks", variant="primary", elem_id="masks-button")
                picture = upload(label="A picture", elem_id="inside-picture")
                through = gr.Button("Through the tokenizer and back", elem_id="tokenizer-button")
            with gr.Column(scale=2, min_width=280):
                plan = _shown_image("Order and sets", "inside-plan")
                sizes = gr.Textbox("", label="Sets", interactive=False)
                masks = _shown_image("Who sees whom", "masks")
                sheet = _shown_image("Coarse to fine, and the original", "reconstruction")
                words = gr.Textbox("", label="Quality", interactive=False, elem_id="inside-words")

        def show_sets(model: str, recipe: str, size: str, seed: float) -> Any:
            """Order, sets and masks of a picture."""
            drawn, text = inside.sets(self.shelf, model, recipe, size, seed)
            return drawn, text, inside.masks(self.shelf, model, recipe, size, seed)

        def reconstruct(model: str, picture: str, size: str) -> tuple[Image.Image, str]:
            """A picture through the tokenizer of a model and back, with its PSNR."""
            return inside.reconstructed(self.shelf, model, picture, size)

        show.click(show_sets, [model, recipe, size, seed], [plan, sizes, masks], api_name="masks")
        through.click(reconstruct, [model, picture, size], [sheet, words], api_name="reconstruct")


def _placeholders(pipe: Any) -> list[str]:
    """What the fields mean that are left empty: size, recipe, guidance and settings."""
    width, height = pipe.size
    guidance, settings = pipe.defaults.guidance, pipe.defaults.settings
    facts = (guidance.scale, settings.temperature, settings.top_k, settings.top_p)
    return [f"{height}x{width}", str(pipe.defaults.recipe), *(f"{fact:g}" for fact in facts)]


def _gallery(label: str, columns: int, elem_id: str) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        show_label=False,
        columns=columns,
        height="auto",
        format="png",
        object_fit="contain",
        interactive=False,
        elem_id=elem_id,
        buttons=[*BUTTONS],
    )


def _words(tab: str) -> gr.Textbox:
    """Where a tab says how far it is."""
    return gr.Textbox("", label="Progress", interactive=False, elem_id=f"{tab}-words")


def _animation() -> gr.Image:
    with gr.Accordion("How the sets appeared", open=False):
        return _shown_image("Animation", None, type="filepath", format="gif")


def _shown_image(label: str, elem_id: str | None, format: str = "png", **options: Any) -> gr.Image:
    """A picture to look at, with the buttons of `BUTTONS`."""
    return gr.Image(
        label=label,
        interactive=False,
        format=format,
        elem_id=elem_id,
        buttons=[*BUTTONS],
        **options,
    )


def _outputs(result: Result) -> tuple[Any, ...]:
    pictures: Sequence[Any] = [
        str(one) if isinstance(one, Path) else one for one in result.pictures
    ]
    files = [str(one) for one in result.pictures if isinstance(one, Path)]
    animation = None if result.animation is None else str(result.animation)
    return list(zip(pictures, result.captions, strict=True)), result.words, animation, files


def _to_edit(files: list[str], chosen: int) -> tuple[Any, Any]:
    """The chosen picture, large enough to paint on, and the tab where that is done."""
    if not files:
        raise ValueError("draw a picture first")
    picture = read_picture(files[min(int(chosen), len(files) - 1)])
    scale = max(1, -(-CANVAS // max(picture.size)))
    large = picture.resize(
        (picture.width * scale, picture.height * scale), Image.Resampling.NEAREST
    )
    return {"background": large, "layers": [], "composite": large}, gr.Tabs(selected="edit")
