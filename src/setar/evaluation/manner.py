"""In which style is a picture drawn? A linear classifier of features tells.

The nearest real drawing tells what a picture shows rather than how: features for recognising things
pass over styles. So the classes are told apart by linear discriminant analysis with the shrinkage
of Ledoit and Wolf, which has nothing to set. Fit it to pictures that were made as those which it is
to judge, for a tokenizer smooths the styles away: to reconstructions.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

Classifier = Callable[[Tensor], Sequence[str]]
"""From features ``[n, d]`` to the style of each."""


def fit_styles(features: Tensor, styles: Sequence[str]) -> Classifier:
    """A classifier of styles, fitted to features ``[n, d]`` of pictures whose styles are known.

    Raises:
        ValueError: there is only one style, or not one for each picture.
        ImportError: scikit-learn is not installed.
    """
    if len(styles) != len(features) or len({*styles}) < 2:
        raise ValueError(
            f"a classifier of styles needs two and one for each picture: {len(features)} pictures "
            f"have {len(styles)} of {len({*styles})} kinds"
        )
    try:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    except ImportError as error:
        raise ImportError("styles are told by scikit-learn: pip install 'setar[eval]'") from error
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    fitted.fit(features.double().numpy(), [*styles])
    return lambda seen: [str(style) for style in fitted.predict(seen.double().numpy())]
