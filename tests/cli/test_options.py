"""Options that several commands share."""

import inspect
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from setar.cli import options
from setar.sampling.guidance import GUIDANCE


@pytest.fixture
def called():
    """Runs a small command and returns what it got, or the exit code."""
    app = typer.Typer()

    @app.command()
    @options.with_sampling
    def draw(
        model: Annotated[str, typer.Argument()],
        count: int = 3,
        sampling: options.Sampling = options.AS_TRAINED,
        device: options.DeviceOption = "cpu",
    ) -> None:
        """Draws."""
        got.append((model, count, dict(sampling), device))

    got = []

    def call(*words):
        result = CliRunner().invoke(app, list(words))
        return got.pop() if result.exit_code == 0 and got else result

    return call


def test_nothing_given_is_as_trained(called):
    assert called("m") == ("m", 3, {}, "cpu")


def test_the_help_names_all_guidance_schedules():
    schedule = inspect.signature(options._sampling).parameters["schedule"].annotation
    own = [name for name in GUIDANCE if not GUIDANCE.plugin_of(name)]  # tests load plugins too
    assert own
    assert all(name in schedule.__metadata__[0].help for name in own)


def test_given_options_have_the_names_of_the_settings(called):
    words = "m --count 5 --recipe ar --guidance 2 --schedule linear --temperature 0.5 --top-k 3"
    words += " --top-p 0.9 --min-p 0.1 --attention full --no-smoothing --device cuda"
    model, count, sampling, device = called(*words.split())
    assert (model, count, device) == ("m", 5, "cuda")
    assert sampling == {
        "recipe": "ar", "scale": 2.0, "schedule": "linear", "temperature": 0.5, "top_k": 3,
        "top_p": 0.9, "min_p": 0.1, "attention": "full", "smoothing": False,
    }  # fmt: skip


def test_values_are_typed_and_the_rest_is_refused(called):
    assert called("m", "--top-k", "many").exit_code == 2
    assert called("m", "--sampling", "x").exit_code == 2


def test_they_stand_in_the_help_where_the_parameter_was(called):
    shown = called("--help").output
    places = [shown.index(f"--{name}") for name in ("count", "recipe", "smoothing", "device")]
    assert places == sorted(places)
    assert "Draws." in shown
