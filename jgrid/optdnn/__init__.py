"""Networks from first-order optimisation methods: OptDNN.

    method = jgrid.optdnn.find_method("nesterov")
    print(jgrid.optdnn.analyse(method))              # what theory says, before any training
    network = jgrid.optdnn.optdnn_classifier(method, n_in=1, classes=10, side=28)

Replace every gradient of a method by a small trained module, and the method becomes an
architecture: gradient descent a ResNet, dual averaging a DenseNet."""

import importlib
from typing import Any

from jgrid.optdnn.methods import IMPLICIT, METHODS, Analysis, Method, Tableau, analyse, find_method
from jgrid.optdnn.network import OptDNN, coordinate_network

# Fields are made of methods and networks, so these come first; what trains or draws comes when it
# is asked for
_LATER = {
    "Classifier": "labels",
    "LabelTask": "labels",
    "load_classifier": "labels",
    "train_classifier": "labels",
    "Parity": "toys",
    "Rings": "toys",
    "Telgarsky": "toys",
    "train_copies": "toys",
    "dense_classifier": "classifier",
    "optdnn_classifier": "classifier",
    "ClassifierConfig": "classifier",
    "flow_errors": "flow",
    "gradient": "optimise",
    "iterates": "optimise",
    "minimise": "optimise",
    "soft_threshold": "optimise",
    "SparseProblems": "unrolled",
    "SparseTask": "unrolled",
    "Unrolled": "unrolled",
}

__all__ = [
    "Analysis",
    "IMPLICIT",
    "METHODS",
    "Method",
    "OptDNN",
    "Tableau",
    "analyse",
    "coordinate_network",
    "find_method",
    *_LATER,
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"jgrid.optdnn.{_LATER[name]}"), name)
    raise AttributeError(f"module 'jgrid.optdnn' has no attribute {name!r}")
