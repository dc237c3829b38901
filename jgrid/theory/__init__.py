"""What can be said of a field without training it: tangent kernels, predicted training, bounds,
spectra.

    task = jgrid.ImageTask(jgrid.load_image("photo.jpg"))
    prediction = jgrid.theory.predict(task, jgrid.theory.LINEAR["grid:hash"], steps=2000)
    print(prediction.psnr[-1], prediction.lr)

Everywhere the loss is 1/2 sum of squares over points, for each channel apart, w moves by -lr times
its gradient, and arrays are numpy's float64. G = Phi Phi^T is the grid tangent kernel (GTK): for a
grid that is linear in its features, exact and constant."""

from jgrid.field.presets import LINEAR
from jgrid.theory.bounds import Complexity, bound, complexity
from jgrid.theory.diagnosis import Prediction, predict, predict_adam, train
from jgrid.theory.dynamics import (
    AdamForecast,
    Forecast,
    gradient_descent,
    predicted_outputs,
)
from jgrid.theory.kernels import composed_ntk, empirical_ntk, gtk, kernel_regression

__all__ = [
    "AdamForecast",
    "Complexity",
    "Forecast",
    "LINEAR",
    "Prediction",
    "bound",
    "complexity",
    "composed_ntk",
    "empirical_ntk",
    "gradient_descent",
    "gtk",
    "kernel_regression",
    "predict",
    "predict_adam",
    "predicted_outputs",
    "train",
]
