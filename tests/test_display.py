"""What an object shows of itself: a few lines of text, a table in a notebook."""
from rdlib.utils.display import Shown


class Part(Shown):
    def summary(self):
        return {"name": "<b>&", "size": 0, "missing": None, "empty": ""}


def test_text_has_a_line_for_each_entry_that_has_a_value():
    assert repr(Part()) == "Part\n  name: <b>&\n  size: 0"


def test_html_is_escaped_and_leaves_out_the_same_entries():
    html = Part()._repr_html_()
    assert "&lt;b&gt;&amp;" in html and "<b>" not in html
    assert html.count("<tr>") == 2 and "missing" not in html
