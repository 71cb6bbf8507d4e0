"""Help in a real browser: the chapter of the open tab, with its pictures, styled, and without another address."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser import Site, Watched, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.mark.parametrize("width", [1440, 390])
def test_help_opens_the_chapter_of_the_open_tab(site: Site, visit: Callable[..., Watched], width: int) -> None:
    page = visit("?tab=data", viewport={"width": width, "height": 900}).page
    until(lambda: (page.get_attribute("#help-link", "href") or "").endswith("/help/guide/data.md"))
    page.click("#tab-models")
    until(lambda: (page.get_attribute("#help-link", "href") or "").endswith("/help/guide/checkpoints.md"))
    with page.context.expect_page() as opened:
        page.click("#help-link")
    chapter = opened.value
    watched = Watched(chapter, site.address)
    chapter.reload()
    chapter.wait_for_load_state("load")
    assert chapter.inner_text("h1") == "Checkpoints"
    assert chapter.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert chapter.evaluate("document.documentElement.scrollWidth") <= width
    assert chapter.evaluate("getComputedStyle(document.querySelector('main')).backgroundColor") != "rgba(0, 0, 0, 0)"
    chapter.click("nav >> text=Ghost experts")
    until(lambda: chapter.inner_text("h1") == "Ghost experts")
    assert chapter.get_attribute("nav [aria-current=page]", "href")
    assert watched.wrong == []
