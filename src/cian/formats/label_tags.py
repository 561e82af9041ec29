"""Tags from formats of shapes and label maps: the classes of an image's objects, and the tags that it has besides."""

from __future__ import annotations

from collections.abc import Sequence

from cian.formats.annotations import Given, LabelFormat
from cian.formats.format import Format, Request, TagRow, TagSource


def tags_of(form: LabelFormat) -> Format:
    """The format of tags that a format of labels makes."""

    def recognises(request: Request) -> bool:
        return not request.images_alone and form.recognises(request.tree)

    def read(request: Request) -> TagSource:
        request.refuse_split_column(request.path, form.description)
        assert form.read is not None
        found = form.read(request.tree, Given(request.problems))  # without sizes: nothing is drawn
        rows = (TagRow(0, image.image, image.classes(), image.split) for image in found.images)
        return TagSource(request.path, found.saw, rows, merge=True, files=[request.path], splits=found.splits)

    return Format(form.description, recognises, read)


def tags_of_archives(forms: Sequence[LabelFormat]) -> Format:
    """The format of tags that all formats of labels make of archives."""
    readable = [tags_of(form) for form in forms if form.read is not None]

    def of(request: Request) -> Format | None:
        return next((form for form in readable if form.recognises(request)), None)

    def read(request: Request) -> TagSource:
        form = of(request)
        assert form is not None
        return form.read(request)

    return Format(
        "a zip archive of annotations",
        lambda request: not request.images_alone and request.tree.is_archive and of(request) is not None,
        read,
    )
