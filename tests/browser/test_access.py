"""Every page by the rules of axe-core: nothing serious or critical, wide and narrow."""

from pathlib import Path

import pytest
from harness import visit

axe = pytest.importorskip("axe_playwright_python", reason="no axe-core: pages are not audited")
RULES = (Path(axe.__file__).parent / "axe.min.js").read_text("utf-8")
RUN = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.filter((v) => ["serious", "critical"].includes(v.impact))
    .map((v) => [v.id, v.nodes.length, v.nodes.slice(0, 3).map((n) => n.target.join(" "))]);
}"""


@pytest.mark.parametrize("look", [(1300, False), (390, True)], ids=["wide light", "phone dark"])
def test_axe_finds_nothing_serious(site, browser, path, look):
    width, dark = look
    with visit(browser, f"{site}/{path}", width=width, dark=dark) as (page, _):
        page.evaluate(RULES)
        found = page.evaluate(RUN)
    assert not found, f"{path} at {width} px: {found}"
