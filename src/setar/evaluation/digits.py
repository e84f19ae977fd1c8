"""How good is a model of the embedded digits, besides the distance of its pictures?"""

from torch import Tensor

from setar.data import digits
from setar.evaluation.metrics import Evidence, register_metric
from setar.evaluation.summary import FeatureSummary, summarise


@register_metric("digits-read", heading="generator")
def digits_read(evidence: Evidence) -> dict[str, float]:
    """Are the digits those that were asked for, as a digit classifier reads them?

    Returns:
        ``class_accuracy``, the share of samples read as the digit asked for, and
        ``class_accuracy_real``, of the held-out digits read as what they are.
    """
    data, heldout = evidence.data, digits.load("heldout")
    if evidence.samples is None or evidence.extractor.name != "digits":
        return {}
    if data is None or data.classes != heldout.classes:
        return {}
    real = summarise(heldout.images, evidence.extractor)
    return {
        "class_accuracy": _accuracy(evidence.made, evidence.samples.labels),
        "class_accuracy_real": _accuracy(real, heldout.labels),
    }


def _accuracy(summary: FeatureSummary, labels: Tensor) -> float:
    if summary.predicted is None:
        raise ValueError(f"{summary.features} features come without a classifier of digits")
    return float((summary.predicted == labels).double().mean())
