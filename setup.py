from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="jgrid",
    version="0.1.0",
    description=(
        "Grid-based neural fields on Jittor: MulFAGrid, grid tangent kernels, images, surfaces and"
        " scenes"
    ),
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["jgrid", "jgrid.*"]),
    package_data={"jgrid": ["published.csv"], "jgrid.ops": ["*.h"]},
    python_requires=">=3.9,<3.13",
    install_requires=[
        "jittor==1.3.11.0",
        "numpy>=1.21,<2",
        "pillow>=11",
        "tqdm",
        "trimesh",
        "libigl",
        "scikit-image",
        "scipy",
        "matplotlib",
        "scikit-learn",
        "tyro",
        "annotated-types",
        "typing-extensions",
        "safetensors",
        # the matrix products Jittor would otherwise fetch from the internet at its first import
        (
            'onednn-devel-cpu-gomp==2022.2.1; platform_system == "Linux" and platform_machine =='
            ' "x86_64"'
        ),
    ],
    extras_require={
        "plot": ["matplotlib"],
        "docs": ["pdoc"],
        "test": ["pytest", "hypothesis", "ruff", "pdoc", "coverage>=7.10"],
        # of versions of Python they are made for; the benchmarks report a missing peer as such
        "bench": [
            'torch==2.13.0; python_version >= "3.10"',
            'jax==0.7.1; python_version >= "3.11"',
        ],
    },
)
