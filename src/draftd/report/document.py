"""The document that reports extend: one HTML file that can be mailed or opened from an archive.

The only importer of Jinja2 for reports. Invariants: it holds no JavaScript and loads nothing; text from models, clients and
screenshots is escaped wherever it stands; a content security policy forbids scripts in case it were not.
"""

import functools

import jinja2


@functools.cache  # compiling its templates takes longer than any page
def environment(package: str) -> jinja2.Environment:
    """Return the environment for the templates of a package, which may extend ``document.html.j2``.

    Args:
        package: the package that holds them.
    """
    return jinja2.Environment(
        # Whatever the name of the template: what it shows was written by others.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, "."), jinja2.PackageLoader("draftd.report", ".")]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
