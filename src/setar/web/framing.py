"""A frame for outpainting: a picture in what will be the result, with edges that can be dragged.

What lies between the picture and the frame is made anew, and shown under stripes. The picture keeps
its proportions in the middle of what the margins leave, as `setar.pictures.masks.outpaint` has it;
so nothing needs to be computed while somebody drags.
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from setar.web.editing import SIDES, framed
from setar.web.limits import MOST_AROUND

TEMPLATE = (
    '<div class="whole"><div class="kept"><img alt="The picture that is kept" hidden></div>'
    + "".join(
        f'<div class="edge {side}" data-side="{at}" role="slider" tabindex="0" '
        f'aria-label="Edge at the {side}" aria-valuemin="0" aria-valuemax="{MOST_AROUND}" '
        f'aria-orientation="{("horizontal", "vertical")[at % 2]}"></div>'
        for at, side in enumerate(SIDES)
    )
    + "</div>"
)

STYLE = """
.whole { position: relative; max-width: 320px; margin: 16px auto;
  background: repeating-linear-gradient(135deg, #b9b9b9 0 10px, #e1e1e1 10px 20px); }
.kept { position: absolute; }
.kept img { width: 100%; height: 100%; object-fit: contain; }
.edge { position: absolute; touch-action: none; }
.edge::after { content: ""; position: absolute; border-radius: 3px; background: #2563eb;
  box-shadow: 0 0 0 1px #fff; }
.left, .right { width: 28px; cursor: ew-resize; }
.left::after, .right::after { inset: 0 12px; }
.top, .bottom { height: 28px; cursor: ns-resize; }
.top::after, .bottom::after { inset: 12px 0; }
.left { transform: translateX(-14px); }
.right { transform: translateX(14px); }
.top { transform: translateY(-14px); }
.bottom { transform: translateY(14px); }
.edge:focus-visible { outline: 3px solid #2563eb; outline-offset: -6px; border-radius: 8px; }
"""

SCRIPT = """
const whole = element.querySelector(".whole"), kept = element.querySelector(".kept");
const image = element.querySelector("img"), edges = [...element.querySelectorAll(".edge")];
const names = SIDES;
let margins = [0, 0, 0, 0];

function draw() {
  const places = margins.map((margin) => margin + "%");
  names.forEach((name, at) => {
    kept.style[name] = places[at];
    for (const side of [at, (at + 1) % 4, (at + 3) % 4]) edges[side].style[name] = places[at];
    edges[at].setAttribute("aria-valuenow", margins[at]);
    edges[at].setAttribute("aria-valuetext", `${margins[at]} percent made at the ${name}`);
  });
}

function show() {
  const value = props.value;
  margins = [...(value.margins || margins)];
  whole.style.aspectRatio = value.width / value.height;
  image.hidden = !value.picture;
  if (value.picture && image.src !== value.picture) image.src = value.picture;
  draw();
}

function move(at, margin) {
  const most = MOST_AROUND - margins[(at + 2) % 4];
  margins[at] = Math.max(0, Math.min(most, Math.round(margin)));
  draw();
}

function tell() {
  props.value = { ...props.value, margins: [...margins] };
  trigger("input");
}

edges.forEach((edge, at) => {
  const along = at % 2 ? "y" : "x";
  const outward = at < 2 ? 1 : -1;  // of a larger margin, along the axis
  edge.addEventListener("pointerdown", (event) => {
    edge.setPointerCapture(event.pointerId);
    event.preventDefault();
    edge.focus();
  });
  edge.addEventListener("pointermove", (event) => {
    if (!edge.hasPointerCapture(event.pointerId)) return;
    const box = whole.getBoundingClientRect();
    const share = along === "x" ? (event.clientX - box.left) / box.width
                                : (event.clientY - box.top) / box.height;
    move(at, 100 * (at < 2 ? share : 1 - share));
  });
  edge.addEventListener("lostpointercapture", tell);
  edge.addEventListener("keydown", (event) => {
    const arrows = { ArrowRight: ["x", 1], ArrowLeft: ["x", -1],
                     ArrowDown: ["y", 1], ArrowUp: ["y", -1] };
    const [axis, step] = arrows[event.key] || [];
    if (event.key === "Home") move(at, 0);
    else if (event.key === "End") move(at, 100);
    else if (axis === along) move(at, margins[at] + step * outward * (event.shiftKey ? 10 : 1));
    else return;
    event.preventDefault();
    tell();
  });
});
// The painting's own events come before it can be asked for, so it is asked for when it matters.
for (const kind of ["pointerenter", "focusin"]) {
  element.addEventListener(kind, () => trigger("select"));
}
watch("value", show);
show();
""".replace("MOST_AROUND", str(MOST_AROUND)).replace("SIDES", str(list(SIDES)))


def framing(margins: Sequence[gr.Slider], **options: Any) -> gr.HTML:
    """A frame and sliders of its margins at the left, top, right and bottom, which follow each
    other.

    Its value is of `setar.web.editing.framed`; whenever somebody turns to it, its event ``select``
    asks for a new one.
    """
    frame = gr.HTML(
        framed(None, (1, 1)),
        html_template=TEMPLATE,
        css_template=STYLE,
        js_on_load=SCRIPT,
        apply_default_css=False,
        **options,
    )
    here: dict[str, Any] = {"fn": None, "queue": False, "show_progress": "hidden"}
    frame.input(inputs=[frame], outputs=[*margins], js="(frame) => frame.margins", **here)
    gr.on(
        [margin.change for margin in margins],
        inputs=[frame, *margins],
        outputs=[frame],
        js="(frame, ...margins) => ({...frame, margins})",
        **here,
    )
    return frame
