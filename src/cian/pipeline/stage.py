"""What a stage is. Each stage is one object in a file of its own in `stages/`.

Stage files import no torch at the top, so that the command line can list the stages at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from cian.config import Config
    from cian.data.table import Table
    from cian.pipeline.context import Context, Plan

Role = Literal["seeds", "labels", "compared", "without CRF", "final"]


@dataclass(frozen=True)
class MaskFolder:
    """A folder in which a stage writes masks, FOLDER/ID.png, and how they are scored and shown.

    Attributes:
        folder: relative to the run directory.
        table: the images that get a mask.
        role: "seeds" (sparse labels) and "labels" (dense labels) are trained on; "compared" are the predictions of
            another network than the final one; "without CRF" and "final" are those of the final network.
        title: names the scores in metrics.json and in the report. None: the masks are not scored.
        about: one sentence for the table of scores.
        tags: whether the tags of an image limit the classes in its mask: "yes", "no", or another word. Empty: they do
            for training images only.
        caption: the words under the mask in the report. Empty: it is not shown.
        description: what a screen reader says about the mask.
    """

    folder: str
    table: Table
    role: Role
    title: str | None = None
    about: str = ""
    tags: str = ""
    caption: str = ""
    description: str = ""


class Stage:
    """A step of the pipeline.

    Attributes:
        name: the name of the stage on the command line, in stages.json and in messages.
        title: what people read in progress lines and in the report.
        settings: the settings that its result depends on: dotted keys, or sections.
        command: what `cian NAME` does, for the help. None: there is no such command.
        implies: the settings that its command sets, as `KEY=VALUE`.
        followed_by: the stage up to which its command runs. None: the stage itself is the last one.
        trains: whether it trains a network and logs the losses in its folder.
        dated: whether its files hold times, so that each run makes others.
        files: what its files and folders are, by their paths in the run directory, for the report.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()
    command: ClassVar[str | None] = None
    implies: ClassVar[tuple[str, ...]] = ()
    followed_by: ClassVar[str | None] = None
    trains: ClassVar[bool] = False
    dated: ClassVar[bool] = False
    files: ClassVar[Mapping[str, str]] = {}

    def wanted(self, plan: Plan) -> bool:
        """Whether a run with these settings and this data has the stage."""
        return True

    def needs(self, plan: Plan) -> tuple[str, ...]:
        """The names of the stages whose results it reads."""
        return ()

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        """Its files and folders in the run directory; a name with a suffix is a file. Before the stage is run again,
        folders are removed. Files are replaced when it is done."""
        raise NotImplementedError

    def weights(self, plan: Plan) -> tuple[str, ...]:
        """The files that must exist when the stage is done. What follows is run again if their content changes."""
        return ()

    def masks(self, plan: Plan) -> tuple[MaskFolder, ...]:
        """The masks that must exist when the stage is done."""
        return ()

    def inputs(self, plan: Plan) -> dict[str, Any]:
        """What its result depends on besides settings and other stages: fingerprints of images and files, by name."""
        return {}

    def check_settings(self, config: Config) -> None:
        """Finds settings that cannot work, before the data is read.

        Raises:
            CianError: with the setting and the cure.
        """

    def check(self, plan: Plan) -> None:
        """Finds data that the stage cannot work with, before any stage starts.

        Raises:
            CianError: with the file or the setting, and the cure.
        """

    def run(self, context: Context) -> None:
        """Does the work. What an interrupted run has written is kept and not made again."""
        raise NotImplementedError
