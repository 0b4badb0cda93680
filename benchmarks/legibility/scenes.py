"""Which screenshots there are: kinds that people send, with the text sizes that such pages have."""

from dataclasses import dataclass

from benchmarks.legibility.pages import Page

TESSERACT = {"en": "eng", "ja": "jpn", "ar": "ara", "ru": "rus+eng"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One screenshot."""

    name: str
    page: Page
    density: int
    """Pixels of the screenshot per CSS pixel."""
    quick: bool = False
    """Whether a quick run draws it."""

    @property
    def reader(self) -> str:
        """What tesseract calls the page's language."""
        return TESSERACT[self.page.language]

    @property
    def label(self) -> str:
        """The name with the size in pixels."""
        return f"{self.name}, {self.page.width * self.density}x{self.page.height * self.density}"


def _phone(
    name: str, *, height: int = 844, messages: int = 14, language: str = "en", theme: str = "light", quick: bool = False
) -> Scene:
    page = Page(template="chat", width=390, height=height, messages=messages, language=language, theme=theme)
    return Scene(name=name, page=page, density=3, quick=quick)


SCENES = (
    _phone("phone chat", quick=True),
    _phone("phone chat, dark", theme="dark"),
    _phone("short scrolling chat", height=1100, messages=20),
    _phone("scrolling chat", height=2667, messages=40, quick=True),
    _phone("long scrolling chat", height=5333, messages=80),
    Scene(
        name="phone mail, grey 11 px print",
        page=Page(template="mail", width=390, height=844, theme="phone print"),
        density=3,
    ),
    Scene(name="desktop mail", page=Page(template="mail", width=1440, height=900), density=1, quick=True),
    Scene(name="desktop mail @2x", page=Page(template="mail", width=1440, height=900), density=2),
    Scene(
        name="desktop scrolling mail",
        page=Page(template="mail", width=1440, height=4500, messages=9),
        density=1,
        quick=True,
    ),
    Scene(name="social feed", page=Page(template="feed", width=1920, height=1080), density=1, quick=True),
    Scene(name="4K page", page=Page(template="inbox", width=3840, height=2160), density=1, quick=True),
    Scene(name="two screens", page=Page(template="inbox", width=3840, height=1080), density=1),
    Scene(name="4K page @2x", page=Page(template="inbox", width=1920, height=1080), density=2),
    _phone("Japanese chat", language="ja", messages=13, quick=True),
    _phone("Arabic chat", language="ar", messages=13),
    Scene(name="Russian desktop mail", page=Page(template="mail", width=1440, height=900, language="ru"), density=1),
)
