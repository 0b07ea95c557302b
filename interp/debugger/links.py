"""Where the page of a component is."""

from __future__ import annotations

from urllib.parse import quote, urlencode

# Kinds of nodes that have a page.
COMPONENTS = ("head", "pair", "neuron", "latent")


def link(model: str, address: str) -> str:
    """The page of a component.

    >>> link('ioi-mini', 'a2.6')
    '/component/a2.6?model=ioi-mini'
    """
    return f"/component/{quote(address)}?{urlencode({'model': model})}"
