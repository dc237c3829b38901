"""What can be said of a field without training it: tangent kernels, predicted training, bounds,
spectra.

Everywhere the loss is 1/2 sum of squares over points, for each channel apart, w moves by -lr times
its gradient, and arrays are numpy's float64. G = Phi Phi^T is the grid tangent kernel (GTK): for a
grid that is linear in its features, exact and constant."""
