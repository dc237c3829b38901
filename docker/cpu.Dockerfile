# jgrid on the CPU:
#   docker build -f docker/cpu.Dockerfile -t jgrid . \
#   && docker run --rm --hostname jgrid -v jittor:/jgrid/.cache -v "$PWD/out:/jgrid/out" jgrid
# Jittor compiles at the first run, into a folder named after the host: with a name and a volume it
# is kept.
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /jgrid
ENV HOME=/jgrid
COPY pyproject.toml setup.py README.md LICENSE ./
COPY jgrid jgrid
COPY apps apps
RUN pip install --no-cache-dir .
CMD ["python", "apps/fit_image.py"]
