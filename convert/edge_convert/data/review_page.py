"""The gallery of suspected label errors: one HTML file that stands alone, its pictures inside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from edge.dataset import Dataset
from edge.preprocess import decode
from edge_convert.data.review import Doubt
from edge_convert.report.inline import Jpeg, css_variables, jpeg

TEMPLATE = "review.html.j2"
THUMBNAIL_PX = 224


def render_page(dataset: Dataset, doubts: Sequence[Doubt], *, shown: int, beside: Path) -> str:
    """The page. shown: how many of the suspected pictures it holds. beside: the folder that it is written to."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        # Names and labels come from a data set: they are text, never markup.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    suspected = [doubt for doubt in doubts if doubt.suspected]
    places = {sample.name: sample.path for sample in dataset.samples}
    return environment.get_template(TEMPLATE).render(
        dataset=dataset,
        total=len(doubts),
        suspected=len(suspected),
        shown=[
            (doubt, _thumbnail(places[doubt.name]), _link(places[doubt.name], beside)) for doubt in suspected[:shown]
        ],
        by_day=css_variables(night=False),
        by_night=css_variables(night=True),
    )


def _thumbnail(path: Path) -> Jpeg:
    picture = decode(path.read_bytes(), wide_range="stretch")
    return jpeg(picture, min(1.0, THUMBNAIL_PX / max(picture.shape[:2])))


def _link(path: Path, beside: Path) -> str:
    """The picture's address as seen from the page."""
    return quote(Path(os.path.relpath(path.resolve(), beside.resolve())).as_posix())
