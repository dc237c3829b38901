# jgrid on a GPU, with the toolkit that Jittor 1.3.11 is tested with (driver 535 or newer):
#   docker build -f docker/cuda.Dockerfile -t jgrid-cuda . \
#   && docker run --rm --gpus all --hostname jgrid -v jittor:/jgrid/.cache \
#      -v "$PWD/out:/jgrid/out" jgrid-cuda
FROM nvidia/cuda:12.2.2-cudnn8-devel-ubuntu22.04
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        g++ libopenmpi-dev openmpi-bin python3.11-dev python3.11-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3.11 -m venv /environment
ENV PATH=/environment/bin:$PATH
WORKDIR /jgrid
ENV HOME=/jgrid
COPY pyproject.toml setup.py README.md LICENSE ./
COPY jgrid jgrid
COPY apps apps
RUN pip install --no-cache-dir .
CMD ["python", "apps/fit_image.py", "--device", "cuda"]
