"""The paper's general grid model, g(x) = sum over i in U(x) of phi(x, theta_i) w_i."""
import jittor as jt
from jgrid.ops.gather import FUSED_CHANNELS, CollapsedGather, weighted_gather
from jittor import nn


class Grid(nn.Module):
    """g(x) = sum_{i in U(x)} phi(x, theta_i) w_i, linear in the features w (paper, section 3).

    index: U, gives nodes and offsets; kernel: phi; channels: C; concat: return each level's sum, (N, L C), for a decoder,
    instead of their total, (N, C); fused: compute by one op where the kernel has a collapsed form, else as the formula reads.
    The features start uniform in +-`scale`.
    """

    def __init__(self, index, kernel, channels, concat=False, fused=True, scale=1e-4):
        super().__init__()
        self.index, self.kernel, self.concat = index, kernel, concat
        self.w = (jt.rand((index.n_nodes, channels)) * 2.0 - 1.0) * scale
        self._fused = CollapsedGather(index, kernel.profile, kernel.octaves) if fused and channels <= FUSED_CHANNELS else None

    def execute(self, x):
        """x (N, D) in [0, 1], clamped -> (N, C), or (N, L C) with concat."""
        if self._fused:
            levels = self._fused(x, self.kernel.collapse(self.w))        # the same sum
        else:
            node, offset = self.index(x)                                 # U(x)
            phi = self.kernel(x, node, offset)                           # phi(x, theta_i)
            levels = weighted_gather(phi, self.w, node, self.index.n_levels)
        return levels.reshape(x.shape[0], -1) if self.concat else levels.sum(1)
