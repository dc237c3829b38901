"""Networks that read the weights of fields: Navon et al., Equivariant Architectures for Learning in
Deep Weight Spaces (ICML 2023).

    zoo = jgrid.weightspace.fit_zoo(
        jgrid.weightspace.Sines(), 1000, jgrid.weightspace.FitConfig(), "out/zoo"
    )
    weights = jgrid.weightspace.zoo_weights(zoo, known=np.arange(900))
    network = jgrid.weightspace.DWSNet(zoo.space, n_out=2)
    print(network(weights.features(np.arange(900, 1000))).shape)

Neurons of a hidden layer may be permuted without a change of the function, so networks on weights
should not notice. Dimensions here: F fields, B fields of a batch, C features per weight; an axis of
a weight tensor is hidden (it has a name, and may be permuted) or free."""

from jgrid.weightspace.adapt import AdaptTask
from jgrid.weightspace.baselines import FlatMLP, align
from jgrid.weightspace.classifiers import Classifiers
from jgrid.weightspace.edit import ChangeConfig, EditTask
from jgrid.weightspace.fits import FitConfig
from jgrid.weightspace.foreign import load_foreign
from jgrid.weightspace.forward import Descent, ForwardReader, Probes
from jgrid.weightspace.grids import GridPictures
from jgrid.weightspace.layers import DWSNet, Equivariant, EquivariantLinear
from jgrid.weightspace.models import NetConfig
from jgrid.weightspace.signed import SignedDWSNet, SignedLinear
from jgrid.weightspace.space import WeightSpace, cnn_space, mlp_space
from jgrid.weightspace.study import StudyConfig, train_seeds
from jgrid.weightspace.subjects import Pictures, Sines, load_pictures, load_split
from jgrid.weightspace.symmetry import canonical
from jgrid.weightspace.tasks import EmbedTask, ForwardTask, ReadTask
from jgrid.weightspace.weights import ViewConfig, Weights, zoo_weights
from jgrid.weightspace.zoo import AbstractSubject, Zoo, fit_zoo

__all__ = [
    "AbstractSubject",
    "AdaptTask",
    "ChangeConfig",
    "Classifiers",
    "DWSNet",
    "Descent",
    "EditTask",
    "EmbedTask",
    "Equivariant",
    "EquivariantLinear",
    "FitConfig",
    "FlatMLP",
    "ForwardReader",
    "ForwardTask",
    "GridPictures",
    "NetConfig",
    "Pictures",
    "Probes",
    "ReadTask",
    "SignedDWSNet",
    "SignedLinear",
    "Sines",
    "StudyConfig",
    "ViewConfig",
    "WeightSpace",
    "Weights",
    "Zoo",
    "align",
    "canonical",
    "cnn_space",
    "fit_zoo",
    "load_foreign",
    "load_pictures",
    "load_split",
    "mlp_space",
    "train_seeds",
    "zoo_weights",
]
