"""Show an object in a few lines: as text, and as a small table in a notebook."""
from html import escape


class Shown:
    """A mixin that shows an object by its `summary`."""

    def summary(self) -> dict[str, object]:
        """Return what to show, by name, in order; entries that are None or "" are left out."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return type(self).__name__ + "".join(f"\n  {name}: {value}" for name, value in self._shown())

    def _repr_html_(self) -> str:
        rows = (f'<tr><th style="text-align: left">{escape(name)}</th>'
                f'<td style="text-align: left">{escape(value)}</td></tr>' for name, value in self._shown())
        return f"<table><caption>{type(self).__name__}</caption>{''.join(rows)}</table>"

    def _shown(self) -> list[tuple[str, str]]:
        return [(name, str(value)) for name, value in self.summary().items() if value not in (None, "")]
