"""Pages from templates: HTML files that open without a network or a server.

The templates escape every name. The content security policy of a page forbids loading anything, and running anything
but the script of this package, which it names by its hash.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from birdnet_fs import schema
from birdnet_fs.core.files import write_text
from birdnet_fs.core.settings import show
from birdnet_fs.core.text import escaped, escaped_lines

SCRIPT = "page.js"


def render(
    path: Path | str,
    template: str,
    *,
    title: str,
    experiment: schema.Experiment | None,
    versions: Mapping[str, Any] | None,
    **values: Any,
) -> None:
    """Write a page from a template.

    Args:
        path: The HTML file; replaced whole.
        template: File name in the folder `templates`.
        title: Title of the page.
        experiment: Settings to show; None for none.
        versions: Versions of the libraries; None for those in use.
        **values: Further variables of the template, escaped there.
    """
    import jinja2
    from markupsafe import Markup

    from birdnet_fs.runs.run import library_versions as versions_in_use

    page = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["percent"] = lambda value, digits=1: "–" if value is None else f"{100 * value:.{digits}f} %"
    page.filters["number"] = lambda value, digits=3: "–" if value is None else f"{value:.{digits}f}"
    script = _template_text(SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    settings = escaped_lines(show(experiment)).split("\n") if experiment else []
    html = page.get_template(template).render(
        title=escaped(title),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        settings=[line.partition("=")[::2] for line in settings],
        versions=versions if versions is not None else versions_in_use(),
        **values,
    )
    write_text(path, html.encode("utf-8", "backslashreplace").decode("utf-8"))


@functools.cache
def _template_text(name: str) -> str:
    return resources.files("birdnet_fs.reports.templates").joinpath(name).read_text("utf-8")
