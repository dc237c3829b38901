"""U(x): which nodes of a grid answer for a point."""
import itertools

import jittor as jt
import numpy as np

# Instant-NGP's primes (Mueller et al. 2022, eq. 4); the first is 1, so that neighbours along axis 0 stay neighbours
HASH_PRIMES = (1, 2654435761, 805459861)


def geometric_levels(coarsest, finest, levels):
    """Cells along an axis for each level, growing by a constant factor: round(coarsest (finest/coarsest)^(l/(L-1)))."""
    if levels == 1:
        return [int(finest)]
    growth = np.arange(levels) / (levels - 1)
    return [int(r) for r in np.round(coarsest * (finest / coarsest) ** growth)]


class GridIndex:
    """The corners of the cell that encloses x, at every level; levels with more nodes than a table holds are hashed.

    U(x) = { first_l + slot_l(floor(x R_l) + b) : l < L, b in {0,1}^D }, with slot_l row-major (axis 0 fastest) where the
    (R+1)^D nodes of level l fit into `table_size`, else (xor_d c_d prime_d mod 2^32) mod table_size.

    cells: (L, D) or (L,) cells along each axis; table_size: most nodes a level may own, None for no limit.
    Attributes: n_nodes (M), n_levels (L), dim (D), hashed (L,) bool.
    """

    def __init__(self, dim, cells, table_size=None):
        cells = np.asarray(cells, np.int64)
        if cells.ndim == 1:
            cells = np.repeat(cells[:, None], dim, axis=1)
        if dim not in (1, 2, 3) or cells.shape[1] != dim or cells.min() < 1:
            raise ValueError(f"a grid index wants dim 1, 2 or 3 and cells >= 1 of shape (L, dim), got dim {dim}, {cells.tolist()}")
        if table_size is not None and table_size < 1:
            raise ValueError(f"a grid's table wants a size of at least 1, got {table_size}")
        dense = np.prod(cells + 1, axis=1)
        size = dense if table_size is None else np.minimum(dense, table_size)
        if size.sum() >= 2**31:
            raise ValueError(f"a grid of {size.sum()} nodes does not fit into 32-bit indices; lower the resolution or table size")
        self.dim, self.cells, self.size, self.hashed = dim, cells, size, dense > size
        self.first = np.concatenate([[0], np.cumsum(size)[:-1]])
        self.n_levels, self.n_nodes = len(cells), int(size.sum())
        self._corners = np.array(list(itertools.product((0, 1), repeat=dim)), np.int64)[:, ::-1].copy()  # axis 0 fastest

    def __call__(self, x):
        """x (N, D) in [0, 1], clamped -> node (N, L 2^D) int32 and offset (N, L 2^D, D) = x - node position, in cells."""
        n, k = x.shape[0], self.n_levels * 2**self.dim
        x = jt.clamp(x, 0.0, 1.0)
        scaled = x.unsqueeze(1) * jt.array(self.cells.astype(np.float32))                 # (N, L, D)
        # the last cell is closed: x = 1 belongs to it
        cell = jt.minimum(jt.floor(scaled.detach()).int32(), jt.array((self.cells - 1).astype(np.int32)))
        corner = cell.unsqueeze(2) + jt.array(self._corners.astype(np.int32))              # (N, L, 2^D, D)
        offset = scaled.unsqueeze(2) - corner.float32()
        return self._slot(corner).reshape(n, k), offset.reshape(n, k, self.dim)

    def _slot(self, corner):
        """Integer corners (N, L, 2^D, D) -> rows of the table (N, L, 2^D)."""
        stride = np.cumprod(np.concatenate([np.ones_like(self.cells[:, :1]), self.cells[:, :-1] + 1], axis=1), axis=1)
        stride[self.hashed] = 0  # their row-major slots could overflow and are not used
        slot = (corner * jt.array(stride.astype(np.int32)).unsqueeze(1)).sum(-1)
        if self.hashed.any():
            # a 0-d or scalar int64 would be narrowed to 32 bits by Jittor, an array is not
            primes, mask = jt.array64(np.array(HASH_PRIMES[:self.dim])), jt.array64(np.array([0xFFFFFFFF]))
            wide = (corner.int64() * primes) & mask
            hashed = wide[..., 0]
            for axis in range(1, self.dim):
                hashed = hashed ^ wide[..., axis]
            hashed = (hashed % jt.array64(self.size).unsqueeze(-1)).int32()
            slot = jt.ternary(jt.array(self.hashed).unsqueeze(-1).broadcast(slot.shape), hashed, slot)
        return slot + jt.array(self.first.astype(np.int32)).unsqueeze(-1)

    def positions(self):
        """Where each node lies, (M, D) float32 in [0, 1]; a hashed slot serves many places and gets an arbitrary fixed one.

        Slots follow the R-sequence (Roberts 2018), which fills the cube evenly.
        """
        root = {1: 1.618033988749895, 2: 1.324717957244746, 3: 1.2207440846057596}[self.dim]
        parts = []
        for cells, size, hashed in zip(self.cells, self.size, self.hashed):
            if hashed:
                parts.append((0.5 + np.arange(size)[:, None] * root ** -np.arange(1.0, self.dim + 1)) % 1)
            else:
                axes = np.meshgrid(*(np.arange(c + 1) / c for c in cells[::-1]), indexing="ij")
                parts.append(np.stack([a.ravel() for a in axes[::-1]], axis=-1))
        return np.concatenate(parts).astype(np.float32)

    def level_of_nodes(self):
        """The level each node belongs to, (M,) int32."""
        return np.repeat(np.arange(self.n_levels, dtype=np.int32), self.size)
