"""The paper's general grid model, g(x) = sum over i in U(x) of phi(x, theta_i) w_i."""
from jgrid.ops.gather import FUSED_CHANNELS, CollapsedGather, weighted_gather

import jittor as jt
from jittor import nn


class Grid(nn.Module):
    """g_h(x) = sum_{i in U(x)} phi_h(x, theta_i) w_i, linear in the features w (paper, section 3), for each of H kernels.

    index: U, gives nodes and offsets; kernel: phi; channels: C; concat: return the sums of each level and kernel,
    (N, L H C), for a decoder, instead of their total over the levels, (N, H C); fused: compute by one op, else as the
    formula reads. The features start uniform in +-`scale`.
    """

    def __init__(self, index, kernel, channels, concat=False, fused=True, scale=1e-4):
        super().__init__()
        if channels < 1:
            raise ValueError(f"a grid wants at least 1 channel, got {channels}")
        self.index, self.kernel, self.concat = index, kernel, concat
        self.w = (jt.rand((index.n_nodes, channels)) * 2.0 - 1.0) * scale
        fits = channels <= FUSED_CHANNELS
        self._fused = CollapsedGather(index, kernel.profile, kernel.octaves, kernel.heads) if fused and fits else None
        n_out = kernel.n_heads(index.dim) * channels
        self.n_out = n_out * index.n_levels if concat else n_out

    def execute(self, x):
        """x (N, D) in [0, 1], clamped -> (N, n_out)."""
        if self._fused:
            levels = self._fused(x, self.kernel.collapse(self.w))                        # the same sum, (N, L, H, C)
        else:
            node, offset = self.index(x)                                                 # U(x)
            phi = self.kernel(x, node, offset)                                           # phi(x, theta_i)
            levels = weighted_gather(phi, self.w, node, self.index.n_levels)             # sum of phi_i w_i
        return (levels if self.concat else levels.sum(1)).reshape(x.shape[0], self.n_out)
