"""The fields that apps/diagnose.py ranks and chooses from, all without a decoder."""

from dataclasses import replace

from jgrid.field import DenseGridConfig, FourierGridConfig, HashGridConfig, RadialGridConfig
from jgrid.field.presets import LINEAR, NO_DECODER

MODELS = {
    "linear grid": LINEAR["grid:dense"],
    "hash grid": LINEAR["grid:hash"],
    "smooth grid": replace(LINEAR["grid:dense"], profile="smooth"),
    "FourierGrid": LINEAR["grid:fourier"],
    "radial kernels": LINEAR["grid:radial"],
    "MulFA, kernel frozen at its start (= a linear grid)": LINEAR["grid:mulfa"],
    "MulFA, the literal random kernel frozen": LINEAR["grid:mulfa-literal"],
}


def _linear(cells: int) -> DenseGridConfig:
    return DenseGridConfig(finest=cells, levels=1, decoder=NO_DECODER)


def _levels(levels: int, cells: int) -> DenseGridConfig:
    return DenseGridConfig(finest=cells, coarsest=10, levels=levels, decoder=NO_DECODER)


def _hash(table: int) -> HashGridConfig:
    return HashGridConfig(finest=120, coarsest=8, levels=6, table_size=table, decoder=NO_DECODER)


def _fourier(cells: int, octaves: int) -> FourierGridConfig:
    return FourierGridConfig(finest=cells, octaves=octaves, decoder=NO_DECODER)


def _radial(nodes: int) -> RadialGridConfig:
    return RadialGridConfig(nodes=nodes, decoder=NO_DECODER)


# what --choose chooses from
CANDIDATES = {
    "linear, 20 cells": _linear(20),
    "linear, 40 cells": _linear(40),
    "linear, 60 cells": _linear(60),
    "linear, 80 cells": _linear(80),
    "linear, 120 cells": _linear(120),
    "linear, 3 levels to 40 cells": _levels(3, 40),
    "linear, 4 levels to 80 cells": _levels(4, 80),
    "linear, 4 levels to 120 cells": _levels(4, 120),
    "hash, tables of 500": _hash(500),
    "hash, tables of 2000": _hash(2000),
    "FourierGrid, 20 cells, 1 octaves": _fourier(20, 1),
    "FourierGrid, 40 cells, 1 octaves": _fourier(40, 1),
    "FourierGrid, 20 cells, 3 octaves": _fourier(20, 3),
    "radial, 1000 nodes": _radial(1000),
    "radial, 4000 nodes": _radial(4000),
}
