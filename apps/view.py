"""Look at what an app fitted, in the browser.

python apps/view.py out/fit_views-knot-grid-mulfa
python apps/view.py out/fit_sdf-gyroid-grid-mulfa/model.safetensors --port 9000
"""

from pathlib import Path
from typing import Annotated

from jgrid import cli
from jgrid.browser import Page, serve, show
from jgrid.config import config
from jgrid.run import model_of

import tyro
from annotated_types import Interval


@config
class Config:
    """Look at a scene, a surface or a picture that an app fitted, in the browser. Ctrl-C ends
    it."""

    run: tyro.conf.Positional[Path]
    """A folder that fit_image, fit_sdf or fit_views left, or its model.safetensors."""
    port: Annotated[int, Interval(ge=1, le=65535)] = 8080
    """Where the page is."""
    host: str = "127.0.0.1"
    """Whose browsers may see it: of this machine alone; or, 0.0.0.0, all that reach it."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""


def main(config: Config) -> None:
    """Run the app, until a signal ends it."""
    with cli.user_errors(config):
        cli.start(config.device, seed=0)
        model = model_of(config.run)
        page = Page(config.host, config.port)
    try:
        with cli.user_errors(config):
            canvas = show(page, model)
        print(f"{model.parent} is at {page.url}; Ctrl-C ends it", flush=True)
        serve(page, canvas)
    except KeyboardInterrupt:
        pass
    finally:
        page.close()


if __name__ == "__main__":
    cli.run(Config, main)
