"""The screenshots of cases, as the judge sees them and as the report shows them.

Both go through the same gate and decoder as in a request, so that the judge sees what the model saw.
"""

import asyncio
from contextlib import AsyncExitStack

from draftd.daemon.parts import image_loader
from draftd.errors import RequestError
from draftd.evals.cases import Case
from draftd.images import Picture
from draftd.reply.prompts import PicturePart
from draftd.settings import Settings

REPORT_EDGE_PX = 900
"""Long edge in the report: legible on a phone, and a hundred cases take 10 MB."""
_TIME_S = 60.0


class CasePictures:
    """Prepares the screenshots of cases.

    Args:
        settings: limits of pictures.
    """

    def __init__(self, settings: Settings) -> None:
        # Nothing is fetched: the pictures are files.
        settings = settings.model_copy(update={"allow_private_image_hosts": ()})
        self._as_sent = image_loader(settings)
        self._small = image_loader(settings.model_copy(update={"image_long_edge_px": REPORT_EDGE_PX}))

    async def for_judge(self, case: Case) -> list[PicturePart]:
        """Return the parts of a case's screenshots as models get them.

        Raises:
            RequestError: a picture cannot be used.
        """
        return await self._parts(case, small=False)

    async def for_report(self, case: Case) -> list[str]:
        """Return a case's screenshots as small ``data:`` URLs; empty if they cannot be shown."""
        try:
            return [part["image_url"]["url"] for part in await self._parts(case, small=True)]
        except RequestError:
            return []

    async def aclose(self) -> None:
        """Close the loaders."""
        await self._as_sent.aclose()
        await self._small.aclose()

    async def _parts(self, case: Case, *, small: bool) -> list[PicturePart]:
        loader = self._small if small else self._as_sent
        async with AsyncExitStack() as reservations:
            pictures = await loader.load(case.image_urls(), reservations=reservations, time_s=_TIME_S)
            return await asyncio.to_thread(_encoded, pictures)


def _encoded(pictures: list[Picture]) -> list[PicturePart]:
    return [PicturePart(part.data) for picture in pictures if picture.repeats is None for part in picture.parts]
